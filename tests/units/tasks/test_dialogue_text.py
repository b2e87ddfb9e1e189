"""Dialogues from the files that people have, and what is said of one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuyan.errors import DataError
from yuyan.tasks.dialogue_text import Dialogue, Layout, layout_of, read_dialogues
from yuyan.text import DataConfig
from yuyan.text.survey import survey

TWO = [
    [("user", "hi, who?"), ("assistant", "me")],
    [("user", "你好"), ("assistant", "嗨"), ("user", "再见"), ("assistant", "好")],
]


def read(path: Path, given: Layout | None = None, **data: object) -> tuple[Layout, list[Dialogue]]:
    config = DataConfig(sources=(path,), **data)  # type: ignore[arg-type]
    files = survey([path], config.encoding)
    layout = layout_of(files, config, given or Layout())
    return layout, list(read_dialogues(files, config, layout))


def plain(found: list[Dialogue]) -> list[list[tuple[str, str]]]:
    return [[tuple(message) for message in dialogue.messages] for dialogue in found]  # type: ignore[misc]


def lines(rows: list[object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


SHARE = {"user": "human", "assistant": "gpt"}
FORMS = {
    "messages": ("a.jsonl", lines([{"messages": [{"role": r, "content": c} for r, c in d]} for d in TWO])),
    "sharegpt": ("a.jsonl", lines([{"id": "7", "conversations": [{"from": SHARE[r], "value": c} for r, c in d]} for d in TWO])),
    "alpaca": ("a.json", json.dumps([
        {"instruction": "hi,", "input": "who?", "output": "me"},
        {"instruction": "再见", "input": "", "output": "好", "history": [["你好", "嗨"]]},
    ])),
    "pairs": ("a.csv", 'Question,Answer\n"hi, who?",me\n你好,嗨\n'),
    "dialogues": ("a.yml", "categories:\n- x\nconversations:\n- - hi, who?\n  - me\n- - 你好\n  - 嗨\n  - 再见\n  - 好\n"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["utf-8", "gb18030", "utf-8-sig", "crlf"])
def test_forms(tmp_path: Path, form: str, how: str) -> None:
    name, content = FORMS[form]
    path = tmp_path / name
    path.write_bytes(content.replace("\n", "\r\n").encode() if how == "crlf" else content.encode(how))
    layout, found = read(path)
    assert layout.form == form
    wanted = [TWO[0], TWO[1][:2]] if form == "pairs" else TWO
    if form == "alpaca":
        wanted = [[("user", "hi,\nwho?"), ("assistant", "me")], TWO[1]]
    assert plain(found) == wanted


def test_parts_of_a_message_and_a_system_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    path.write_text(
        lines(
            [
                {
                    "system": "be kind",
                    "messages": [{"role": "user", "content": parts}, {"role": "model", "content": "ok"}],
                }
            ]
        )
    )
    _, found = read(path)
    assert plain(found) == [[("system", "be kind"), ("user", "one two"), ("assistant", "ok")]]
    assert found[0].group == "one two" and found[0].where == "a.jsonl:1"


def talk(*said: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


GOOD = talk(("user", "a"), ("assistant", "b"))
BAD = {
    r"message 2 is the user's, where one of the assistant was expected: they alternate; task\.joins=true": talk(("user", "a"), ("user", "b")),
    r"message 1 is the assistant's, where the user begins": talk(("assistant", "a"), ("user", "b")),
    r"message 3 is the system's, where one of the user": talk(("user", "a"), ("assistant", "b"), ("system", "c")),
    r"message 2: unknown role 'tool'; there are system, user and assistant": talk(("user", "a"), ("tool", "b")),
    r"message 2 \(assistant\) is empty": talk(("user", "a"), ("assistant", " \n")),
    r"no answer of the assistant in this dialogue: there is nothing to learn": talk(("user", "a")),
    r"no message in this dialogue": {"messages": []},
    r"message 1 is a number, not text": talk(("user", 3), ("assistant", "b")),
    r"message 1 holds 'image_url'; only texts": talk(("user", [{"type": "image_url"}]), ("assistant", "b")),
    r"message 1: character 2 is half of a pair": talk(("user", "a\ud83d"), ("assistant", "b")),
    r"message 1 has no 'content'; it has: role, text": {"messages": [{"role": "user", "text": "a"}]},
    r"message 2 has 'tool_calls': calls of tools": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [1]}]},
    r"message 1 has a weight of 0": {"messages": [{"role": "user", "content": "a", "weight": 0}]},
    r"'messages' is a text, not a list of messages": {"messages": "a"},
    r"no 'messages' in this record; it has: text": {"text": "a"},
    r"message 1 is a text, where an object": {"messages": ["a"]},
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_a_bad_dialogue_is_named_by_file_and_line(tmp_path: Path, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (GOOD, BAD[said], GOOD)))
    with pytest.raises(DataError, match=rf"^a\.jsonl:2: {said}.*data\.skip_bad_records=true"):
        read(path)
    assert len(read(path, skip_bad_records=True)[1]) == 2


def test_messages_of_one_speaker_can_be_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines([talk(("user", "a"), ("user", "b"), ("assistant", "c"))]))
    assert plain(read(path, Layout(joins=True))[1]) == [[("user", "a\nb"), ("assistant", "c")]]


FILES = {
    r"a\.csv: no dialogue here: expected messages.*it has: title, body": ("a.csv", "title,body\nx,y\n"),
    r"a\.csv: no column 'anser'; did you mean 'answer'.*\(task\.answer\)": ("a.csv", "question,answer\nx,y\n"),
    r"a\.txt: plain text does not say who speaks": ("a.txt", "hello\n"),
    r"a\.yml:3: a dialogue is a list of texts, and this is one text": ("a.yml", "conversations:\n- [a, b]\n- c\n"),
    r"a\.yml:2: a turn is a text; put it in quotation marks": ("a.yml", "conversations:\n- - a: b\n  - c\n"),
    r"a\.yml:4: not YAML: ": ("a.yml", "conversations:\n- [a, b]\n- [c\n"),
    r"a\.yml: no 'conversations'; it has: talks": ("a.yml", "talks:\n- [a, b]\n"),
    r"a\.yml: 'conversations' is there twice": ("a.yml", "conversations:\n- [a, b]\nconversations:\n- [c, d]\n"),
    r"a\.yml: not YAML: ": ("a.yml", "[" * 100_000),
    r"a\.jsonl:1: broken JSON: the key 'content' is there twice": ("a.jsonl", '{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n'),
    r"a\.jsonl:1: broken JSON at column \d+: it ends too early": ("a.jsonl", '{"messages": [{"role": "us'),
    r"a\.jsonl:1: JSON nested too deeply": ("a.jsonl", '{"messages": ' + "[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("said", FILES)
def test_a_bad_file_is_named(tmp_path: Path, said: str) -> None:
    name, content = FILES[said]
    (tmp_path / name).write_text(content)
    given = (
        Layout(question="question", answer="anser")
        if "anser" in said
        else Layout("messages")
        if "jsonl" in name
        else Layout()
    )
    with pytest.raises(DataError, match=said):
        read(tmp_path / name, given)

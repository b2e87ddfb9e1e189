"""From a file of dialogues to a conversation, by the commands alone; the same answers everywhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import toy_tasks
from toy_runs import command

import yuyan
from yuyan.commands.run import open_run
from yuyan.errors import InputError

ASKED = {"hello": "good day", "who are you?": "a machine", "你好": "嗨，你好", "你是谁？": "一台机器"}
THEN = ("and you?", "I am fine", "你呢？", "我很好")


def dialogues() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for asked, answer in ASKED.items():
        chinese = asked[0] >= "\u4e00"
        turns = (asked, answer, *(THEN[2:] if chinese else THEN[:2]))
        for count in (2, 4):
            said = [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns[:count])]
            found.append({"messages": said})
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    data = toy_tasks.write_jsonl(folder / "talk.jsonl", dialogues())
    path = folder / "run.yaml"
    path.write_text(
        f"name: talk\ndata: {{sources: [{data}], validation: [{data}]}}\ntokenizer: {{kind: char}}\n"
        "model: {kind: gpt, hidden_size: 32, num_layers: 2, num_heads: 2, dropout: 0.0}\n"
        "task: {kind: converse, generate: {temperature: 0}}\n"
        "train: {steps: 100, context: 96, batch_tokens: 800, threads: 1, optimizer: {kind: adamw, lr: 1.0e-2}}\n"
        "evaluate: {every: 50}\n",
        encoding="utf-8",
    )
    assert command("train", str(path), "--out", str(folder / "run")) == 0
    return folder / "run"


def piped(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    content = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def test_what_was_found_is_in_the_config_and_resuming_takes_it_up(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = open_run(run).task
    assert (task.form, task.template, task.learn) == ("messages", "chatml", "all")  # type: ignore[union-attr]
    assert command("train", str(run.parent / "run.yaml"), "--out", str(run), "--resume") == 0
    err = capfd.readouterr().err
    assert f"yuyan chat {run}" in err and "bits/byte of answers" in err
    assert (run / "model" / "chat_template.jinja").is_file()
    assert "每字节比特数" in (run / "report.html").read_text(encoding="utf-8")


def test_a_conversation_through_a_pipe(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, "\ufeffhello\nand you?\n\n你是谁？\r\n你呢？\n")
    assert command("chat", str(run)) == 0
    assert capfd.readouterr().out.split("\n") == ["good day", "I am fine", "一台机器", "我很好", ""]
    piped(monkeypatch, "你好\n")
    assert command("chat", str(run), "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"role": "assistant", "content": "嗨，你好"}
    piped(monkeypatch, b"hello\n\xff\n")
    assert command("chat", str(run)) == 2
    assert "standard input: line 2 is not UTF-8 at byte 1" in capfd.readouterr().err


def test_python_predict_and_files_say_the_same(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = yuyan.load(run)
    said = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "good day"},
        {"role": "user", "content": "and you?"},
    ]
    assert model.chat(said) == "I am fine" and model.predict("你好").text == "嗨，你好"
    path = toy_tasks.write_jsonl(run.parent / "asked.jsonl", [{"messages": said}, {"messages": said[:2]}])
    capfd.readouterr()
    assert command("predict", str(run), str(path)) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert rows == [
        {"messages": said, "answer": "I am fine", "unfinished": False},
        {"messages": said[:1], "answer": "good day", "unfinished": False},
    ]
    table = run.parent / "asked.csv"
    table.write_text("question\nwho are you?\n")
    assert command("predict", str(run), str(table)) == 0
    assert json.loads(capfd.readouterr().out)["answer"] == "a machine"


def test_evaluate_and_the_mask(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    new = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "嗨"}]
    path = toy_tasks.write_jsonl(run.parent / "share.jsonl", [{"conversations": new}])
    assert command("evaluate", str(run), str(path), "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["answer_bits_per_byte"] > 1 and found["tokens"] == 2
    assert command("evaluate", str(run), str(run.parent / "talk.jsonl")) == 0
    assert "8 of 8 texts (100.0 %) stand in the training data" in capfd.readouterr().err
    assert command("data", str(path), "--mask", str(run)) == 0
    out = capfd.readouterr().out
    assert "[嗨] [<|im_end|>] " in out and out.count("[") == 2 and "h e l l o <|im_end|>" in out


def test_a_terminal(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = iter(
        [
            "hello",
            "and you?",
            f"/save {tmp_path / 'a.jsonl'}",
            "/what",
            "/reset",
            "/save",
            "你好",
            "x " * 90,
            "/help",
            "/quit",
        ]
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert command("chat", str(run)) == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == ["good day", "I am fine", "嗨，你好"]
    assert "/what is no command" in err and "name a file" in err and "a new conversation" in err and "/save FILE" in err
    assert "the model reads at most 96" in err
    (saved,) = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [message["content"] for message in saved["messages"]] == ["hello", "good day", "and you?", "I am fine"]


def test_what_does_not_fit_is_said(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "hello\nand you?\n" * 3
    piped(monkeypatch, many)
    assert command("chat", str(run)) == 2
    assert "line 3: the conversation has" in capfd.readouterr().err
    piped(monkeypatch, many)
    assert command("chat", str(run), "--overflow", "drop") == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 6 and "messages are not read any more: the model reads 96 tokens" in err
    assert command("chat", str(run), "--overflow", "slide") == 2
    assert "there are error, drop" in capfd.readouterr().err
    with pytest.raises(InputError, match="is empty"):
        yuyan.load(run).predict([""])

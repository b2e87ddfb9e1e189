"""Tagged sentences from the files people have, and what is said of a line that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuyan.errors import DataError
from yuyan.tasks import Tag
from yuyan.tasks.tag import Tagged, best_path
from yuyan.tasks.tagged_text import Sentence, words_of
from yuyan.text import DataConfig
from yuyan.text.survey import survey


def read(path: Path, task: Tag | None = None, **data: object) -> tuple[Tag, list[Sentence]]:
    config = DataConfig(sources=(path,), **data)  # type: ignore[arg-type]
    files = survey([path], config.encoding)
    found = (task or Tag()).found(files, config)
    return found, found.read(files, config)


WORDS, TAGS = ("Ann", "Lee", "saw", "Rome"), ("B-PER", "I-PER", "O", "B-LOC")
CONLL = "Ann NNP B-PER\nLee NNP I-PER\nsaw VBD O\nRome NNP B-LOC\n\nRome NNP B-LOC"
FORMATS = {
    "a.conll": CONLL,
    "crlf.conll": "\ufeff-DOCSTART- -X- O\r\n\r\n" + CONLL.replace("\n", "\r\n"),
    "tabs.conll": CONLL.replace(" ", "\t"),
    "iob1.conll": CONLL.replace("B-", "I-"),
    "bioes.conll": CONLL.replace("I-PER", "E-PER").replace("B-LOC", "S-LOC"),
    "words.jsonl": json.dumps({"tokens": WORDS, "ner_tags": TAGS}) + "\n" + json.dumps({"tokens": ["Rome"], "ner_tags": ["B-LOC"]}),
    "spans.jsonl": json.dumps({"text": "Ann Lee saw Rome", "spans": [{"start": 0, "end": 7, "label": "PER"}, {"start": 12, "end": 16, "label": "LOC"}]})
    + "\n" + json.dumps({"text": "Rome", "spans": [[0, 4, "LOC"]]}),
}  # fmt: skip


def test_lines_with_tags_are_no_texts_to_be_answered(tmp_path: Path) -> None:
    def texts(content: str) -> list[Sentence]:
        (tmp_path / "a.txt").write_text(content, encoding="utf-8")
        config = DataConfig(sources=(tmp_path / "a.txt",))
        task = Tag(labels=("O", "B-PER", "I-PER"))
        return task.read(survey([tmp_path / "a.txt"], config.encoding), config, labelled=False)

    for content in (CONLL, "张\tB-PER\n三\tI-PER\n在\tO\n"):
        with pytest.raises(DataError, match=r"a\.txt:1: a word and its tag in each line.*yuyan evaluate"):
            texts(content)
    assert len(texts("Ann saw Rome\nI saw O\nYou saw Lee\n")) == len(texts("张三在\n北京\n。\n")) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name].encode())
    found, records = read(tmp_path / name)
    assert [(record.words, record.tags) for record in records] == [(WORDS, TAGS), (("Rome",), ("B-LOC",))]
    assert found.joint == " " and records[0].text == "Ann Lee saw Rome"
    scheme = {"iob1.conll": "iob1", "bioes.conll": "bioes"}.get(name, "bio")
    assert found.scheme == scheme
    labels = found.with_labels(records).labels
    assert labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def test_another_column_and_parts_of_speech(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(CONLL)
    found, records = read(tmp_path / "a.conll", Tag(tags=2))
    assert found.scheme == "none" and records[0].tags == ("NNP", "NNP", "VBD", "NNP")


def test_characters_in_gb18030(tmp_path: Path) -> None:
    text = "".join(
        f"{character}\t{tag}\n"
        for character, tag in zip(
            "我在北京的酒店住了三天", ["O", "O", "B-LOC", "I-LOC", "O", "O", "O", "O", "O", "O", "O"], strict=True
        )
    )
    (tmp_path / "a.txt").write_bytes((text + "\n").encode("gb18030") * 3)
    found, records = read(tmp_path / "a.txt")
    assert found.joint == "" and records[0].text == "我在北京的酒店住了三天" and len(records) == 3


BAD = {
    "ragged.conll": ("a DT B-NP\nb NN\n", r"ragged\.conll:2: 2 columns in 'b NN', where the first line has 3"),
    "one.conll": ("a\nb\n", r"one\.conll:1: one column only, 'a'"),
    "strange.conll": ("a B-X\nb I-X\nc O\n\nd Z\n" + "e O\n" * 9, r"strange\.conll:5: 'Z' is no tag of a span"),
    "lengths.jsonl": ('{"tokens": ["a", "b"], "tags": ["O", "B-X"]}\n{"tokens": ["a", "b"], "tags": ["O"]}\n', r"lengths\.jsonl:2: 2 words and 1 tags"),
    "numbers.jsonl": ('{"tokens": ["a"], "tags": ["B-X"]}\n{"tokens": ["a"], "tags": [1]}\n', r"numbers\.jsonl:2: 'tags' is numbers, not names"),
    "beyond.jsonl": ('{"text": "ab", "spans": [[0, 1, "X"]]}\n{"text": "ab", "spans": [[0, 9, "X"]]}\n', r"beyond\.jsonl:2: span .*outside of the text of 2 characters"),
    "off.jsonl": ('{"text": "ab cd", "spans": [[0, 2, "X"]]}\n{"text": "ab cd", "spans": [{"start": 2, "end": 4, "label": "X", "text": "cd"}]}\n', r"off\.jsonl:2: span .*the text there is ' c'"),
    "overlap.jsonl": ('{"text": "ab", "spans": [[0, 1, "X"]]}\n{"text": "ab", "spans": [[0, 2, "X"], [1, 2, "Y"]]}\n', r"overlap\.jsonl:2: span .*overlaps another"),
    "neither.jsonl": ('{"title": "ab"}\n', r"neither\.jsonl:1: words with tags, or a text with spans, were expected; it has: title"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_name_file_and_line(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_a_span_that_starts_inside_is_said_with_its_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.conll").write_text("a B-X\nb I-X\nc O\n\nd O\ne I-X\n\nf B-X\n\ng B-X\n")
    _, records = read(tmp_path / "a.conll", Tag(scheme="bio"))
    assert records[1].tags == ("O", "B-X")
    assert "a.conll:6: a span starts inside" in capfd.readouterr().err


def test_words_of_raw_text() -> None:
    assert [word for word, _ in words_of("Ann's 3 cats, 在北京!")] == ["Ann's", "3", "cats", ",", "在", "北", "京", "!"]


@pytest.mark.parametrize("joint", ["", " "])
def test_a_text_comes_back_as_it_was_typed(joint: str) -> None:
    (record,) = Tag(scheme="bio", joint=joint).records_of(["张三 works  in New York."])
    tags = ("B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O")
    said = Tagged(record, tags, True).plain()
    assert said["text"] == "张三 works  in New York."
    assert [span["text"] for span in said["spans"]] == ["张三", "New York"]
    assert record.text == joint.join(record.words)  # what the model reads, and what is told apart


def test_the_best_path_keeps_the_scheme() -> None:
    import itertools

    import numpy as np

    random = np.random.default_rng(0)
    allowed = np.ones((4, 3), bool)
    allowed[:, 2] = [False, True, True, False]  # O, B, I
    for _ in range(200):
        scores = random.normal(size=(4, 3)) * 2
        paths = [
            p
            for p in itertools.product(range(3), repeat=4)
            if all(allowed[a, b] for a, b in zip((3, *p), p, strict=False))
        ]
        best = max(paths, key=lambda p: sum(scores[i, label] for i, label in enumerate(p)))
        assert tuple(best_path(scores, allowed)) == best

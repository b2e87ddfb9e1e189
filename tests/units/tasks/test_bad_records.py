"""What people's files do to a reader, by kind: labels, tables, JSON, tags, pairs; questions are in `test_question_text`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from yuyan.errors import DataError
from yuyan.metrics.written import against_references, exact_match
from yuyan.tasks import Classify, Rewrite, Tag, TaskConfig
from yuyan.tasks.labelled_text import Labelled
from yuyan.tasks.tagged_text import Sentence
from yuyan.text import DataConfig
from yuyan.text.read import look
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig


def read(task: TaskConfig, *paths: Path, **data: Any) -> tuple[Any, list[Any]]:
    config = DataConfig(sources=paths, **data)
    files = look(list(paths), config)
    found = task.found(files, config)
    return found, found.read(files, config)


# ---------------------------------------------------------------- labels


def test_a_label_that_training_does_not_have_is_listed_and_one_without_texts_is_warned_of(
    capfd: pytest.CaptureFixture[str],
) -> None:
    records = [Labelled(f"text {i}", ("ab"[i % 2],), f"a.csv:{i + 2}") for i in range(6)]
    config = Classify(labels=("a", "b", "c")).with_labels(records)
    assert config.counts == (3, 3, 0) and "no training text has the label 'c'" in capfd.readouterr().err
    task = config.build(train_tokenizer([r.text for r in records], CharConfig()), None)
    strange = [Labelled("text", ("d",), "b.csv:7"), Labelled("text", ("a",), "b.csv:8")]
    (said,) = task.remarks({"train": records, "validation": strange})
    assert said == "validation: 1 labels that training does not have count as wrong: 'd' 1 times, first in b.csv:7"
    (said,) = task.remarks({"train": records, "validation": [*strange, Labelled("text", ("e",), "b.csv:9")]})
    assert said.endswith("first in b.csv:7, and 1 other")
    with pytest.raises(DataError, match=r"^a\.csv:3: label 'b' is not one of task\.labels: a, c"):
        Classify(labels=("a", "c")).with_labels(records)


def test_labels_of_several_kinds_are_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"one text {i}", "label": label}) + "\n"
            for i, label in enumerate((1, "1", 1.0, True, "x"))
        )
    )
    assert [record.labels for record in read(Classify(), path)[1]] == [("1",), ("1",), ("1",), ("true",), ("x",)]
    path.write_text('{"text": "a text", "label": 1}\n{"text": "another", "label": 1.5}\n')
    with pytest.raises(DataError, match=r"^a\.jsonl:2: the label 'label' is 1\.5; a text or a whole number"):
        read(Classify(), path)


# ---------------------------------------------------------------- tables


def test_cells_may_be_long_hold_lines_and_look_like_formulas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = "word " * 2_000_000
    path.write_text(f'text;label\n"one ""quoted"", \nand; two";=SUM(A1)\n"{long}";-1\n')
    began = time.monotonic()
    _, found = read(Classify(), path)
    assert time.monotonic() - began < 5
    assert [(r.text[:24], r.labels, r.where) for r in found] == [
        ('one "quoted", \nand; two', ("=SUM(A1)",), "a.csv:2"), (long[:24], ("-1",), "a.csv:4"),
    ]  # fmt: skip
    assert len(found[1].text) == len(long)


# ---------------------------------------------------------------- JSON

GOOD = '{"text": "a text", "label": "x"}\n'
JSON = {
    r"a\.jsonl:2: broken JSON at column \d+: Expecting property name": '{"text": "b", "label": "y", }',
    r"a\.jsonl:2: JSON nested too deeply": '{"text": ' + "[" * 100_000,
    r"a\.jsonl:2: broken JSON: the key 'label' is there twice": '{"text": "b", "label": "x", "label": "y"}',
    r"a\.jsonl:2: the label 'label' is nan": '{"text": "b", "label": NaN}',
    r"a\.jsonl:2: the label 'label' is inf": '{"text": "b", "label": 1e400}',
    r"a\.jsonl:2: broken JSON: Exceeds the limit": '{"text": "b", "label": ' + "1" * 100_000 + "}",
    r"a\.jsonl:2: broken JSON at column \d+: it ends too early": '{"text": "b", "lab',
    r"a\.jsonl:2: a list, where an object": '["b", "x"]',
}


@pytest.mark.parametrize("said", JSON)
def test_json_that_is_none_is_named_by_its_line(tmp_path: Path, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + JSON[said] + "\n" + GOOD.replace(chr(34) + "x", chr(34) + "y"))
    with pytest.raises(DataError, match=f"^{said}"):
        read(Classify(), path)
    assert len(read(Classify(), path, skip_bad_records=True)[1]) == 2


def test_a_key_that_is_twice_in_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a", "label": "x"},\n {"text": "b", "text": "c", "label": "y"}]')
    with pytest.raises(DataError, match=r"^a\.json: broken JSON: the key 'text' is there twice"):
        read(Classify(), path)


SPLITS = {
    "train": [["a text", "x"], ["one more text", "y"], ["another text", "x"]], "oos_train": [["what", "oos"]],
    "test": [["last text", "x"]],
}  # fmt: skip


def test_lists_of_rows_by_split(tmp_path: Path) -> None:
    """As CLINC150 comes."""
    path = tmp_path / "all.json"
    path.write_text(json.dumps(SPLITS, indent=1))
    found, records = read(Classify(outside="oos"), path / "train", path / "oos_train")
    assert [(r.text, r.labels) for r in records] == [
        ("a text", ("x",)),
        ("one more text", ("y",)),
        ("another text", ("x",)),
        ("what", ("oos",)),
    ]
    assert records[3].where == "all.json/oos_train: record 1" and (found.text, found.label) == ("1", "2")
    with pytest.raises(
        DataError,
        match=r"^all\.json: it holds several lists: train, oos_train, test; name those you mean, such as all\.json/train",
    ):
        read(Classify(), path)
    with pytest.raises(
        DataError, match=r"^all\.json/tset: no list 'tset'; did you mean 'test'\?; it has: train, oos_train, test"
    ):
        read(Classify(), path / "tset")
    path.write_text(json.dumps(SPLITS["train"]))
    assert len(read(Classify(), path)[1]) == 3
    path.write_text(json.dumps([["a text", "x"], ["another"]]))
    with pytest.raises(DataError, match=r"^all\.json: a list of records"):
        read(Classify(), path)


# ---------------------------------------------------------------- tags


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_columns_with_tabs_and_no_last_newline(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "a.conll"
    tags = "B-X I-X B-X O" if scheme == "bio" else "B-X E-X S-X O"
    rows = "\r\n".join(f"w{i}\t{tag}" for i, tag in enumerate(tags.split(" ")))
    path.write_bytes(f"{rows}\r\n\r\n\r\nw\t{'B-X' if scheme == 'bio' else 'S-X'}".encode())
    found, records = read(Tag(), path)
    assert found.scheme == scheme and [record.tags for record in records] == [("B-X", "I-X", "B-X", "O"), ("B-X",)]


def test_a_part_without_a_span_is_warned_of() -> None:
    spans, none = [Sentence(("a", "b"), ("B-X", "O"), "a:1")], [Sentence(("a", "b"), ("O", "O"), "a:3")]
    task = Tag(scheme="bio").with_labels(spans).build(train_tokenizer(["a b"], CharConfig()), None)
    assert task.remarks({"train": spans, "validation": spans, "test": spans}) == []
    validation, test = task.remarks({"train": none, "validation": none, "test": none * 2})
    assert validation.startswith("validation: no span in its 1 sentences: F1 is 1 where none is found, else 0, and the")
    assert "data.split.validation" in validation and test.startswith("test: no span in its 2 sentences")


# ---------------------------------------------------------------- pairs


def test_parallel_files_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\nthree\n")
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    task = Rewrite(lines="parallel", languages=("en", "de"))
    with pytest.raises(DataError, match=r"a\.en.*3 lines.*a\.de.*2|a\.de.*2 lines.*a\.en.*3"):
        read(task, tmp_path / "a.en", tmp_path / "a.de")
    (tmp_path / "a.de").write_text("eins\n\ndrei\n")
    with pytest.raises(DataError, match=r"a\.de:2"):
        read(task, tmp_path / "a.en", tmp_path / "a.de")
    assert [r.text for r in read(task, tmp_path / "a.en", tmp_path / "a.de", skip_bad_records=True)[1]] == [
        "one",
        "three",
    ]


def test_equal_texts_of_any_script_are_right() -> None:
    for text in ("สวัสดีชาวโลก", "你好，世界", "Здравствуй", "hello"):
        assert exact_match([text], [[text]], 0).value == 1.0
        assert against_references("chrf", [text], [[text]], "en", 0)[0].value == pytest.approx(100.0)
    assert against_references("chrf", [""], [["text"]], "en", 0)[0].value == 0.0

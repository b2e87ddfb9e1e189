"""Splits: stable, exact, and never empty where something was asked for."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.config import build
from yuyan.errors import ConfigError, DataError
from yuyan.text import DataConfig, OrderedSplit, RandomSplit, prepare
from yuyan.text.document import Document
from yuyan.text.portion import Portion, measure_overlap, move_to_training
from yuyan.text.spill import Spill
from yuyan.text.split import split_hash, split_ordered, split_random


def parts(texts: list[str], config: RandomSplit) -> dict[str, set[str]]:
    hashes = np.array([split_hash(text, config.seed) for text in texts], dtype=np.uint64)
    return {name: {texts[i] for i in part.documents} for name, part in split_random(hashes, config).items()}


def test_a_random_split_does_not_depend_on_the_order() -> None:
    texts = [f"document {i}" for i in range(500)]
    config = RandomSplit(validation=0.1, test=0.2)
    assert parts(texts, config) == parts(texts[::-1], config)
    found = parts(texts, config)
    assert set.union(*found.values()) == set(texts)
    assert sum(map(len, found.values())) == 500
    assert 25 < len(found["validation"]) < 80
    assert 65 < len(found["test"]) < 140
    assert parts(texts, RandomSplit(validation=0.1, test=0.2, seed=1)) != found


def test_documents_stay_where_they_are_when_others_come() -> None:
    texts = [f"document {i}" for i in range(300)]
    few, many = parts(texts[:200], RandomSplit()), parts(texts, RandomSplit())
    assert all(few[name] == many[name] & set(texts[:200]) for name in few)


@given(
    st.integers(1, 12),
    st.sampled_from([(0.05, 0.05), (0.1, 0.0), (0.0, 0.1), (0.6, 0.3), (0.0, 0.0)]),
    st.integers(0, 50),
)
@settings(deadline=None)
def test_a_part_that_was_asked_for_is_there_or_an_error_says_why(
    count: int, shares: tuple[float, float], seed: int
) -> None:
    config = RandomSplit(validation=shares[0], test=shares[1], seed=seed)
    wanted = {"train", *(["validation"] if shares[0] else []), *(["test"] if shares[1] else [])}
    texts = [f"text {i}" for i in range(count)]
    if count < len(wanted):
        with pytest.raises(DataError, match=r"cannot split: .*data\.documents=section.*data\.split\.kind=ordered"):
            parts(texts, config)
        return
    found = parts(texts, config)
    assert set(found) == wanted
    assert all(found.values())


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.sampled_from([(0.1, 0.0), (0.05, 0.05), (0.0, 0.3), (0.5, 0.25)]),
)
@settings(deadline=None, max_examples=300)
def test_an_ordered_split_cuts_at_exact_characters(lengths: list[int], shares: tuple[float, float]) -> None:
    texts = [chr(65 + i) * length for i, length in enumerate(lengths)]
    whole = "".join(texts)
    first = int(len(whole) * (100 - round(100 * shares[0]) - round(100 * shares[1])) / 100 + 1e-9)
    second = int(len(whole) * (100 - round(100 * shares[1])) / 100 + 1e-9)
    expected = {"train": whole[:first], "validation": whole[first:second], "test": whole[second:]}
    config = OrderedSplit(validation=shares[0], test=shares[1])
    try:
        found = split_ordered(np.array(lengths), config)
    except DataError:
        assert any(not expected[n] for n, s in (("train", 1), ("validation", shares[0]), ("test", shares[1])) if s)
        return
    for name, part in found.items():
        pieces = [texts[i] for i in part.documents]
        pieces[-1] = pieces[-1][: part.end]
        pieces[0] = pieces[0][part.start :]
        assert "".join(pieces) == expected[name]


@pytest.mark.parametrize("n", [10, 11, 999, 1_115_394, 1_000_003])
def test_ninety_per_cent_is_where_everybody_cuts(n: int) -> None:
    part = split_ordered(np.array([n]), OrderedSplit(validation=0.1, test=0.0))
    assert part["train"].end == part["validation"].start == int(n * 0.9)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        build(DataConfig, {"split": {"kind": "random", "validation": 0.5, "test": 0.5}})


@pytest.mark.parametrize("documents", ["auto", "file", "line"])
def test_the_usual_split_of_one_text_is_reproduced_exactly(tmp_path: Path, documents: str) -> None:
    text = "".join(f"SPEAKER {i % 7}:\nWhat light is this, number {i}?\n\n" for i in range(3000)) + "é中."
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    config = build(
        DataConfig,
        {"clean": None, "documents": documents, "split": {"kind": "ordered", "validation": 0.1, "test": 0.0}},
    )
    prepared = prepare([tmp_path / "input.txt"], config, tmp_path / "out")
    assert prepared.splits == ("train", "validation")
    found = {name: [d.text for d in prepared.documents(name)] for name in prepared.splits}
    if documents == "line":
        text = "".join(line for line in text.split("\n"))
    at = int(len(text) * 0.9)
    assert "".join(found["train"]) == text[:at]
    assert "".join(found["validation"]) == text[at:]
    if documents == "file":
        assert [len(each) for each in found.values()] == [1, 1]


# ---------------------------------------------------------------- held-out text that stands in the training text


def lines_of(seed: int, count: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join("".join(source.choices("abcdefghij", k=4)) for _ in range(20)) for _ in range(count)]


def prepared_with(tmp_path: Path, texts: list[str], **split: float | None) -> dict[str, set[str]]:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = build(DataConfig, {"split": {"kind": "random", **split}})
    prepared = prepare([tmp_path / "a.jsonl"], config, tmp_path / f"out{len(list(tmp_path.iterdir()))}")
    return {name: {d.text for d in prepared.documents(name)} for name in prepared.splits}


def test_held_out_chapters_that_are_quoted_in_training_go_to_training(tmp_path: Path) -> None:
    books = ["\n".join(lines_of(i, 40)) for i in range(120)]
    chapters = ["\n".join(book.split("\n")[5:15]) for book in books]
    texts = books + chapters + ["\n".join(lines_of(1000 + i, 10)) for i in range(200)]
    loose = prepared_with(tmp_path, texts, overlap=None)
    strict = prepared_with(tmp_path, texts)
    for name in ("validation", "test"):
        quoted = {
            text for text in loose[name] if any(text in book or book in text for book in set(books + chapters) - {text})
        }
        assert len(quoted) > 2
        assert strict[name] < loose[name]
        in_training = "\n\n".join(strict["train"])
        assert not [text for text in strict[name] if text in in_training]
    assert set.union(*strict.values()) == set(texts) == set.union(*loose.values())


def test_what_moved_is_training_text_too() -> None:
    """a is quoted in training, b only in a: both go, in whatever parts they were."""
    lines = lines_of(1, 30)
    train = Document("t", "\n".join(lines[:10]))
    a = Document("a", "\n".join(lines[5:15]))
    b = Document("b", "\n".join(lines[11:21]))
    others = [Document(f"o{i}", "\n".join(lines_of(50 + i, 10))) for i in range(6)]
    spill = FakeSpill([train, a, b, *others])
    portions = {
        "train": Portion(spill, np.array([0])), "validation": Portion(spill, np.array([1, 3, 4, 5])),
        "test": Portion(spill, np.array([2, 6, 7, 8])),
    }  # fmt: skip
    moved, count = move_to_training(portions, measure_overlap(portions), 0.2)
    assert count == 2
    assert {name: each.numbers.tolist() for name, each in moved.items()} == {
        "train": [0, 1, 2], "validation": [3, 4, 5], "test": [6, 7, 8],
    }  # fmt: skip


def test_no_part_loses_more_than_half() -> None:
    text = "\n".join(lines_of(1, 40))
    spill = FakeSpill([Document(str(i), "\n".join(text.split("\n")[i : i + 20])) for i in range(10)])
    portions = {"train": Portion(spill, np.arange(5)), "validation": Portion(spill, np.arange(5, 10))}
    overlaps = measure_overlap(portions)
    moved, count = move_to_training(portions, overlaps, 0.1)
    assert count == 2
    assert len(moved["validation"].numbers) == 3
    assert overlaps["validation"].report().documents == 3


class FakeSpill(Spill):
    """Documents in memory."""

    def __init__(self, documents: list[Document]):
        self.held = documents
        self.characters = np.array([len(document.text) for document in documents])

    def document(self, number: int) -> Document:
        return self.held[number]

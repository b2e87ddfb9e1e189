"""Spans and their scores are those of seqeval, in every scheme."""

from __future__ import annotations

import numpy as np
import pytest
import seqeval.metrics as reference
from seqeval.metrics.sequence_labeling import get_entities

from yuyan.metrics.spans import Span, scheme_of, score_spans, score_words, spans_of, stray, written

LETTERS = {"iob1": "IIIB", "bio": "BI", "bioes": "BIES"}


def sequences(letters: str, count: int, seed: int) -> list[list[str]]:
    """Any sequences at all, most of which break their scheme."""
    random = np.random.default_rng(seed)
    tags = ["O", "O", *(f"{letter}-{kind}" for letter in letters for kind in ("PER", "LOC"))]
    return [[str(tag) for tag in random.choice(tags, random.integers(1, 9))] for _ in range(count)]


@pytest.mark.parametrize("scheme", LETTERS)
def test_spans_are_those_of_seqeval(scheme: str) -> None:
    for tags in sequences(LETTERS[scheme], 3500, 0):
        theirs = {Span(kind, start, end + 1) for kind, start, end in get_entities(tags)}
        assert set(spans_of(tags)) == theirs, tags
        assert spans_of(written(spans_of(tags), len(tags))) == spans_of(tags), tags


def test_scores_are_those_of_seqeval() -> None:
    truths = sequences("BI", 60, 1)
    random = np.random.default_rng(2)
    answers = [[tag if random.random() < 0.8 else "O" for tag in tags] for tags in truths]
    found = score_spans(truths, answers, draws=0)
    values = {name: value.value for name, value in found.values.items()}
    assert values["span_f1"] == pytest.approx(reference.f1_score(truths, answers))
    assert values["span_precision"] == pytest.approx(reference.precision_score(truths, answers))
    assert values["span_recall"] == pytest.approx(reference.recall_score(truths, answers))
    assert values["word_accuracy"] == pytest.approx(reference.accuracy_score(truths, answers))
    report = reference.classification_report(truths, answers, output_dict=True)
    for kind in ("PER", "LOC"):
        assert found.by_label[kind]["f1"] == pytest.approx(report[kind]["f1-score"])
        assert found.by_label[kind]["count"] == report[kind]["support"]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["B-A", "I-A", "O", "B-A"], "bio"), (["I-A", "I-A", "O", "I-A", "I-B", "B-B"], "iob1"),
        (["B-A", "E-A", "O", "S-A"], "bioes"), (["B-A", "L-A", "U-B"], "bioes"), (["NN", "VB"], "none"), (["O", "O"], "none"),
    ],
)  # fmt: skip
def test_the_scheme_is_found(tags: list[str], scheme: str) -> None:
    assert scheme_of([tags]) == scheme


@pytest.mark.parametrize(
    ("tags", "scheme", "place"),
    [
        (["O", "I-A"], "bio", 1), (["B-A", "I-B"], "bio", 1), (["B-A", "I-A", "B-A"], "bio", None), (["I-A"], "iob1", None),
        (["B-A", "O"], "bioes", 0), (["B-A", "E-A", "S-B"], "bioes", None), (["O", "E-A"], "bioes", 1), (["B-A"], "bioes", 0),
    ],
)  # fmt: skip
def test_what_breaks_its_scheme_is_found(tags: list[str], scheme: str, place: int | None) -> None:
    assert stray(tags, scheme) == place  # type: ignore[arg-type]


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    found = score_spans([["O"]] * 3, [["O"]] * 3, draws=10).values["span_f1"]
    assert found.value == 1.0 and np.isnan(found.interval.low)
    assert score_spans([["O"]], [["B-A"]], draws=0).values["span_f1"].value == 0.0


def test_a_model_that_finds_nothing_has_no_precision_and_one_that_finds_what_is_not_there_no_recall() -> None:
    for truths, answers in (([["B-A", "O"]], [["O", "O"]]), ([["O", "O"]], [["B-A", "O"]])):
        values = score_spans(truths, answers, draws=0).values
        assert [values[f"span_{name}"].value for name in ("f1", "precision", "recall")] == [0, 0, 0]


def test_words() -> None:
    found = score_words([["N", "V"], ["N"]], [["N", "N"], ["N"]], draws=0)
    assert found.values["word_accuracy"].value == pytest.approx(2 / 3)
    assert found.by_label["V"]["f1"] == 0 and found.by_label["N"]["precision"] == pytest.approx(2 / 3)

"""Exact match and F1 of answers: the formulas written out by hand say the same, in English and in Chinese."""

from __future__ import annotations

import re
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.metrics.answers import Marks, mark, score_answers, silence_threshold, units_of, way_of, words_of

ENGLISH = st.lists(st.sampled_from(["the", "A", "cat", "Cat.", "an", "dog-s", "1,000", "theory", "", "'"]), max_size=6)
CHINESE = st.text(st.sampled_from("我们的 2018年，。ab-B「」"), max_size=9)


def by_words(answer: str, reference: str) -> tuple[float, float]:
    """As the words of SQuAD's definition say it."""

    def plain(text: str) -> list[str]:
        bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return [word for word in re.sub(r"\b(a|an|the)\b", " ", bare).split() if word]

    one, other = plain(answer), plain(reference)
    exact = float(" ".join(one) == " ".join(other))
    if not one or not other:
        return exact, float(one == other)
    left, same = list(other), 0
    for word in one:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return exact, 0.0
    precision, recall = same / len(one), same / len(other)
    return exact, 2 * precision * recall / (precision + recall)


def by_characters(answer: str, reference: str) -> tuple[float, float]:
    """As CMRC 2018's definition says it: the longest common stretch by the table of all pairs."""
    one, other = units_of(answer), units_of(reference)
    longest, table = 0, np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else 0
            longest = max(longest, table[i + 1, j + 1])
    bare = [re.sub("[-，。「」]", "", text.lower().strip()) for text in (answer, reference)]
    exact = float(bare[0] == bare[1])
    if not one or not other:
        return exact, exact
    if not longest:
        return exact, 0.0
    precision, recall = longest / len(one), longest / len(other)
    return exact, 2 * precision * recall / (precision + recall)


@given(ENGLISH, st.lists(ENGLISH, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_by_words(answer: list[str], references: list[list[str]]) -> None:
    wanted = [by_words(" ".join(answer), " ".join(each)) for each in references]
    found = mark(" ".join(answer), [" ".join(each) for each in references], "words")
    assert found == pytest.approx((max(w[0] for w in wanted), max(w[1] for w in wanted)))


@given(CHINESE, st.lists(CHINESE, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_by_characters(answer: str, references: list[str]) -> None:
    wanted = [by_characters(answer, each) for each in references]
    assert mark(answer, references, "characters") == pytest.approx(
        (max(w[0] for w in wanted), max(w[1] for w in wanted))
    )


def test_what_is_told_apart() -> None:
    assert words_of("The U.S. Army's a-team") == ["us", "armys", "ateam"]
    assert units_of("光荣和ω-force 3.5万 A") == ["光", "荣", "和", "ωforce", "3.5", "万", "a"]
    assert mark("an Apple", ["apple!"], "words") == (1.0, 1.0)
    assert mark("「战史演武」", ["战史演武。"], "characters") == (1.0, 1.0)
    assert mark("在河南省", ["河南"], "characters").f1 == pytest.approx(2 * 2 / (4 + 2))
    assert mark("南河", ["河南"], "characters").f1 == pytest.approx(2 * 1 / 4), "characters count in their order"
    assert mark("南河", ["河南"], "words").f1 == 0.0
    assert mark(None, [], "words") == mark(None, [], "characters") == (1.0, 1.0)
    assert mark("x", [], "words") == mark(None, ["x"], "words") == (0.0, 0.0)
    assert way_of("黑豹队的防守只丢了 308分，NFL 第六") == "characters"
    assert way_of("The word 你好 means hello in Chinese.") == "words"


def test_parts_with_and_without_an_answer() -> None:
    marks = [Marks(1.0, 1.0), Marks(0.0, 0.5), Marks(1.0, 1.0), Marks(0.0, 0.0)]
    scores = score_answers(marks, [True, True, False, False], [True, True, False, True], draws=200)
    assert {name: value.value for name, value in scores.values.items()} == {
        "answer_f1": 0.625, "exact_match": 0.5, "has_answer_f1": 0.75, "has_answer_exact": 0.5, "no_answer_accuracy": 0.5,
    }  # fmt: skip
    assert scores.by_label["no answer"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "count": 2.0}
    assert scores.by_label["answer"]["precision"] == pytest.approx(2 / 3)
    low, high = scores.values["answer_f1"].interval
    assert 0 <= low < 0.625 < high <= 1
    whole = score_answers(marks[:2], [True, True], [True, True], draws=0)
    assert set(whole.values) == {"answer_f1", "exact_match"} and not whole.by_label


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_best_there_is(rows: list[tuple[int, float, bool]]) -> None:
    above = np.array([row[0] for row in rows], float)
    silent = np.array([float(row[2]) for row in rows])
    given = np.where(silent > 0, 0.0, [row[1] for row in rows])

    def worth(threshold: float) -> float:
        return float(np.where(above > threshold, silent, given).sum())

    best = max(worth(bound) for bound in np.arange(-4, 4.5, 0.5))
    assert worth(silence_threshold(above, given, silent)) == pytest.approx(best)

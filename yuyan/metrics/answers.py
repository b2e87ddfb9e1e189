"""What answers found in a text are worth: exact match and F1 against the references of each question.

By `words`, as SQuAD counts (Rajpurkar et al. 2016, section 6.1; Rajpurkar et al. 2018, section 4.1): without case,
punctuation and the articles a, an, the; F1 of the two bags of words. By `characters`, as CMRC 2018 counts (Cui et al. 2019,
section 4): without case and some marks; a Chinese character is a unit and so is a word in other letters; F1 from the longest
stretch of units that stands in both. (CMRC's script cuts words with nltk, this cuts at spaces and marks.) Of several
references the best one counts. A question without an answer is right where none was given, and only there.

Q questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from yuyan.metrics.interval import ratio_interval
from yuyan.metrics.score import NONE, Scores, Value

Way = Literal["words", "characters"]
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHINESE = re.compile(f"[{_HAN}]")
_LETTER = re.compile(r"[^\W\d_]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNITS = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:[.,'’][^\W_{_HAN}]+)*|\S")
_WITHOUT = {ord(mark): None for mark in string.punctuation}
_MARKS = {ord(mark): None for mark in "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"}
MOSTLY = 0.3
"""The share of Chinese characters among its letters that makes a text Chinese."""


class Marks(NamedTuple):
    """Exact match and F1 of one answer, from 0 to 1."""

    exact: float
    f1: float


@lru_cache(1 << 12)
def way_of(text: str) -> Way:
    """How answers from this text are compared."""
    return "characters" if len(_CHINESE.findall(text)) > MOSTLY * len(_LETTER.findall(text)) else "words"


def mark(answer: str | None, references: Sequence[str], way: Way) -> Marks:
    """What an answer (None is: there is none) is worth against references, which are none where there is no answer."""
    if answer is None or not references:
        right = float(answer is None and not references)
        return Marks(right, right)
    each = [(_of_characters if way == "characters" else _of_words)(answer, reference) for reference in references]
    return Marks(max(one.exact for one in each), max(one.f1 for one in each))


def _of_words(answer: str, reference: str) -> Marks:
    given, wanted = words_of(answer), words_of(reference)
    exact = float(given == wanted)
    if not given or not wanted:
        return Marks(exact, exact)
    return Marks(exact, 2 * (Counter(given) & Counter(wanted)).total() / (len(given) + len(wanted)))


def words_of(text: str) -> list[str]:
    """Without case, punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_WITHOUT)).split()


def _of_characters(answer: str, reference: str) -> Marks:
    exact = float(_bare(answer) == _bare(reference))
    given, wanted = units_of(answer), units_of(reference)
    if not given or not wanted:
        return Marks(exact, exact)
    size = SequenceMatcher(None, given, wanted, autojunk=False).find_longest_match().size
    return Marks(exact, 2 * size / (len(given) + len(wanted)))


def _bare(text: str) -> str:
    return text.lower().strip().translate(_MARKS)


def units_of(text: str) -> list[str]:
    """Chinese characters one by one, other letters and digits by words, some marks left out."""
    return _UNITS.findall(_bare(text))


def score_answers(marks: Sequence[Marks], answerable: Sequence[bool], given: Sequence[bool], draws: int) -> Scores:
    """Means over all questions (Q,), over those with an answer (`answerable`) and without; `given`: an answer was given.

    Intervals are by bootstrap over questions.
    """
    exact, f1 = np.array([each.exact for each in marks]), np.array([each.f1 for each in marks])
    there, said = np.array(answerable, bool), np.array(given, bool)
    parts = {"answer_f1": f1, "exact_match": exact}
    if not there.all():
        if there.any():
            parts |= {"has_answer_f1": f1[there], "has_answer_exact": exact[there]}
        parts["no_answer_accuracy"] = exact[~there]
    values = {
        name: Value(float(part.mean()), ratio_interval(part, np.ones(len(part)), draws=draws) if draws else NONE)
        for name, part in parts.items()
    }
    decided = {} if there.all() else {"answer": _decided(said, there), "no answer": _decided(~said, ~there)}
    return Scores(values, len(marks), decided, unit="questions", each=tuple((float(x), 1.0) for x in f1))


def _decided(said: np.ndarray, there: np.ndarray) -> dict[str, float]:
    """Whether it was rightly seen that a question has an answer, or none."""
    both, found, wanted = int((said & there).sum()), int(said.sum()), int(there.sum())
    return {
        "precision": both / found if found else 0.0, "recall": both / wanted if wanted else 0.0,
        "f1": 2 * both / (found + wanted) if found + wanted else 0.0, "count": float(wanted),
    }  # fmt: skip


def silence_threshold(above: np.ndarray, given: np.ndarray, silent: np.ndarray) -> float:
    """Where to keep silent: the bound on `above`, the score of no answer less that of the best one, by which F1 is highest.

    `given` is the F1 of the best answer, `silent` that of none; all (Q,). It lies half way between two questions.
    """
    order = np.argsort(above, kind="stable")
    ordered = above[order]
    gains = np.concatenate(
        ([0.0], np.cumsum((given - silent)[order]))
    )  # of answering none, the first, the first two, ...
    apart = np.concatenate(([True], ordered[1:] > ordered[:-1], [True]))  # questions with the same score go together
    best = int(np.where(apart, gains, -np.inf).argmax())
    bounds = np.concatenate(([ordered[0] - 1], ordered, [ordered[-1] + 1]))
    return float(bounds[best : best + 2].mean())

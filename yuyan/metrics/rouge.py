"""ROUGE: how many words, pairs of words, and words in order a summary shares with the right one (Lin 2004).

Words are what rouge-score takes for words in English: runs of letters and digits, in lower case, nothing stemmed. Letters of
other scripts are letters too, and where a script has no spaces between words (Chinese, Japanese, Thai, ...) each character
is a word. Of several references the one that fits best counts. Two texts without any word are alike if they are equal.

N texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import regex

from yuyan.metrics.interval import ratio_interval
from yuyan.metrics.score import NONE, Value

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[{_UNSPACED}--[\p{{M}}\p{{P}}]]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]+", regex.V1)


class Rouge(NamedTuple):
    """The F scores of one text."""

    rouge1: float
    rouge2: float
    rouge_l: float


def words_of(text: str) -> list[str]:
    """The words of a text, as ROUGE counts them."""
    return _WORD.findall(text.lower())


def rouge(answer: str, references: Sequence[str]) -> Rouge:
    """Against the reference that fits best, for each of the three by itself."""
    words = words_of(answer)
    each = [_against(answer, words, reference) for reference in references]
    return Rouge(*(max(scores) for scores in zip(*each, strict=True)))


def _against(answer: str, words: list[str], reference: str) -> Rouge:
    right = words_of(reference)
    if not words and not right:
        return Rouge(*[float(answer.strip() == reference.strip())] * 3)
    single = _f(_shared(words, right, 1), len(words), len(right))
    if len(words) == len(right) == 1:  # there are no pairs to be right or wrong
        return Rouge(single, single, single)
    pairs = _f(_shared(words, right, 2), len(words) - 1, len(right) - 1)
    return Rouge(single, pairs, _f(common_subsequence(words, right), len(words), len(right)))


def _shared(one: list[str], other: list[str], n: int) -> int:
    """How many n-grams both have, each as often as in the one that has it less often."""
    grams = [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (one, other)]
    return (grams[0] & grams[1]).total()


def _f(shared: int, answered: int, right: int) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * shared / (answered + right) if shared else 0.0


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at once as the bits of a number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & whole
    return len(one) - row.bit_count()


def rouge_values(answers: Sequence[str], references: Sequence[Sequence[str]], draws: int) -> dict[str, Value]:
    """The means over all texts, with intervals by bootstrap over texts."""
    each = np.array([rouge(a, refs) for a, refs in zip(answers, references, strict=True)]).reshape(-1, 3)
    ones = np.ones(len(each))
    return {
        name: Value(float(column.mean()), ratio_interval(column, ones, draws=draws) if draws else NONE)
        for name, column in zip(Rouge._fields, each.T, strict=True)
    }

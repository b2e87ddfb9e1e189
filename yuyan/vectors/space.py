"""Word vectors in use: look up, neighbours, analogies, the picture's two directions.

Legend: V words, N trained buckets, D dimensions, Q questions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from yuyan.errors import InputError
from yuyan.vectors.settings import Subwords
from yuyan.vectors.subword import buckets_of

BATCH = 256
"""Questions that are answered at a time."""


@dataclass(frozen=True)
class SubwordTable:
    """Vectors of the buckets that occur in the vocabulary."""

    config: Subwords
    buckets: NDArray[np.int64]
    """(N,) ascending."""
    matrix: NDArray[np.float32]
    """(N, D)."""

    def compose(self, word: str) -> NDArray[np.float32] | None:
        """(D,) the mean of the pieces of `word` that are known; None if none is."""
        wanted = np.array(buckets_of(word, self.config), np.int64)
        places = np.searchsorted(self.buckets, wanted)
        known = places[np.searchsorted(self.buckets, wanted, side="right") > places]
        return self.matrix[known].mean(axis=0) if len(known) else None


class Near(list[tuple[str, float]]):
    """Words and their cosines, nearest first."""


@dataclass(frozen=True)
class Vectors:
    """A vector a word; with `subwords` also for words that were never seen."""

    words: list[str]
    matrix: NDArray[np.float32]
    """(V, D)."""
    counts: NDArray[np.int64] | None = None
    """(V,) how often each occurred, most frequent first, where that is known."""
    subwords: SubwordTable | None = None

    @cached_property
    def number(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> NDArray[np.float32]:
        """(V, D) the vectors at length 1; a zero vector stays zero."""
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        unit: NDArray[np.float32] = self.matrix / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return int(self.matrix.shape[1])

    def __contains__(self, word: str) -> bool:
        return word in self.number

    def get(self, word: str) -> NDArray[np.float32] | None:
        """(D,) the vector of a word, made of its pieces if it is not in the vocabulary; None if there is none."""
        row = self.number.get(word)
        if row is not None:
            found: NDArray[np.float32] = self.matrix[row]
            return found
        return self.subwords.compose(word) if self.subwords else None

    def vector(self, word: str) -> NDArray[np.float32]:
        """(D,) as `get`. Raises InputError with words that are written alike."""
        found = self.get(word)
        if found is None:
            raise InputError(f"{word!r}: not among the {len(self.words):,} words{self.suggest(word)}")
        return found

    def suggest(self, word: str) -> str:
        """What a message adds about a word that is missing."""
        for other in (word.lower(), word.capitalize(), word.upper(), word.strip()):
            if other in self.number:
                return f"; did you mean {other!r}?"
        alike = [each for each in self.words if abs(len(each) - len(word)) <= 2]
        close = difflib.get_close_matches(word, alike, n=3, cutoff=0.6)
        if close:
            return f"; did you mean {' or '.join(map(repr, close))}?"
        return "" if self.subwords else "; vectors with subwords know the pieces of any word: model.subwords={}"

    def nearest(self, query: NDArray[np.float32], count: int, without: Iterable[str] = ()) -> Near:
        """The `count` words with the largest cosine to `query` (D,), but not those in `without`."""
        scores = self.unit @ (query / max(float(np.linalg.norm(query)), 1e-30)).astype(np.float32)
        hidden = [self.number[word] for word in without if word in self.number]
        scores[hidden] = -np.inf
        count = min(count, len(self.words) - len(set(hidden)))
        best = np.argsort(-scores, kind="stable")[:count]
        return Near((self.words[i], float(scores[i])) for i in best)

    def like(self, word: str, count: int = 10) -> Near:
        """The nearest words of a word, without itself. Raises InputError as `vector` does."""
        return self.nearest(self.vector(word), count, [word])

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> Near:
        """What is to `c` as `b` is to `a`: the nearest of b - a + c at length 1 each, without the three
        (3CosAdd, Mikolov et al. 2013c). Raises InputError as `vector` does."""
        first, second, third = (_unit(self.vector(word)) for word in (a, b, c))
        return self.nearest(second - first + third, count, [a, b, c])

    def answers(self, questions: Sequence[tuple[str, str, str]], among: int | None = None) -> list[str]:
        """The best answer to each `analogy` of words in the vocabulary, taken from the first `among` words."""
        rows = np.array([[self.number[word] for word in question] for question in questions], np.int64).reshape(-1, 3)
        unit, found = self.unit[:among], []
        for at in range(0, len(rows), BATCH):
            part = rows[at : at + BATCH]
            targets = self.unit[part[:, 1]] - self.unit[part[:, 0]] + self.unit[part[:, 2]]
            scores = targets @ unit.T
            for column in part.T:
                inside = column < len(unit)
                scores[np.flatnonzero(inside), column[inside]] = -np.inf
            found += [self.words[i] for i in scores.argmax(axis=1)]
        return found

    def principal(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
        """(R, 2) these words on the two directions in which they differ most, and the share of the variance of each."""
        chosen = self.unit[rows].astype(np.float64)
        centred = chosen - chosen.mean(axis=0)
        _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
        directions = directions[:2] * np.sign(
            directions[:2][:, [0]] + 1e-300
        )  # a sign that does not depend on the library
        places = np.zeros((len(rows), 2))
        places[:, : len(directions)] = centred @ directions.T
        share = np.zeros(2)
        share[: len(strengths)] = (strengths**2 / max(float((strengths**2).sum()), 1e-300))[:2]
        return places, (float(share[0]), float(share[1]))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = vector / max(float(np.linalg.norm(vector)), 1e-30)
    return made

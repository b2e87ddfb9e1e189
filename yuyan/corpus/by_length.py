"""Rows of different lengths in an order by which those of one batch are about equally long, so that little is padded.

Each epoch draws a fresh order, a function of (seed, epoch) alone; stretches of some batches of it are sorted by length and
cut into batches again, whose order is drawn too. Where a batch begins in an epoch follows from the numbers of the rows, so
batches that reach over the end of an epoch stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yuyan.corpus.order import OFFSET, ROWS, permutation
from yuyan.errors import DataError

STRETCH = 50  # batches that are sorted together: of 32 short texts about 3 % are padding then


class ByLength:
    """Rows by (epoch, index). `sizes` (N,) are their lengths, `batch` how many rows an update takes.

    `chosen` (M,) are the rows of an epoch, where some are to come several times. Raises DataError without any.
    """

    def __init__(
        self, items: Sequence[Any], sizes: Sequence[int], batch: int, length: int, *, seed: int,
        chosen: NDArray[np.int64] | None = None,
    ):  # fmt: skip
        if not len(items):
            raise DataError("there are no records")
        self._items, self.sizes, self.batch = items, np.asarray(sizes, np.int64), batch
        self.length, self.seed = length, seed
        self._chosen = np.arange(len(items)) if chosen is None else chosen
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._chosen)

    def rows(self, epoch: int, indices: ArrayLike) -> list[Any]:
        """The rows at some places of an epoch."""
        order = self._order
        if order is None or order[0] != epoch:
            order = (epoch, self.order(epoch))
            self._order = order  # one assignment: safe beside a reader in another thread
        return [self._items[i] for i in order[1][np.asarray(indices, dtype=np.int64)].tolist()]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(M,) the numbers of the rows of an epoch."""
        drawn = self._chosen[permutation(len(self._chosen), self.seed, epoch, ROWS)]
        first = min(len(drawn), -(epoch * len(drawn)) % self.batch)  # rows that fill up the last batch before
        parts = [drawn[:first]]
        for start in range(first, len(drawn), self.batch * STRETCH):
            stretch = drawn[start : start + self.batch * STRETCH]
            ordered = stretch[np.argsort(self.sizes[stretch], kind="stable")]
            whole = len(ordered) // self.batch
            batches = ordered[len(ordered) - whole * self.batch :].reshape(whole, self.batch)
            shuffled = permutation(whole, self.seed, epoch * 4096 + start // (self.batch * STRETCH), OFFSET)
            parts += [batches[shuffled].reshape(-1), ordered[: len(ordered) - whole * self.batch]]
        return np.concatenate(parts)

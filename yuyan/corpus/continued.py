"""Rows that go on where rows of the update before ended, for networks that carry a state from one to the next.

The ring of an epoch (see `pack`) is cut into as many tracks as an update has rows. Row i of the epoch is on track
i mod B, at the place i div B of it: so the rows of an update are B places of the text far from each other, and each is
continued by the row at the same place of the next update.

B rows of an update.
"""

from __future__ import annotations

import numpy as np

from yuyan.corpus.pack import Ids, Packed
from yuyan.corpus.shard import Shards
from yuyan.tokens.special import Special


class Continued(Packed):
    """`Packed` rows in the order of the text, on `tracks` tracks. An epoch has as many rows on each track."""

    def __init__(self, shards: Shards, length: int, tracks: int, *, seed: int, special: Special):
        self.tracks = tracks
        bos = special.cls if special.bos is None else special.bos
        super().__init__(shards, length, seed=seed, bos=bos, eos=special.sep if special.eos is None else special.eos)

    @property
    def batch(self) -> int:
        """One row on each track."""
        return self.tracks

    def __len__(self) -> int:
        return self.tracks * -(-self.tokens // (self.length * self.tracks))

    def _row_order(self, number: int) -> Ids:
        index = np.arange(len(self))
        return index % self.tracks * (len(self) // self.tracks) + index // self.tracks

"""Order and chance as pure functions of (seed, epoch, index).

Everything is taken from the raw 64-bit stream of Philox, a counter-based generator (Salmon et al. 2011), whose output is
fixed: the order of a corpus is the same on every machine and with every version of numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DOCUMENTS, ROWS, OFFSET, EXAMPLE, HELD_OUT, COPIES = range(6)  # what the chance is for; each has a stream of its own


def generator(seed: int, epoch: int, index: int, purpose: int) -> np.random.Philox:
    """The bit generator of one (seed, epoch, index) and purpose; no two of them ever overlap."""
    return np.random.Philox(key=[seed, purpose], counter=[0, 0, index, epoch])


def permutation(count: int, seed: int, epoch: int, purpose: int) -> NDArray[np.int64]:
    """The numbers 0 to count - 1 in an order of this seed and epoch."""
    keys = generator(seed, epoch, 0, purpose).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def number_below(limit: int, seed: int, epoch: int, purpose: int) -> int:
    """A number from 0 to limit - 1 (with a bias below limit / 2^64)."""
    return int(generator(seed, epoch, 0, purpose).random_raw()) % limit

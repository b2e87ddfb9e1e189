"""Drawing inside compiled loops: one 64-bit number at a time, and words from a distribution by Walker's alias method.

The generator is xorshift64* (Vigna 2016): a state that is never 0. Each piece of work gets its own state from the seed,
the epoch and its number, so what is drawn does not depend on which thread does the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuyan.compile import compiled

_U64 = (1 << 64) - 1


def state_of(seed: int, epoch: int, number: int) -> int:
    """A state for one piece of work: splitmix64 (Steele et al. 2014) over the three numbers."""
    state = 0
    for part in (seed, epoch, number):
        state = (state ^ part) + 0x9E3779B97F4A7C15 & _U64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _U64
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _U64
        state ^= state >> 31
    return state or 1


@compiled
def advance(state: Any) -> Any:
    """The next state; all of its bits change."""
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    return state


@compiled
def mixed(state: Any) -> Any:
    """The 64 random bits of a state."""
    return state * np.uint64(0x2545F4914F6CDD1D)


@compiled
def word_from(bits: Any, threshold: Any, other: Any) -> Any:
    """A word drawn with 64 random bits: the upper 32 choose a column, the lower 32 one of its two words."""
    column = ((bits >> np.uint64(32)) * np.uint64(len(threshold))) >> np.uint64(32)
    low = np.uint32(bits & np.uint64(0xFFFFFFFF))
    if low < threshold[column]:
        return np.int64(column)
    return np.int64(other[column])


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """(V,) thresholds of 2**32 and (V,) other words: column v gives v below its threshold (Walker 1977; Vose 1991)."""
    count = len(weights)
    share = weights / weights.sum() * count
    other = np.arange(count, dtype=np.int32)
    small = [int(i) for i in np.flatnonzero(share < 1)]
    large = [int(i) for i in np.flatnonzero(share >= 1)]
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        share[high] -= 1 - share[low]
        if share[high] < 1:
            small.append(large.pop())
    share[small + large] = 1
    return np.minimum(np.round(share * 2.0**32), 2.0**32 - 1).astype(np.uint32), other

"""The pieces of a word: its character n-grams between < and >, by their hash, in fastText's numbering.

A bucket is FNV-1a of the n-gram's UTF-8 bytes, each byte taken as signed, modulo the number of buckets; so pieces have the
same numbers as in fastText's files (Bojanowski et al. 2017, section 3.2). Only buckets that occur in the vocabulary have
vectors: one that was never trained says nothing.

Legend: V words, N buckets that occur, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.vectors.settings import Subwords

EMPTY = 2166136261
"""The hash of nothing."""


class Pieces(NamedTuple):
    """Which rows make up which word. Row v < V is word v's own, row V + n is that of bucket `buckets[n]`."""

    offsets: NDArray[np.int64]
    """(V + 1,) where each word's rows begin in `rows`."""
    rows: NDArray[np.int64]
    """All rows, word after word; no row twice in a word."""
    buckets: NDArray[np.int64]
    """(N,) ascending."""


def fnv1a(data: bytes, value: int = EMPTY) -> int:
    """fastText's 32-bit hash, FNV-1a with bytes taken as signed, going on from `value`."""
    for byte in data:
        value = ((value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619) & 0xFFFFFFFF
    return value


def buckets_of(word: str, config: Subwords) -> list[int]:
    """The buckets of a word's n-grams, each once, in the order in which they begin."""
    letters = [character.encode("utf-8", "surrogatepass") for character in f"<{word}>"]
    found: dict[int, None] = {}
    for start in range(len(letters)):
        value = EMPTY  # a longer n-gram goes on where the shorter one ended
        for size, letter in enumerate(letters[start : start + config.longest], 1):
            value = fnv1a(letter, value)
            alone = size == 1 and start in (0, len(letters) - 1)  # < and > alone are no piece
            if size >= config.shortest and not alone:
                found[value % config.buckets] = None
    return list(found)


def pieces_of(words: list[str], config: Subwords | None) -> Pieces:
    """The rows of every word; without subwords each has its own alone."""
    count = len(words)
    if config is None:
        return Pieces(np.arange(count + 1), np.arange(count), np.zeros(0, np.int64))
    each = [np.array(buckets_of(word, config), np.int64) for word in words]
    buckets = np.unique(np.concatenate(each))
    offsets = np.concatenate([[0], np.cumsum([1 + len(found) for found in each])]).astype(np.int64)
    rows = np.empty(int(offsets[-1]), np.int64)
    for number, found in enumerate(each):
        rows[offsets[number]] = number
        rows[offsets[number] + 1 : offsets[number + 1]] = count + np.searchsorted(buckets, found)
    return Pieces(offsets, rows, buckets)


def composed(source: NDArray[np.float32], pieces: Pieces) -> NDArray[np.float32]:
    """(V, D) the mean of each word's rows of `source` (V + N, D)."""
    sizes = np.diff(pieces.offsets)
    made = np.empty((len(sizes), source.shape[1]), np.float32)
    for at in range(0, len(sizes), 4096):
        low, high = pieces.offsets[at], pieces.offsets[min(at + 4096, len(sizes))]
        sums = np.add.reduceat(source[pieces.rows[low:high]], pieces.offsets[at : at + len(made[at : at + 4096])] - low)
        made[at : at + 4096] = sums / sizes[at : at + 4096, None]
    return made

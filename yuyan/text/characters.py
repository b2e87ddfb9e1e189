"""Text as numbers: classes of characters, units, and hashed n-grams of units, for a whole batch of texts at once.

A unit is what a reader counts: a word (a run of letters, digits and marks) where words are separated by spaces, else one
character (Chinese, Japanese, Thai). Everything about likeness of texts (near duplicates, overlap of splits) is said in
n-grams of units, so that English and Chinese, and texts that mix them, take one path. Case, punctuation and white space
do not count.

Legend: C characters, U units, G n-grams, D documents; hashes are 64 bits, the same on every machine and in every run.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SYMBOL, SPACE, MARK, DIGIT, WORD, SOLO = range(6)
"""Classes: what is none of the others, white space, punctuation, digits, letters and their accents, characters that are
units by themselves."""
_LONE = ((0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
         (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))  # fmt: skip
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD1342543DE82EF95)


@cache
def _classes() -> NDArray[np.uint8]:
    """The class of every character of the basic plane."""
    table = np.full(0x10000, SYMBOL, dtype=np.uint8)
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":
            table[code] = WORD
        elif category[0] == "N":
            table[code] = DIGIT
        elif category[0] == "P":
            table[code] = MARK
        elif category[0] == "Z" or code in (9, 10, 11, 12, 13, 0x85):
            table[code] = SPACE
    for low, high in _LONE:
        part = table[low : high + 1]
        part[part == WORD] = SOLO
    return table


def codes_of(text: str) -> NDArray[np.uint32]:
    """The characters of `text` as code points (C,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def classes_of(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The class of each character (C,). Beyond the basic plane: ideographs, emoji and other symbols, letters."""
    if not len(codes) or int(codes.max()) < 0x10000:
        return _classes()[codes]
    classes = _classes()[np.minimum(codes, 0xFFFF)]
    classes[codes >= 0x10000] = WORD
    classes[(codes >= 0x1F000) & (codes < 0x20000)] = SYMBOL
    classes[(codes >= 0x20000) & (codes < 0x40000)] = SOLO
    return classes


class Counts(NamedTuple):
    """How many characters of each class a text has."""

    symbols: int
    spaces: int
    marks: int
    digits: int
    letters: int
    ideographs: int


def count_classes(text: str) -> Counts:
    """The classes of a text, counted."""
    return Counts(*(int(n) for n in np.bincount(classes_of(codes_of(text)), minlength=6)))


# ---------------------------------------------------------------- units


class Units(NamedTuple):
    """The units of a batch of texts: hashes (U,), where each document's begin (D + 1,), and how many of each document's
    are single characters (D,)."""

    hashes: Hashes
    starts: NDArray[np.int64]
    solo: NDArray[np.int64]


@cache
def _powers(length: int) -> Hashes:
    powers = np.full(length, _BASE, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


@cache
def _inverse_powers(length: int) -> Hashes:
    powers = np.full(length, pow(int(_BASE), -1, 1 << 64), dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def _mixed(values: Hashes) -> Hashes:
    """Spread every bit over all others (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def units_of(texts: Sequence[str]) -> Units:
    """The units of each text, in order."""
    lowered = [text.lower() for text in texts]
    ends = np.cumsum([len(text) for text in lowered], dtype=np.int64)
    codes = codes_of("".join(lowered))
    classes = classes_of(codes)
    solo = classes == SOLO
    word = (classes == WORD) | (classes == DIGIT)
    begins = word.copy()
    begins[1:] &= ~word[:-1]
    first = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    first = first[first < len(codes)]
    begins[first] |= word[first]
    begins |= solo
    inside = np.flatnonzero(word | solo)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(_owner(ends, begins), minlength=len(texts)))))
    singles = np.bincount(_owner(ends, solo), minlength=len(texts))
    if not len(inside):
        return Units(np.zeros(0, np.uint64), starts, singles)
    at = np.flatnonzero(begins[inside])
    place = np.arange(len(inside)) - np.repeat(at, np.diff(np.append(at, len(inside))))
    values = (codes[inside].astype(np.uint64) + np.uint64(1)) * _GOLDEN
    values ^= values >> np.uint64(32)
    values *= _powers(1024)[place & 1023]
    return Units(_mixed(np.add.reduceat(values, at)), starts, singles)


def _owner(ends: NDArray[np.int64], flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The document of each flagged character."""
    return np.searchsorted(ends, np.flatnonzero(flags), side="right").astype(np.int64)


def ngrams(units: Units, n: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Hashes of all n-grams of units that lie within a document (G,), and where each document's begin (D + 1,).

    hash(u_i .. u_{i+n-1}) = sum_k u_{i+k} * b^k mod 2^64, from differences of one running sum.
    """
    hashes, starts = units.hashes, units.starts
    lengths = np.maximum(np.diff(starts) - n + 1, 0)
    begins = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    if begins[-1] == 0:
        return np.zeros(0, np.uint64), begins
    size = 1 << max(12, int(len(hashes) + 1).bit_length())
    running = np.zeros(len(hashes) + 1, dtype=np.uint64)
    np.cumsum(hashes * _powers(size)[: len(hashes)], out=running[1:])
    windows = (running[n:] - running[:-n]) * _inverse_powers(size)[: len(hashes) - n + 1]
    within = np.arange(begins[-1]) + np.repeat(starts[:-1] - begins[:-1], lengths)
    return _mixed(windows[within]), begins

"""From sentences to word numbers: one pass over the text, numbers on disk, so that a corpus may be larger than memory.

Words get provisional numbers as they come, which go to a file; then the vocabulary is chosen, and a second pass over
the numbers alone gives each word its final one, most frequent first, and leaves the others out.

Legend: V words, C tokens, S sentences.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuyan.console import progress
from yuyan.errors import DataError
from yuyan.store import storage_errors

BLOCK = 1 << 22
"""Tokens that are held in memory."""


@dataclass(frozen=True)
class WordCorpus:
    """A text as word numbers, and what each number means."""

    words: list[str]
    """(V,) most frequent first; of equally frequent ones the earlier in the text."""
    counts: NDArray[np.int64]
    """(V,) how often each occurs."""
    tokens: NDArray[np.int32]
    """(C,) the text, without the words left out; a memory map where it was written to a folder."""
    starts: NDArray[np.int64]
    """(S + 1,) where each sentence begins, and C."""
    types: int
    """Different words that were met, with those left out."""
    met: int
    """Tokens that were met, with those left out."""


def encode(
    sentences: Iterable[list[str]], min_count: int, max_words: int | None = None, folder: Path | None = None
) -> WordCorpus:
    """Number the words of `sentences`; the numbers go to files in `folder`, or stay in memory without one.

    Raises DataError when fewer than two words are left, or no two of them stand in one sentence.
    """
    number: defaultdict[str, int] = defaultdict()
    number.default_factory = number.__len__
    first, lengths = _Store(folder, "met", "i"), array("i")
    held = array("i")
    with progress("reading") as bar:
        for sentence in sentences:
            held.extend(map(number.__getitem__, sentence))
            lengths.append(len(sentence))
            if len(held) >= BLOCK:
                first.add(held)
                held = array("i")
                bar.set(first.count, f"{first.count / 1e6:.0f} M words")
    first.add(held)
    raw = first.close()
    counts = _count(raw, len(number))
    remap, words, kept = _choose(list(number), counts, min_count, max_words)
    tokens, starts = _renumber(raw, np.frombuffer(lengths, np.int32), remap, folder)
    first.remove(raw)
    if not len(starts) or int(np.diff(starts).max(initial=0)) < 2:
        raise DataError("no two known words stand in one line, so nothing is near anything; put sentences on one line")
    return WordCorpus(words, kept, tokens, starts, len(number), len(raw))


def _count(raw: NDArray[np.int32], types: int) -> NDArray[np.int64]:
    counts = np.zeros(types, np.int64)
    for at in range(0, len(raw), BLOCK):
        counts += np.bincount(raw[at : at + BLOCK], minlength=types)
    return counts


def _choose(
    names: list[str], counts: NDArray[np.int64], min_count: int, max_words: int | None
) -> tuple[NDArray[np.int32], list[str], NDArray[np.int64]]:
    """(types,) the final number of each provisional one, -1 for none; the words and their counts."""
    if not names:
        raise DataError("there is no word in the text: nothing to find vectors for")
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= min_count][:max_words]
    if len(order) < 2:
        top = int(counts.argmax())
        if len(names) < 2:
            raise DataError(f"the only word in the text is {names[0]!r}; vectors need at least two")
        bounds = f"min_count {min_count}" + ("" if max_words is None else f", max_words {max_words}")
        remedy = "max_words higher" if counts[top] >= min_count and max_words == 1 else "min_count lower"
        raise DataError(
            f"{len(order) or 'no'} word is left of {len(names):,} ({bounds}); the most frequent, {names[top]!r}, occurs "
            f"{counts[top]:,} time{'s' if counts[top] > 1 else ''}; set {remedy}"
        )
    remap = np.full(len(names), -1, np.int32)
    remap[order] = np.arange(len(order), dtype=np.int32)
    return remap, [names[i] for i in order.tolist()], counts[order]


def _renumber(
    raw: NDArray[np.int32], lengths: NDArray[np.int32], remap: NDArray[np.int32], folder: Path | None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The text in final numbers and where its sentences start; sentences that are empty now are gone."""
    second = _Store(folder, "tokens", "i")
    ends = np.cumsum(lengths, dtype=np.int64)
    final = np.empty(len(ends), np.int64)
    done = at = 0
    for start in range(0, len(raw), BLOCK):
        ids = remap[raw[start : start + BLOCK]]
        known = np.cumsum(ids >= 0, dtype=np.int64)
        upto = int(np.searchsorted(ends, start + len(ids), side="right"))
        inside = ends[at:upto] - start
        final[at:upto] = done + np.where(inside > 0, known[np.maximum(inside, 1) - 1], 0)
        second.add(ids[ids >= 0])
        done, at = done + int(known[-1]), upto
    starts = np.concatenate([np.zeros(1, np.int64), final])
    return second.close(), starts[np.concatenate([[True], np.diff(starts) > 0])]


class _Store:
    """Numbers added in blocks, read back as one array: in a file of `folder`, or in memory."""

    def __init__(self, folder: Path | None, name: str, code: str):
        self.path = None if folder is None else folder / f"{name}.{code}32"
        self.file = None if self.path is None else self.path.open("wb")
        self.blocks: list[NDArray[np.int32]] = []
        self.count = 0

    def add(self, block: Any) -> None:
        self.count += len(block)
        if self.file is None or self.path is None:
            self.blocks.append(np.asarray(block, np.int32))
            return
        with storage_errors(self.path):
            self.file.write(np.ascontiguousarray(block, np.int32).tobytes())

    def close(self) -> NDArray[np.int32]:
        if self.file is None or self.path is None:
            return np.concatenate(self.blocks) if self.blocks else np.zeros(0, np.int32)
        with storage_errors(self.path):
            self.file.close()
        return np.memmap(self.path, np.int32, "r") if self.count else np.zeros(0, np.int32)

    def remove(self, mapped: NDArray[np.int32]) -> None:
        """Give the disk back; `mapped` must not be used any more."""
        del mapped
        if self.path is not None:
            self.path.unlink(missing_ok=True)

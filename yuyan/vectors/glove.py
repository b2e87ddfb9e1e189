"""GloVe (Pennington et al. 2014): count which words stand together, then fit the logarithms of the counts.

Counting: a hash table of pairs; when it is full it is written as a sorted run and begun again, and the runs are merged a
range of pairs at a time, so memory stays bounded whatever the corpus. The merged counts go into files by chance, each small
enough to be held, so that an epoch reads one after the other and still meets the pairs in no order.

Fitting: AdaGrad on f(X) (w.u + b + c - log X)^2 / 2 with f(X) = min(1, X / most)^power, both ways round for each pair.
Pairs come in an order drawn once, in pieces whose order is drawn for each epoch.

Legend: V words, D dimensions padded to a multiple of 16, C tokens, S sentences, N pairs (i <= j).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.compile import compiled
from yuyan.store import storage_errors

Pairs = NDArray[np.void]
PAIR = np.dtype([("i", np.int32), ("j", np.int32), ("count", np.float64)])
PADDING = 16
SLOT = 16
"""Bytes of a place in the hash table, and of a pair in a file."""


class Counted(NamedTuple):
    """How often words stand together: N pairs in files, or all in `held`."""

    files: list[Path]
    held: Pairs | None
    pairs: int

    def parts(self) -> Iterator[Pairs]:
        """The pairs, a part at a time."""
        if self.held is not None:
            yield self.held
        for file in self.files:
            yield np.fromfile(file, PAIR)


# ---------------------------------------------------------------- counting


@compiled
def count_pairs(
    tokens: Any, starts: Any, sentence: Any, at: Any, last: Any, window: Any, keys: Any, values: Any, used: Any
) -> Any:
    """Add 1/distance for each pair within `window`, from place `at` on, up to sentence `last` or a table 3/4 full.

    keys (slots,) int64, 0 for a free place, else i * 2**32 + j + 1 with i <= j; values (slots,) float64.
    Returns the sentence and the place to go on at, and the slots used. A word beside itself counts from both sides.
    """
    mask, full = np.uint64(len(keys) - 1), len(keys) * 3 // 4
    while sentence < last:
        while at < starts[sentence + 1]:
            if used >= full:
                return sentence, at, used
            word = np.int64(tokens[at])
            for near in range(max(starts[sentence], at - window), at):
                there = np.int64(tokens[near])
                key = (min(word, there) << 32) + max(word, there) + 1
                slot = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24)) & mask
                while keys[slot] != 0 and keys[slot] != key:
                    slot = (slot + np.uint64(1)) & mask
                if keys[slot] == 0:
                    keys[slot] = key
                    used += 1
                values[slot] += (2.0 if word == there else 1.0) / np.float64(at - near)
            at += 1
        sentence += 1
    return sentence, at, used


class Counter:
    """Counts pairs with at most `memory` bytes for the table, and about as much again while runs are merged."""

    def __init__(self, window: int, memory: int, folder: Path, seed: int = 0):
        slots = 1 << max(16, (memory // SLOT).bit_length() - 1)
        self.window, self.memory, self.folder, self.seed = window, memory, folder, seed
        self.keys, self.values = np.zeros(slots, np.int64), np.zeros(slots)
        self.used = 0
        self.runs: list[Path] = []

    def add(self, tokens: NDArray[np.int32], starts: NDArray[np.int64], first: int, last: int) -> None:
        """Count sentences first to last - 1."""
        sentence, at = first, int(starts[first])
        while sentence < last:
            sentence, at, self.used = count_pairs(
                tokens, starts, sentence, at, last, self.window, self.keys, self.values, self.used
            )
            if sentence < last:
                self._spill()

    def _sorted(self) -> Pairs:
        places = np.flatnonzero(self.keys)
        places = places[np.argsort(self.keys[places])]
        return _pairs(self.keys[places] - 1, self.values[places])

    def _spill(self) -> None:
        path = self.folder / f"run-{len(self.runs):05d}"
        with storage_errors(path):
            self._sorted().tofile(path)
        self.runs.append(path)
        self.keys[:] = 0
        self.values[:] = 0
        self.used = 0

    def close(self) -> Counted:
        """All pairs, each once."""
        if not self.runs:
            held = self._sorted()
            return Counted([], held[np.random.default_rng(self.seed).permutation(len(held))], len(held))
        if self.used:
            self._spill()
        del self.keys, self.values
        return self._merge()

    def _merge(self) -> Counted:
        """Merge the runs a range of pairs at a time, and deal the pairs out to files by chance."""
        runs = [np.memmap(path, PAIR, "r") for path in self.runs]
        size = sum(map(len, runs))
        room = max(1024, self.memory // SLOT // 4)  # sorting needs some copies
        ways = min(500, -(-size // room))
        draw = np.random.default_rng(self.seed)
        files = [self.folder / f"pairs-{way:05d}" for way in range(ways)]
        opened = [file.open("wb") for file in files]
        total = 0
        try:
            for block in _ranges(runs, room):
                both = np.concatenate(block)
                keys = (both["i"].astype(np.int64) << 32) + both["j"]
                order = np.argsort(keys, kind="stable")
                unique, begin = np.unique(keys[order], return_index=True)
                merged = _pairs(unique, np.add.reduceat(both["count"][order], begin))
                total += len(merged)
                way = draw.integers(0, ways, len(merged))
                for number, file in enumerate(opened):
                    with storage_errors(files[number]):
                        file.write(merged[way == number].tobytes())
        finally:
            for file in opened:
                file.close()
        del runs
        for path in self.runs:
            path.unlink()
        return Counted(files, None, total)


def _pairs(keys: NDArray[np.int64], values: NDArray[np.float64]) -> Pairs:
    pairs = np.empty(len(keys), PAIR)
    pairs["i"], pairs["j"], pairs["count"] = keys >> 32, keys & 0xFFFFFFFF, values
    return pairs


def _ranges(runs: Sequence[Pairs], room: int) -> Iterator[list[Pairs]]:
    """The sorted runs in slices by range of first word, together of about `room` pairs, more only for a single word."""
    firsts = [run["i"] for run in runs]
    words = 1 + max(int(first[-1]) for first in firsts)
    sizes = np.zeros(words, np.int64)
    for first in firsts:
        for at in range(0, len(first), room):
            sizes += np.bincount(first[at : at + room], minlength=words)
    begun = [0] * len(runs)
    held = 0
    for word in range(words):
        held += int(sizes[word])
        if word + 1 == words or held + sizes[word + 1] > room:
            ends = [int(np.searchsorted(first, word, side="right")) for first in firsts]
            yield [run[begin:end] for run, begin, end in zip(runs, begun, ends, strict=True)]
            begun, held = ends, 0


# ---------------------------------------------------------------- fitting


class Prepared(NamedTuple):
    """Pairs as the descent reads them: N words, contexts, logarithms of the counts, and weights f(X)."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    logs: NDArray[np.floating]
    shares: NDArray[np.floating]

    def cut(self, start: int, stop: int) -> Prepared:
        """Pairs start to stop - 1."""
        first, second, logs, shares = self
        return Prepared(first[start:stop], second[start:stop], logs[start:stop], shares[start:stop])


def prepared(pairs: Pairs, most: float, power: float, number: Any = np.float32) -> Prepared:
    """What does not change from epoch to epoch is computed once, before the descent."""
    counts = pairs["count"]
    first, second = (np.ascontiguousarray(pairs[name]) for name in ("i", "j"))
    shares = np.minimum(1.0, (counts / most) ** power)
    return Prepared(first, second, np.log(counts).astype(number), shares.astype(number))


def reader(counted: Counted, most: float, power: float, draw: np.random.Generator) -> Callable[[], Iterator[Prepared]]:
    """Each call reads all pairs, a file at a time and each in a new order; what is in memory is prepared only once."""
    if counted.held is not None:
        whole = prepared(counted.held, most, power)
        return lambda: iter((whole,))
    return lambda: (prepared(part[draw.permutation(len(part))], most, power) for part in counted.parts())


@compiled
def fit_pairs(first: Any, second: Any, logs: Any, shares: Any, table: Any, biases: Any, rate: Any) -> Any:
    """AdaGrad over the pairs as they come; returns the summed cost before each step, f (w.u + b + c - log X)^2 / 2.

    table (V, 4, D) has for each word its vector, the sums of squares of that, its vector as a context, and the sums of
    squares of that, side by side; biases (V, 4) likewise. rate is a number of their type.
    """
    cost = 0.0
    for place in range(len(first)):
        i, j = first[place], second[place]
        cost += one_way(i, j, logs[place], shares[place], table, biases, rate)
        if i != j:
            cost += one_way(j, i, logs[place], shares[place], table, biases, rate)
    return cost


@compiled
def one_way(i: Any, j: Any, log: Any, share: Any, table: Any, biases: Any, rate: Any) -> Any:
    """One step for word i with context j.

    The sums are of the squares of rate times gradient, as in the authors' program: with those of the gradients alone
    (Duchi et al. 2011) the steps would shrink to a twentieth, at the rate of 0.05, and the fit stay far from its end.
    """
    word, word_sum, context, context_sum = table[i, 0], table[i, 1], table[j, 2], table[j, 3]
    dot = rate * 0
    for d in range(word.shape[0]):
        dot += word[d] * context[d]
    difference = dot + biases[i, 0] + biases[j, 2] - log
    step = rate * share * difference
    for d in range(word.shape[0]):
        w, u = word[d], context[d]
        slope_w, slope_u = step * u, step * w
        sum_w, sum_u = word_sum[d], context_sum[d]
        word[d] = w - slope_w / np.sqrt(sum_w)
        context[d] = u - slope_u / np.sqrt(sum_u)
        word_sum[d] = sum_w + slope_w * slope_w
        context_sum[d] = sum_u + slope_u * slope_u
    biases[i, 0] -= step / np.sqrt(biases[i, 1])
    biases[j, 2] -= step / np.sqrt(biases[j, 3])
    biases[i, 1] += step * step
    biases[j, 3] += step * step
    return 0.5 * share * difference * difference


def first_weights(words: int, dimensions: int, draw: np.random.Generator) -> tuple[Any, Any]:
    """Table and biases: even within half a unit over the dimensions, and the sums of squares at 1."""
    wide = -(-dimensions // PADDING) * PADDING
    table = np.zeros((words, 4, wide), np.float32)
    biases = np.ones((words, 4), np.float32)
    table[:, 1::2] = 1
    for at in (0, 2):
        table[:, at, :dimensions] = (draw.random((words, dimensions), np.float32) - 0.5) / dimensions
        biases[:, at] = (draw.random(words, np.float32) - 0.5) / dimensions
    return table, biases

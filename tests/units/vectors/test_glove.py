"""GloVe: counts against counting by hand, in memory and through files; cost and step against the formula in float64."""

from __future__ import annotations

from collections import Counter as Tally
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yuyan.vectors import Glove, VectorsConfig
from yuyan.vectors.corpus import encode
from yuyan.vectors.glove import PAIR, Counted, Counter, fit_pairs, prepared, reader
from yuyan.vectors.train import fit


def by_hand(tokens: Any, starts: Any, window: int) -> dict[tuple[int, int], float]:
    counts: Tally[tuple[int, int]] = Tally()
    for begin, end in pairwise(starts.tolist()):
        line = tokens[begin:end].tolist()
        for i, word in enumerate(line):
            for j in range(max(0, i - window), min(len(line), i + window + 1)):
                if i != j and word <= line[j]:
                    counts[word, line[j]] += 1 / abs(i - j)
    return dict(counts)


def read(counted: Counted) -> dict[tuple[int, int], float]:
    rows = np.concatenate(list(counted.parts()))
    assert len(rows) == counted.pairs
    pairs = {(int(i), int(j)): float(count) for i, j, count in rows}
    assert len(pairs) == len(rows), "a pair is there twice"
    return pairs


def test_counts_of_a_small_text(tmp_path: Path) -> None:
    tokens, starts = np.array([0, 1, 1, 2, 0, 2, 2], np.int32), np.array([0, 5, 7])
    counter = Counter(2, 0, tmp_path)
    counter.add(tokens, starts, 0, 2)
    assert read(counter.close()) == pytest.approx(by_hand(tokens, starts, 2))


def test_counts_do_not_depend_on_memory(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    tokens, starts = draw.integers(0, 3000, 9000).astype(np.int32), np.array([0, 7, 4000, 9000])
    wanted = by_hand(tokens, starts, 8)
    for memory, files in ((1 << 26, 0), (0, 1)):  # 0: the least there is, which overflows here
        counter = Counter(8, memory, tmp_path)
        counter.add(tokens, starts, 0, 2)
        counter.add(tokens, starts, 2, 3)
        assert bool(counter.runs) == bool(files)
        counted = counter.close()
        assert (len(counted.files) > 1) == bool(files)
        assert read(counted) == pytest.approx(wanted, rel=1e-12)


def drawn(words: int, size: int) -> tuple[Any, Any]:
    """Table (V, 4, D) and biases (V, 4) in float64, N(0, 0.3), with sums of squares from 1 on."""
    draw = np.random.default_rng(1)
    table, biases = draw.normal(0, 0.3, (words, 4, size)), draw.normal(0, 0.3, (words, 4))
    table[:, 1::2], biases[:, 1::2] = 1 + table[:, 1::2] ** 2, 1 + biases[:, 1::2] ** 2
    return table, biases


def test_cost_and_steps_are_the_formulas() -> None:
    """AdaGrad as the authors' program has it, written out for pairs that share words, one of them with itself, and on both
    sides of `most`; the cost is the paper's (equation 8)."""
    rate, most = 0.3, 10.0
    pairs = np.array([(1, 3, 3.0), (0, 3, 30.0), (2, 2, 8.0), (1, 3, 0.5)], PAIR)
    table, biases = drawn(5, 16)
    wanted, bias = table.copy(), biases.copy()
    cost = 0.0
    for i, j, count in pairs.tolist():
        for a, b in {(i, j): 0, (j, i): 0}:
            weight = min(1.0, (count / most) ** 0.75)
            miss = wanted[a, 0] @ wanted[b, 2] + bias[a, 0] + bias[b, 2] - np.log(count)
            cost += weight * miss**2 / 2
            slopes = [
                (wanted, a, 0, wanted[b, 2].copy()),
                (wanted, b, 2, wanted[a, 0].copy()),
                (bias, a, 0, 1.0),
                (bias, b, 2, 1.0),
            ]
            for where, word, side, other in slopes:
                step = rate * weight * miss * other
                where[word, side] -= step / np.sqrt(where[word, side + 1])
                where[word, side + 1] += step**2
    told = fit_pairs(*prepared(pairs, most, 0.75, np.float64), table, biases, rate)
    assert told == pytest.approx(cost, abs=1e-9)
    np.testing.assert_allclose(table, wanted, atol=1e-9)
    np.testing.assert_allclose(biases, bias, atol=1e-9)


def test_pairs_in_files_are_read_as_those_in_memory(tmp_path: Path) -> None:
    pairs = np.array([(i, i + k, 1.0 + i * k) for i in range(40) for k in range(3)], PAIR)
    files = [tmp_path / "a", tmp_path / "b"]
    for file, some in zip(files, (pairs[:50], pairs[50:]), strict=True):
        some.tofile(file)
    draw = np.random.default_rng(0)
    from_files = reader(Counted(files, None, len(pairs)), 10, 0.75, draw)
    held = next(reader(Counted([], pairs, len(pairs)), 10, 0.75, draw)())
    orders = []
    for _ in range(2):
        rows = np.concatenate([np.array(part) for part in from_files()], axis=1)
        orders.append(rows[:2].T.tolist())
        np.testing.assert_array_equal(rows[:, np.lexsort(rows[1::-1])], np.array(held))
    assert orders[0] != orders[1]


def test_words_with_the_same_company_are_near(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    worlds = [[f"{letter}{i}" for letter in pair for i in range(5)] for pair in ("ab", "xy")]
    corpus = encode(([str(w) for w in draw.choice(worlds[i % 2], 8)] for i in range(400)), 1)
    config = VectorsConfig(model=Glove(window=3, epochs=20), dimensions=8, threads=1)
    fitted, again = fit(corpus, config, tmp_path), fit(corpus, config, tmp_path)
    assert {word[0] for word, _ in fitted.vectors.like("a1", 4)} <= {"a", "b"}
    assert fitted.losses[-1] < fitted.losses[0]
    assert (fitted.vectors.matrix == again.vectors.matrix).all()

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
from yuyan.vectors.glove import Counted, Counter, fit_pairs
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


def weights_of(words: int, size: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    weights = (*(draw.normal(0, 0.3, (words, size)) for _ in range(2)), *(draw.normal(0, 0.3, words) for _ in range(2)))
    return weights, tuple(np.ones_like(each) for each in weights)


def test_cost_and_step_are_the_papers() -> None:
    """One pair, both ways round; the pair is beyond `most` one time, so its weight is 1."""
    for count in (3.0, 30.0):
        (w, u, b, c), squares = weights_of(5, 16)
        weight, cost = min(1.0, (count / 10) ** 0.75), 0.0
        wanted = [each.copy() for each in (w, u, b, c)]
        sums = [np.ones_like(each) for each in wanted]
        for i, j in ((1, 3), (3, 1)):
            miss = wanted[0][i] @ wanted[1][j] + wanted[2][i] + wanted[3][j] - np.log(count)
            cost += 0.5 * weight * miss**2
            slopes = [weight * miss * wanted[1][j], weight * miss * wanted[0][i], weight * miss, weight * miss]
            for each, total, row, slope in zip(wanted, sums, (i, j, i, j), slopes, strict=True):
                each[row] -= 0.05 * slope / np.sqrt(total[row])
                total[row] += slope**2
        told = fit_pairs(
            np.array([1], np.int32), np.array([3], np.int32), np.array([count]), np.array([0]), (w, u, b, c), squares,
            0.05, 10.0, 0.75,
        )  # fmt: skip
        assert told == pytest.approx(cost, abs=1e-9)
        for made, right in zip((w, u, b, c), wanted, strict=True):
            np.testing.assert_allclose(made, right, atol=1e-12)


def test_words_with_the_same_company_are_near(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    worlds = [[f"{letter}{i}" for letter in pair for i in range(5)] for pair in ("ab", "xy")]
    corpus = encode(([str(w) for w in draw.choice(worlds[i % 2], 8)] for i in range(400)), 1)
    config = VectorsConfig(model=Glove(window=3, epochs=20), dimensions=8, threads=1)
    fitted, again = fit(corpus, config, tmp_path), fit(corpus, config, tmp_path)
    assert {word[0] for word, _ in fitted.vectors.like("a1", 4)} <= {"a", "b"}
    assert fitted.losses[-1] < fitted.losses[0]
    assert (fitted.vectors.matrix == again.vectors.matrix).all()

"""Spearman's correlation and the interval of a share against what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yuyan.metrics import share_interval, spearman, spearman_interval


def test_against_scipy_with_many_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    for _ in range(20):
        first = draw.integers(0, 6, 30).astype(float)
        second = first + draw.integers(0, 8, 30)
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-12)


def test_only_the_order_counts() -> None:
    values = np.array([3.0, 1.0, 2.0, 10.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1) and spearman(values, -values) == pytest.approx(-1)
    assert math.isnan(spearman(values, np.ones(4))) and math.isnan(spearman(np.zeros(0), np.zeros(0)))
    assert math.isnan(spearman_interval(values[:2], values[:2]).low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, hits, width = np.random.default_rng(1), 0, 0.0
    for trial in range(100):
        both = draw.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 100)
        low, high = spearman_interval(both[:, 0], both[:, 1], draws=200, seed=trial)
        hits += low <= 6 / math.pi * math.asin(0.25) <= high  # Spearman's of a normal pair with correlation 0.5
        width += (high - low) / 100
    assert hits >= 88 and width < 0.35  # 3.9 standard errors are 0.30


def test_the_interval_of_a_share_is_never_empty() -> None:
    low, high = share_interval(0, 12)
    assert low == 0 and high == pytest.approx(0.2425, abs=1e-3)
    low, high = share_interval(50, 100)
    assert (low, high) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))
    assert math.isnan(share_interval(0, 0).low)

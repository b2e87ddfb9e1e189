"""Rank correlation (Spearman 1904), with a bootstrap interval over the pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yuyan.metrics.interval import DRAWS, Interval, resampled


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The correlation of the ranks of two (N,) lists, equal values sharing the mean of their ranks; NaN if one is constant."""
    return _pearson(ranks(first), ranks(second))


def spearman_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Where `spearman` would lie on other pairs of the same kind; (nan, nan) for fewer than three."""
    count = len(first)
    if count < 3:
        return Interval(float("nan"), float("nan"))

    def value(drawn: NDArray[np.int64]) -> float:
        return spearman(np.repeat(first, drawn), np.repeat(second, drawn))

    return resampled(count, value, level=level, draws=draws, seed=seed)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) the place of each value in ascending order from 1; equal values have the mean of their places."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    places: NDArray[np.float64] = (last - (counts - 1) / 2)[which]
    return places


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    x, y = first - first.mean() if len(first) else first, second - second.mean() if len(second) else second
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")

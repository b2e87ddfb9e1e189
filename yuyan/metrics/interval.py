"""How far a score would move on other text of the same kind: the bootstrap over documents (Efron 1979).

Tokens of one document are not independent, documents nearly are; so documents are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 1000


class Interval(NamedTuple):
    """The middle 95 % of the bootstrap distribution."""

    low: float
    high: float


def ratio_interval(
    numerators: np.ndarray, denominators: np.ndarray, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The interval of sum(numerators) / sum(denominators), both (documents,).

    One document has no interval, nor have denominators of nothing but 0: (nan, nan).
    """
    if not denominators.any():
        return Interval(float("nan"), float("nan"))
    return resampled(
        len(numerators), lambda drawn: _ratio(drawn, numerators, denominators), level=level, draws=draws, seed=seed
    )


def difference_interval(
    one: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of the ratio of `other` less that of `one`, each (numerators, denominators) of the same documents.

    Paired: every draw takes the same documents of both, so what makes a document hard for both falls out.
    """
    count = len(one[0])
    assert count == len(other[0])
    return resampled(
        count, lambda drawn: _ratio(drawn, *other) - _ratio(drawn, *one), level=level, draws=draws, seed=seed
    )


def paired_interval(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Interval | None:
    """`difference_interval` of (numerator, denominator) document by document; None where these are not the same documents."""
    a, b = (np.array(each, np.float64).reshape(-1, 2).T for each in (one, other))
    if a.shape != b.shape or not a.size or not np.array_equal(a[1], b[1]):
        return None
    return difference_interval((a[0], a[1]), (b[0], b[1]))


def _ratio(drawn: np.ndarray, numerators: np.ndarray, denominators: np.ndarray) -> float:
    return float(drawn @ numerators) / max(float(drawn @ denominators), 1e-300)


def resampled(
    count: int, value: Callable[[np.ndarray], float], *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The interval of any score of `count` examples: `value` gets how often each is drawn, (count,).

    Draws of which the score is not a number are left out, as of a correlation of equal values. (nan, nan) if none is left,
    for fewer than two examples, and without draws.
    """
    if count < 2 or draws < 1:
        return Interval(float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    values = [value(np.bincount(random.integers(0, count, count), minlength=count)) for _ in range(draws)]
    if not np.isfinite(values).any():
        return Interval(float("nan"), float("nan"))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def share_interval(right: int, count: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927): also of none and of all it says how little a few questions tell."""
    if not count:
        return Interval(float("nan"), float("nan"))
    z = 1.959964
    middle = (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * (right * (count - right) / count + z * z / 4) ** 0.5
    return Interval(max(0.0, middle - half), min(1.0, middle + half))

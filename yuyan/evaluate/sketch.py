"""Curves on a terminal: each a letter, on a grid of characters with its ends written at the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from yuyan.evaluate.quantities import finite, significant
from yuyan.evaluate.scale import Point

WIDTH, HEIGHT = 64, 14


def sketch(curves: Mapping[str, Sequence[Point]], across: str, *, width: int = WIDTH, height: int = HEIGHT) -> str:
    """The curves, whose names begin with the letter that draws them, over `across`; nothing where there is no point.

    Where two curves meet, the later one is seen.
    """
    usable = {name: _finite(points) for name, points in curves.items()}
    everything = [point for points in usable.values() for point in points]
    if not everything:
        return ""
    xs, ys = [x for x, _ in everything], [y for _, y in everything]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    grid = [[" "] * width for _ in range(height)]
    for name, points in usable.items():
        for x, y in _filled(points, (right - left) / width):
            column = _place(x, left, right, width)
            grid[height - 1 - _place(y, low, high, height)][column] = name[0]
    names = {0: significant(high), height - 1: significant(low)}
    margin = max(map(len, names.values()))
    lines = [f"{names.get(row, ''):>{margin}} |{''.join(cells).rstrip()}" for row, cells in enumerate(grid)]
    ends = f"{significant(left)}{significant(right):>{max(1, width - len(significant(left)))}}"
    return "\n".join([*lines, " " * margin + " +" + "-" * width, " " * margin + "  " + ends + f"  {across}"])


def _finite(points: Sequence[Point]) -> list[Point]:
    pairs = ((finite(x), finite(y)) for x, y in points)
    return sorted((x, y) for x, y in pairs if x is not None and y is not None)


def _filled(points: Sequence[Point], step: float) -> list[Point]:
    """The points, and those on the straight lines between them, not further apart than a column."""
    found = list(points[:1])
    for (x0, y0), (x1, y1) in pairwise(points):
        count = int((x1 - x0) / step) + 1 if step > 0 else 1
        found += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count + 1)]
    return found


def _place(value: float, low: float, high: float, count: int) -> int:
    return min(count - 1, int(count * (value - low) / (high - low))) if high > low else 0

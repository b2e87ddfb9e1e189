"""A ladder on a terminal: the table's columns and rows, and a curve as one line of characters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from yuyan.evaluate.quantities import count, decimal, duration, finite, interval, significant, size
from yuyan.evaluate.verdict import title_of
from yuyan.evaluate.wording import language_of, name_of, word

_BLOCKS = "▁▂▃▄▅▆▇█"


def ladder_table(ladder: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for `yuyan.console.table`; the best rung is marked with its word."""
    language = language_of(ladder)
    rungs = list(ladder.get("rungs") or ())
    units = {str(rung.get("perplexity_unit") or "token") for rung in rungs}
    one_unit = name_of(next(iter(units)), language) if len(units) == 1 else ""
    columns = [
        word("rung", language),
        word("bits_per_byte", language),
        word("interval", language),
        word("perplexity_per", language).format(unit=one_unit) if one_unit else word("perplexity", language),
        *(word(key, language) for key in ("parameters", "tokens_seen", "epochs", "seconds")),
        *(word(key, language) for key in ("tokens_per_second", "bytes_on_disk")),
    ]
    rows = [_row(rung, rung.get("name") == ladder.get("best"), bool(one_unit), language) for rung in rungs]
    return columns, rows


def _row(rung: Mapping[str, Any], best: bool, one_unit: bool, language: str) -> list[str]:
    perplexity = significant(rung.get("perplexity"))
    if not one_unit:
        perplexity += f" /{name_of(rung.get('perplexity_unit') or 'token', language)}"
    return [
        title_of(rung) + (f" ({word('best', language)})" if best else ""),
        decimal(rung.get("bits_per_byte")),
        interval(rung.get("interval")),
        perplexity,
        count(rung.get("parameters")),
        count(rung.get("tokens_seen")),
        significant(rung.get("epochs"), 3),
        duration(rung.get("seconds"), language),
        count(rung.get("tokens_per_second")),
        size(rung.get("bytes_on_disk")),
    ]


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as `width` block characters at most, lowest to highest; a stretch without numbers is a space."""
    numbers = [finite(value) for value in values]
    if len(numbers) > width:
        cuts = [index * len(numbers) // width for index in range(width + 1)]
        numbers = [_mean(numbers[a:b]) for a, b in pairwise(cuts)]
    real = [number for number in numbers if number is not None]
    if not real:
        return " " * len(numbers)
    low, high = min(real), max(real)
    return "".join(" " if number is None else _BLOCKS[_level(number, low, high)] for number in numbers)


def _mean(values: Sequence[float | None]) -> float | None:
    real = [value for value in values if value is not None]
    return math.fsum(value / len(real) for value in real) if real else None


def _level(value: float, low: float, high: float) -> int:
    """0 to 7; halved first, because `high - low` may overflow."""
    span = high / 2 - low / 2
    return min(7, int(8 * ((value / 2 - low / 2) / span))) if span > 0 else 3


def curve(xs: Sequence[float], ys: Sequence[float], *, width: int = 64, height: int = 10) -> list[str]:
    """A curve of finite numbers as lines of characters, its highest and lowest value written at the left.

    Each column shows the mean of the points that fall into it.
    """
    assert len(xs) == len(ys) > 0
    span = (xs[-1] - xs[0]) or 1.0
    columns: list[list[float]] = [[] for _ in range(width)]
    for x, y in zip(xs, ys, strict=True):
        columns[min(width - 1, int(width * (x - xs[0]) / span))].append(y)
    means = [math.fsum(column) / len(column) if column else None for column in columns]
    real = [mean for mean in means if mean is not None]
    low, high = min(real), max(real)
    level = [None if mean is None else round((height - 1) * (mean - low) / ((high - low) or 1.0)) for mean in means]
    lines = []
    for row in reversed(range(height)):
        label = significant(high) if row == height - 1 else significant(low) if row == 0 else ""
        lines.append(f"{label:>8} ┤" + "".join("•" if at == row else " " for at in level).rstrip())
    return [*lines, " " * 9 + "└" + "─" * width]

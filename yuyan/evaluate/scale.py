"""From values to places on paper: the domain of an axis, its ticks, and curves thin enough to draw.

A domain shows where the values are: a few far outliers do not flatten the rest, they are counted and left outside.
Ticks stand on round numbers (1, 2, 5 times a power of ten; for time, what a clock has).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from yuyan.evaluate.quantities import duration, finite, scientific

LARGEST = 1e300  # beyond this, differences overflow; below its inverse, quotients do
_CLOCK = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400)

TICKS = 5  # about so many on an axis

Point = tuple[float, float]


class Tick(NamedTuple):
    """A place between 0 and 1, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A domain `low` < `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of `value`: 0 at `low`, 1 at `high`."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the domain (up to rounding)."""
        return not (self.log and value <= 0) and -1e-9 <= self.at(value) <= 1 + 1e-9


def clamp(value: object) -> float:
    """A number that can be drawn, or NaN."""
    number = finite(value)
    if number is None:
        return math.nan
    return max(-LARGEST, min(LARGEST, number)) if abs(number) > 1 / LARGEST else 0.0


def x_scale(values: Iterable[float], *, log: bool = False) -> Scale:
    """From the least to the largest value; never empty."""
    usable = [v for v in map(clamp, values) if not math.isnan(v) and (v > 0 or not log)]
    if not usable:
        return Scale(1.0, 10.0, True) if log else Scale(0.0, 1.0)
    low, high = min(usable), max(usable)
    if log:
        return Scale(low, high if high > low * 1.001 else low * 10, True)
    if 0 <= low <= 0.2 * high:
        low = 0.0
    return Scale(low - _room(low), high + _room(high)) if _alike(low, high) else Scale(low, high)


def y_scale(values: Iterable[float], always: Iterable[float] = ()) -> Scale:
    """The domain of a vertical axis that ends on ticks; `always` must be inside, outliers among `values` need not."""
    usable = sorted(v for v in map(clamp, values) if not math.isnan(v))
    kept = [v for v in map(clamp, always) if not math.isnan(v)]
    if usable:
        kept += _without_outliers(usable)
    if not kept:
        return Scale(0.0, 1.0)
    low, high = min(kept), max(kept)
    if _alike(low, high):
        low, high = (0.0, high + _room(high)) if high > 0 else (low - _room(low), high + _room(high))
    elif 0 <= low < 0.3 * high:
        low = 0.0
    while True:  # until widening to round ends no longer changes the step between ticks
        step = _step((high - low) / TICKS)
        low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
        if _step((high - low) / TICKS) <= step * 1.001:
            return Scale(low, high)


def _alike(low: float, high: float) -> bool:
    """Whether two numbers differ by no more than rounding, which no ticks could tell apart."""
    return high - low <= 1e-9 * max(abs(low), abs(high))


def _room(value: float) -> float:
    return abs(value) * 0.1 or 1.0


def _without_outliers(ordered: Sequence[float]) -> tuple[float, float]:
    """The ends of sorted values, moved in where under 5 % of them lie far outside the rest."""
    low, high = ordered[0], ordered[-1]
    if len(ordered) < 20:
        return low, high
    inner_low, inner_high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    spread = inner_high - inner_low
    if spread > 0 and high - inner_high > 3 * spread:
        high = inner_high + 0.15 * spread
    if spread > 0 and inner_low - low > 3 * spread:
        low = inner_low - 0.15 * spread
    return low, high


# ---------------------------------------------------------------- ticks


def ticks(
    scale: Scale, wanted: int = TICKS, *, time: bool = False, whole: bool = False, language: str = "en"
) -> list[Tick]:
    """About `wanted` ticks on round values inside the domain, fewer if they are to be `whole` numbers."""
    values = _log_values(scale, wanted, time) if scale.log else _linear_values(scale, wanted, time)
    if whole:
        values = [value for value in values if value == round(value)]
    if time:
        return [Tick(scale.at(v), duration(v, language)) for v in values]
    step = min((b - a for a, b in pairwise(values)), default=abs(scale.high) or 1.0)
    return [Tick(scale.at(v), tick_label(v, v if scale.log and v > 0 else step)) for v in values]


def _linear_values(scale: Scale, wanted: int, time: bool) -> list[float]:
    span = scale.high - scale.low
    step = _step(span / max(wanted, 1))
    if time and 1 <= span / max(wanted, 1) <= _CLOCK[-1]:
        step = next(float(s) for s in _CLOCK if s >= span / max(wanted, 1))
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [i * step for i in range(first, min(last, first + 50) + 1)]


def _log_values(scale: Scale, wanted: int, time: bool) -> list[float]:
    if time:
        values = [s for s in (0.01, 0.1, 0.2, 0.5, *map(float, _CLOCK)) if scale.low <= s <= scale.high]
    else:
        decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
        values = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
        values = [v for v in values if scale.holds(v)]
    if len(values) > wanted + 1:
        values = values[:: math.ceil(len(values) / (wanted + 1))]
    return values if len(values) > 1 else [scale.low, scale.high]


def _step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `raw`."""
    if not raw > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next((digit * power for digit in (1, 2, 2.5, 5) if digit * power >= raw * (1 - 1e-9)), 10 * power)


def tick_label(value: float, step: float) -> str:
    """`value` with the decimals that tell it from its neighbours `step` away."""
    if abs(value) < 1e-9 * abs(step):
        return "0"
    if abs(value) >= 1e12 or abs(step) < 1e-3:
        return scientific(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            unit = 1e3 if suffix == "k" else limit
            return f"{value / unit:.{_decimals(step / unit)}f}{suffix}"
    return f"{value:,.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    """How many decimals a multiple of `step` needs, at most six."""
    return next((digits for digits in range(6) if abs(step * 10**digits - round(step * 10**digits)) < 1e-6), 6)


# ---------------------------------------------------------------- curves


def thin(points: Sequence[Point], limit: int = 1000) -> list[Point]:
    """At most about `limit` points of a curve in order: the first, the last, and the extremes of each stretch between.

    A stretch that holds a NaN keeps one, so that a gap stays a gap.
    """
    if len(points) <= limit:
        return list(points)
    stretches = max(1, (limit - 2) // 3)
    inner = len(points) - 2
    chosen = {0, len(points) - 1}
    for index in range(stretches):
        stretch = range(1 + index * inner // stretches, 1 + (index + 1) * inner // stretches)
        real = [i for i in stretch if not math.isnan(points[i][1])]
        if len(real) < len(stretch):
            chosen.add(next(i for i in stretch if math.isnan(points[i][1])))
        if real:
            chosen.add(min(real, key=lambda i: points[i][1]))
            chosen.add(max(real, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(chosen)]


def smooth(points: Sequence[Point], block: int) -> list[Point]:
    """The mean place and the mean value of each `block` points; NaN is left out of the means."""
    result: list[Point] = []
    for start in range(0, len(points), block):
        real = [p for p in points[start : start + block] if not math.isnan(p[1])]
        if real:
            result.append((math.fsum(x for x, _ in real) / len(real), math.fsum(y / len(real) for _, y in real)))
    return result

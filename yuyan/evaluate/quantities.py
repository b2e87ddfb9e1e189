"""Numbers as a reader wants them: counts, sizes, durations and scores in a few characters.

Every function takes any number, NaN and infinity included, and gives `MISSING` for what cannot be shown, so that a
report never fails because a run did. `language` is "en" or "zh".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MISSING = "–"
_UNITS = {"en": ("s", "min", "h"), "zh": ("秒", "分", "小时")}


def finite(value: object) -> float | None:
    """`value` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def decimal(value: object, digits: int = 3) -> str:
    """A score with a fixed number of decimals; scientific where it is too large for that."""
    number = finite(value)
    if number is None:
        return MISSING
    return f"{number:.{digits}f}" if abs(number) < 1e4 else scientific(number)


def significant(value: object, digits: int = 4) -> str:
    """A number with so many significant digits: 31.25, 1,234, 1.2e9, 0.0003."""
    number = finite(value)
    if number is None:
        return MISSING
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e7:
        return scientific(number, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scientific(number: float, digits: int = 3) -> str:
    """1.2e9 rather than 1.20e+09."""
    if not math.isfinite(number):
        return MISSING
    mantissa, _, exponent = f"{number:.{digits - 1}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def count(value: object) -> str:
    """A whole number: exact below ten thousand, then three digits and a suffix: 9,876, 12.3k, 4.56M."""
    number = finite(value)
    if number is None:
        return MISSING
    if abs(number) < 9_999.5:
        return f"{number:,.0f}"
    return _scaled(number, ("k", "M", "G", "T"), "")


def size(value: object) -> str:
    """Bytes: 812 B, 1.24 MB (decimal units)."""
    number = finite(value)
    if number is None:
        return MISSING
    if abs(number) < 999.5:
        return f"{number:,.0f} B"
    return _scaled(number, ("kB", "MB", "GB", "TB"), " ")


def _scaled(number: float, suffixes: Sequence[str], space: str) -> str:
    scale = 1.0
    for suffix in suffixes:
        scale *= 1000
        if abs(number) < 999.5 * scale or suffix == suffixes[-1]:
            share = number / scale
            if abs(share) >= 1e4:
                return scientific(number)
            return f"{share:.{max(0, 2 - math.floor(math.log10(max(abs(share), 1))))}f}{space}{suffix}"
    raise AssertionError("suffixes is not empty")


def duration(seconds: object, language: str = "en") -> str:
    """0.42 s, 8.5 s, 42 s, 12 min 5 s, 3 h 12 min; in Chinese 12 分 5 秒."""
    number = finite(seconds)
    if number is None or number < 0:
        return MISSING
    second, minute, hour = _UNITS[language]
    if number < 59.5:
        return f"{significant(number, 2)} {second}"
    if number < 7170:
        minutes, rest = divmod(round(number), 60)
        return f"{minutes} {minute}" + (f" {rest} {second}" if rest else "")
    hours, rest = divmod(round(number / 60), 60)
    return f"{significant(hours, 6)} {hour}" + (f" {rest} {minute}" if rest and hours < 1000 else "")


def percent(share: object, digits: int = 1, language: str = "en") -> str:
    """0.256 as 25.6 %; in Chinese without the space."""
    number = finite(share)
    if number is None:
        return MISSING
    shown = f"{100 * number:.{digits}f}" if abs(number) < 1e6 else scientific(100 * number)
    return f"{shown}{'%' if language == 'zh' else ' %'}".replace("-", "−")


def interval(bounds: object, digits: int = 3) -> str:
    """[1.95, 2.01] as 1.950–2.010."""
    pair = bounds_of(bounds)
    return MISSING if pair is None else f"{decimal(pair[0], digits)}–{decimal(pair[1], digits)}"


def bounds_of(value: object) -> tuple[float, float] | None:
    """The two ends of an interval, or None where it has none."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = finite(value[0]), finite(value[1])
    return None if low is None or high is None else (low, high)


def plain(value: object) -> str:
    """Anything that JSON can say, as one short line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else significant(value)
    if isinstance(value, float):
        return significant(value, 6)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or MISSING
    return str(value)

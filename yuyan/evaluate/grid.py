"""Tables as plain data: what stands in each cell, and by which number it is sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yuyan.config import flatten
from yuyan.evaluate.quantities import (
    MISSING,
    count,
    decimal,
    duration,
    finite,
    interval,
    percent,
    plain,
    significant,
    size,
)
from yuyan.evaluate.wording import SHARES, name_of

_COUNTS = {"tokens", "tokens_seen", "parameters", "tokens_per_second", "documents", "words", "characters"}
_SCORES = {"bits_per_byte", "loss"}


class Cell(NamedTuple):
    """What is written, the number it is sorted by, the exact value for the pointer, and a mark."""

    text: str
    sort: float | None = None
    exact: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; `texts` are the columns that hold words, `best` is the row to stand out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: frozenset[int] = field(default_factory=frozenset)
    best: int | None = None


def counted(value: object) -> Cell:
    """A whole number, short, with all its digits for the pointer."""
    number = finite(value)
    text = count(value)
    return Cell(text, number, f"{number:,.0f}" if number is not None and f"{number:,.0f}" != text else "")


def field_text(key: str, value: object, language: str) -> str:
    """A value as its name suggests: `seconds` as a duration, `bytes` as a size, a score with its decimals."""
    last = key.rpartition(".")[2]
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return name_of("yes" if value else "no", language)
    if last == "interval" or last.endswith("_interval"):
        return interval(value)
    if finite(value) is None:
        return plain(value)
    if last == "seconds" or last.endswith("_seconds") or last == "seconds_total":
        return duration(value, language)
    if last == "bytes" or last.endswith("_bytes") or last == "bytes_on_disk":
        return size(value)
    if last.endswith(SHARES):
        return percent(value, 1, language)
    if last in _SCORES:
        return decimal(value)
    if last in _COUNTS:
        return count(value)
    return significant(value, 4) if isinstance(value, float) else plain(value)


def field_name(key: str, language: str) -> str:
    """A dotted key as words."""
    text = " · ".join(name_of(part, language) for part in key.split("."))
    return text[:1].upper() + text[1:]


def entries(mapping: object, language: str) -> list[tuple[str, str]]:
    """A nested mapping as (name, text); anything else as one unnamed text, nothing as none."""
    if not isinstance(mapping, Mapping):
        return [] if mapping in (None, [], "") else [("", plain(mapping))]
    return [(field_name(key, language), field_text(key, value, language)) for key, value in flatten(mapping).items()]


def records_grid(records: Iterable[Mapping[str, Any]], language: str, leave_out: frozenset[str] = frozenset()) -> Grid:
    """One row a record, one column for every key that any of them has."""
    flat = [flatten({k: v for k, v in record.items() if k not in leave_out}) for record in records]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    rows = [
        [Cell(field_text(key, record.get(key), language), finite(record.get(key))) for key in keys] for record in flat
    ]
    texts = {i for i, key in enumerate(keys) if any(isinstance(record.get(key), str) for record in flat)}
    return Grid([field_name(key, language) for key in keys], rows, frozenset(texts))

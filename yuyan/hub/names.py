"""Names of tensors in other people's files: one table a family, read in both directions.

A row says what they call a tensor, what we call it, and the change between, which has an inverse. In a name `{i}` stands
for a number, `{p}` for `weight` or `bias`, `{a}` for one of `qkvo`, `{m}` for `gate`, `up` or `down`. A name that no row
knows is an error, so a file is understood wholly or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from yuyan.errors import DataError

PLACEHOLDERS = {"i": r"\d+", "p": "weight|bias", "a": "[qkvo]", "m": "gate|up|down"}


# ---------------------------------------------------------------- changes


class Same:
    """One tensor, as it is."""

    def load(self, theirs: Tensor) -> list[Tensor]:
        """Theirs as ours."""
        return [theirs]

    def save(self, ours: Sequence[Tensor]) -> Tensor:
        """Ours as theirs."""
        return ours[0]


SAME = Same()


class Transposed(Same):
    """A weight stored with its inputs first, as GPT-2's; biases are untouched."""

    def load(self, theirs: Tensor) -> list[Tensor]:
        return [theirs.t().contiguous() if theirs.ndim == 2 else theirs]

    def save(self, ours: Sequence[Tensor]) -> Tensor:
        return self.load(ours[0])[0]


class Stacked(Same):
    """Several of our tensors, of one shape, on top of each other in theirs."""

    def __init__(self, parts: int):
        self.parts = parts

    def load(self, theirs: Tensor) -> list[Tensor]:
        if theirs.shape[0] % self.parts:
            raise DataError(f"{tuple(theirs.shape)} cannot be cut into {self.parts} equal parts")
        return [part.contiguous() for part in theirs.chunk(self.parts)]

    def save(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(ours))


class TransposedThirds(Stacked):
    """GPT-2's queries, keys and values, side by side in one transposed weight."""

    def __init__(self) -> None:
        super().__init__(3)

    def load(self, theirs: Tensor) -> list[Tensor]:
        return super().load(theirs.t() if theirs.ndim == 2 else theirs)

    def save(self, ours: Sequence[Tensor]) -> Tensor:
        joined = super().save(ours)
        return joined.t().contiguous() if joined.ndim == 2 else joined


# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class Row:
    """One tensor of theirs and what it is with us; with no name of ours it is known and left out."""

    theirs: str
    ours: str | tuple[str, ...] = ()
    change: Same = SAME
    tied: str | None = None
    """Ours, when ours has no tensor of its own here: theirs must then equal this one."""
    left_out: str | None = None
    """What a tensor is that we have no use for; None for a buffer that holds nothing learned."""

    @property
    def names(self) -> tuple[str, ...]:
        """Our names."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    expression = re.escape(pattern)
    for name, choices in PLACEHOLDERS.items():
        expression = expression.replace(rf"\{{{name}\}}", f"(?P<{name}>{choices})", 1)
        expression = expression.replace(rf"\{{{name}\}}", f"(?P={name})")
    return re.compile(expression)


def find_theirs(table: Sequence[Row], name: str) -> tuple[Row, dict[str, str]] | None:
    """The row that knows their `name`, and what its placeholders stand for."""
    for row in table:
        if match := _regex(row.theirs).fullmatch(name):
            return row, match.groupdict()
    return None


def find_ours(table: Sequence[Row], name: str) -> tuple[Row, int, dict[str, str]] | None:
    """The row that makes our `name`, which of its names that is, and what its placeholders stand for."""
    for row in table:
        for index, pattern in enumerate(row.names):
            if match := _regex(pattern).fullmatch(name):
                return row, index, match.groupdict()
    return None


def their_names(table: Sequence[Row], ours: Mapping[str, object]) -> dict[str, tuple[Row, tuple[str, ...]]]:
    """Each name of theirs that our tensors make, with its row and our names. Raises DataError for one of no row."""
    made: dict[str, tuple[Row, tuple[str, ...]]] = {}
    for name in ours:
        found = find_ours(table, name)
        if found is None:
            raise DataError(f"{name}: this family has no name for it")
        row, index, values = found
        if index == 0:
            made[row.theirs.format(**values)] = (row, tuple(n.format(**values) for n in row.names))
    return made


def list_names(names: Sequence[str], most: int = 5) -> str:
    """A few names and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

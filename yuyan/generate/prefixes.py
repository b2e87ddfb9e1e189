"""Beginnings of texts that were read before: a later text that begins alike reads only what is new.

What is kept are keys and values of attention, so this serves decoders that are attention stacks; others find nothing
and read everything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

SHORTEST = 8
"""A shorter common beginning is not worth copying."""


class Prefix(Protocol):
    """What was remembered of the first tokens of a text."""

    def first(self, length: int) -> Any:
        """The same of its first `length` tokens."""
        ...


class Rows(Protocol):
    """What remembers the rows of a generation."""

    def prefix(self, row: int, length: int) -> Prefix | None:
        """A copy of what `row` remembers of its first `length` tokens; None where that is not kept token by token."""
        ...


class Prefixes:
    """The most recently used texts, `tokens` tokens of them in all."""

    def __init__(self, tokens: int):
        self.limit = tokens
        self.reused = 0
        """How many tokens did not have to be read again."""
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def __len__(self) -> int:
        """How many tokens are kept."""
        return sum(map(len, self._kept))

    def find(self, ids: Sequence[int]) -> Any:
        """The longest beginning of `ids` that is kept, or None; at least the last token is always left to be read."""
        best, length = None, SHORTEST - 1
        for kept in self._kept:
            if (common := min(_common(kept, ids), len(ids) - 1)) > length:
                best, length = kept, common
        if best is None:
            return None
        self._kept.move_to_end(best)
        self.reused += length
        return self._kept[best].first(length)

    def keep(self, ids: Sequence[int], cache: Rows, row: int) -> None:
        """Keep what `row` remembers of its text `ids`, and drop what was not used for longest."""
        key = tuple(ids)
        if not SHORTEST <= len(key) <= self.limit or key in self._kept:
            return
        prefix = cache.prefix(row, len(key))
        if prefix is None:
            return
        for shorter in [kept for kept in self._kept if kept == key[: len(kept)]]:
            del self._kept[shorter]
        self._kept[key] = prefix
        while len(self) > self.limit:
            self._kept.popitem(last=False)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

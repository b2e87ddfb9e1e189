"""Rows that are records with named parts: a prompt and its answer, a query and its documents.

A row is a mapping of names to bare token ids (a list of them where a record may have several). Each epoch puts the records
in a fresh order, a function of (seed, epoch, index); nothing is joined or cut, and a batch is padded.

Records whose questions are longer than the network reads are counted before the run begins: an error, or cut by choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from yuyan.corpus.batch import Example
from yuyan.corpus.order import ROWS, permutation
from yuyan.errors import DataError

Item = dict[str, Any]
"""Bare ids (T,) by name, or a list of such."""
Make = Callable[[Item, np.random.Generator], Example]
TooLong = Literal["error", "truncate"]


class Records:
    """Rows by (epoch, index). `length` is how many tokens the longest question may have. Raises DataError without any."""

    def __init__(self, items: Sequence[Item], length: int, *, seed: int):
        if not items:
            raise DataError("there are no records")
        self._items, self.length, self.seed = list(items), length, seed
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def batch(self) -> None:
        """Their order is the same for any."""

    def __len__(self) -> int:
        return len(self._items)

    def rows(self, epoch: int, indices: ArrayLike) -> list[Item]:
        """The records at some places of an epoch."""
        order = self._order
        if order is None or order[0] != epoch:
            order = (epoch, permutation(len(self._items), self.seed, epoch, ROWS))
            self._order = order  # one assignment: safe beside a reader in another thread
        return [self._items[i] for i in order[1][np.asarray(indices, dtype=np.int64)].tolist()]


class Lengths(NamedTuple):
    """What was found about the lengths of some records' questions, in tokens."""

    records: int
    longest: int
    too_long: int


def fitted(items: Sequence[Item], make: Make, length: int, policy: TooLong, what: str) -> tuple[list[Item], Lengths]:
    """The items, none of whose questions is longer than `length`, and how long they were.

    Cut are first the beginning of the prompt, then the ends of all that is too long still. Raises DataError if any is too
    long and must not be cut, or cannot be; `what` says which records these are.
    """
    chance = np.random.Generator(np.random.Philox(0))  # which parts are hidden does not change lengths
    sizes = np.array([question_length(make(item, chance)) for item in items], np.int64)
    over = np.flatnonzero(sizes > length)
    lengths = Lengths(len(items), int(sizes.max(initial=0)), len(over))
    if not len(over):
        return list(items), lengths
    if policy == "error":
        raise DataError(
            f"{what}: {len(over):,} of {len(items):,} records are longer than train.context={length} (the longest has "
            f"{lengths.longest:,} tokens): give train.context={lengths.longest}, or cut them with "
            "data.records.too_long=truncate"
        )
    kept = list(items)
    for i in over.tolist():
        kept[i] = _cut(items[i], make, length, what)
    return kept, lengths


def question_length(example: Mapping[str, np.ndarray]) -> int:
    """Tokens of the longest text that a network has to read at once for this example."""
    return max(int(array.shape[-1]) for name, array in example.items() if name.endswith("input_ids"))


def _cut(item: Item, make: Make, length: int, what: str) -> Item:
    chance = np.random.Generator(np.random.Philox(0))
    if "labels" in item:
        raise DataError(f"{what}: frames and labels cannot be cut, they belong together; give a longer train.context")
    item = dict(item)
    if "prompt" in item and (over := question_length(make(item, chance)) - length) > 0:
        item["prompt"] = item["prompt"][over:]
    while (over := question_length(make(item, chance)) - length) > 0:
        longest = max(_texts(item), key=lambda text: len(text.ids))
        if len(longest.ids) <= over:
            raise DataError(f"{what}: train.context={length} has no room for anything but control tokens")
        longest.put(item, longest.ids[: len(longest.ids) - over])
    return item


class _Text(NamedTuple):
    """One text of an item, and where it is."""

    name: str
    number: int | None
    ids: np.ndarray

    def put(self, item: Item, ids: np.ndarray) -> None:
        if self.number is None:
            item[self.name] = ids
        else:
            item[self.name] = [ids if i == self.number else other for i, other in enumerate(item[self.name])]


def _texts(item: Item) -> list[_Text]:
    return [
        text
        for name, value in item.items()
        for text in (
            [_Text(name, i, ids) for i, ids in enumerate(value)]
            if isinstance(value, list)
            else [_Text(name, None, value)]
        )
    ]

"""A cache whose rows have lengths of their own: rows come, go, are copied, and forget their latest tokens.

Where `Cache` serves a batch of texts that begin and grow together, a `RowCache` serves a generation: its rows are texts
of any length, at any place of theirs. The keys of row b fill the slots 0 to lengths[b] - 1; what lies behind them is
never seen. New tokens are padded at the end, and `expect` says how many of them are real in each row.

Shapes: B rows, T new tokens, S slots in use, H heads, K head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.errors import InputError
from yuyan.nn.cache import NoCache, Pair
from yuyan.nn.mask import Places


class Prefix(NamedTuple):
    """What one row remembers of its first tokens."""

    length: int
    pairs: dict[object, Pair]
    """Keys and values (H, length, K) of each attention."""

    def first(self, length: int) -> Prefix:
        """The same of its first `length` tokens."""
        return Prefix(length, {owner: (k[:, :length], v[:, :length]) for owner, (k, v) in self.pairs.items()})


class Mark(NamedTuple):
    """Where a cache stood, for `rewind`."""

    lengths: list[int]
    states: dict[object, Any]


@dataclass
class _Buffer:
    """Keys and values with room to grow, (B, H, capacity, K); zero where nothing was written."""

    pair: Pair


@dataclass
class _Fixed:
    """Keys and values of a memory that does not grow: (B, ..., S, K)."""

    pair: Pair


class RowCache(NoCache):
    """Rows with lengths of their own; see the module."""

    def __init__(self, rows: int = 0, step: int = 256):
        self.lengths = [0] * rows
        self.slots: dict[object, Any] = {}
        self._counts: list[int] | None = None
        self._step = step

    # ------------------------------------------------------------ what the parts of a model ask

    def expect(self, counts: Sequence[int]) -> None:
        """The next call gives row b `counts[b]` real tokens, then padding."""
        assert len(counts) == len(self.lengths)
        self._counts = list(counts)

    def place(
        self,
        shape: tuple[int, int],
        device: torch.device,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Places:
        """Where the new tokens stand. `expect` says which are real, so `attention_mask` is not looked at."""
        if position_ids is not None or document_ids is not None:
            raise InputError("position_ids, document_ids: rows of a generation are texts from their beginnings")
        counts = self._new(shape[1])
        ends = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        span = max(ends)
        key = torch.arange(span, device=device)[None]
        if len(set(self.lengths)) == 1 and min(counts) == shape[1]:
            query = key[:, self.lengths[0] :]
            return Places(self.lengths[0], query, True, False, query, key)
        steps = torch.arange(shape[1], device=device)
        # The places of padding are cut to those that exist; nobody reads what is computed there.
        query = (torch.tensor(self.lengths, device=device)[:, None] + steps).clamp(max=span - 1)
        real = key < torch.tensor(ends, device=device)[:, None]
        fed = steps < torch.tensor(counts, device=device)[:, None]
        return Places(span - shape[1], query, False, False, query, key, real, fed=fed)

    def append(self, owner: object, key: Tensor, value: Tensor) -> Pair:
        count = key.shape[2]
        end = max(self.lengths) + count
        buffer = self.slots.get(owner)
        if buffer is None or buffer.pair[0].shape[2] < end:
            buffer = self.slots[owner] = self._grown(buffer, (key, value), end)
        span = max(length + new for length, new in zip(self.lengths, self._new(count), strict=True))
        for room, new in zip(buffer.pair, (key, value), strict=True):
            if len(set(self.lengths)) == 1:
                room[:, :, self.lengths[0] : end] = new
            else:
                places = torch.tensor(self.lengths, device=key.device)[:, None] + torch.arange(count, device=key.device)
                room[torch.arange(len(self.lengths), device=key.device)[:, None], :, places] = new.transpose(1, 2)
        return buffer.pair[0][:, :, :span], buffer.pair[1][:, :, :span]

    def once(self, owner: object, make: Callable[[], Pair]) -> Pair:
        if owner not in self.slots:
            self.slots[owner] = _Fixed(make())
        pair: Pair = self.slots[owner].pair
        return pair

    def recall(self, owner: object) -> Any:
        return self.slots.get(owner)

    def swap(self, owner: object, state: Any) -> Any:
        before = self.slots.get(owner)
        self.slots[owner] = state
        return before

    def advance(self, count: int) -> None:
        self.lengths = [length + new for length, new in zip(self.lengths, self._new(count), strict=True)]
        self._counts = None

    def _new(self, count: int) -> list[int]:
        return [count] * len(self.lengths) if self._counts is None else self._counts

    def _grown(self, buffer: _Buffer | None, new: Pair, end: int) -> _Buffer:
        room = -(-end // self._step) * self._step
        if buffer is None:
            return _Buffer(_both(new, lambda x: x.new_zeros(x.shape[0], x.shape[1], room, x.shape[3])))
        room = max(room, buffer.pair[0].shape[2] * 3 // 2)  # so that copying stays linear in the length of the text
        return _Buffer(_both(buffer.pair, lambda x: _padded(x, room)))

    # ------------------------------------------------------------ what a generation asks

    @property
    def forgets(self) -> bool:
        """Whether `forget` is possible: not where a part keeps a state instead of its tokens."""
        return all(isinstance(slot, _Buffer | _Fixed) for slot in self.slots.values())

    def select(self, rows: Sequence[int]) -> None:
        """Make row i what row `rows[i]` was; their number may change."""
        if list(rows) == list(range(len(self.lengths))):
            return
        index = torch.tensor(list(rows), dtype=torch.long)
        self.lengths = [self.lengths[row] for row in rows]
        self.slots = {
            owner: _mapped(slot, lambda x: x.index_select(0, index.to(x.device))) for owner, slot in self.slots.items()
        }

    def join(self, other: RowCache) -> None:
        """Put the rows of `other`, filled by the same model, behind these."""
        if not self.lengths:
            self.lengths, self.slots = other.lengths, other.slots
            return
        self.lengths = self.lengths + other.lengths
        self.slots = {owner: _joined(slot, other.slots[owner]) for owner, slot in self.slots.items()}

    def forget(self, counts: Sequence[int]) -> None:
        """Forget the last `counts[b]` tokens of each row."""
        assert self.forgets or not any(counts), "a state cannot forget"
        self.lengths = [length - count for length, count in zip(self.lengths, counts, strict=True)]

    def mark(self) -> Mark:
        """Remember this place; what is written behind it can be undone by `rewind`."""
        return Mark(list(self.lengths), {o: slot for o, slot in self.slots.items() if not isinstance(slot, _Buffer)})

    def rewind(self, mark: Mark) -> None:
        """Go back to where `mark` was taken from the same rows."""
        self.lengths = list(mark.lengths)
        self.slots |= mark.states

    def prefix(self, row: int, length: int) -> Prefix | None:
        """A copy of what `row` remembers of its first `length` tokens; None where that is not kept token by token."""
        if not self.slots or not all(isinstance(slot, _Buffer) for slot in self.slots.values()):
            return None
        return Prefix(
            length, {o: _both(slot.pair, lambda x: x[row, :, :length].clone()) for o, slot in self.slots.items()}
        )

    def begin_with(self, prefixes: Sequence[Prefix | None]) -> None:
        """Give each row of an empty cache what it begins with."""
        self.lengths = [0 if prefix is None else prefix.length for prefix in prefixes]
        if not (some := [prefix for prefix in prefixes if prefix is not None]):
            return
        room = -(-max(self.lengths) // self._step) * self._step
        for owner, pair in some[0].pairs.items():
            heads = _both(pair, lambda x: x.new_zeros(len(prefixes), x.shape[0], room, x.shape[2]))
            for row, prefix in enumerate(prefixes):
                if prefix is not None:
                    for whole, part in zip(heads, prefix.pairs[owner], strict=True):
                        whole[row, :, : prefix.length] = part
            self.slots[owner] = _Buffer(heads)


def _both(pair: Pair, change: Callable[[Tensor], Tensor]) -> Pair:
    return change(pair[0]), change(pair[1])


def _padded(x: Tensor, room: int) -> Tensor:
    """With zeros behind the last axis but one, up to `room`."""
    return F.pad(x, (0, 0, 0, room - x.shape[-2]))


def _mapped(slot: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A slot with every tensor changed."""
    if isinstance(slot, Tensor):
        return change(slot)
    if isinstance(slot, _Buffer | _Fixed):
        return type(slot)(_both(slot.pair, change))
    if isinstance(slot, tuple):
        return tuple(_mapped(part, change) for part in slot)
    assert slot is None, type(slot)
    return None


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, _Buffer | _Fixed):
        room = max(a.pair[0].shape[-2], b.pair[0].shape[-2])
        (one, two), (three, four) = (_both(slot.pair, lambda x: _padded(x, room)) for slot in (a, b))
        return type(a)((torch.cat((one, three)), torch.cat((two, four))))
    if isinstance(a, tuple):
        return tuple(_joined(x, y) for x, y in zip(a, b, strict=True))
    assert isinstance(a, Tensor), type(a)
    return torch.cat((a, b))

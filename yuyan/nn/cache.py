"""What a decoder remembers between calls: keys and values, recurrent states, who is padding.

`NoCache` is the null object for training: nothing is remembered and no part asks whether there is a cache. `Cache`
keeps a slot for each owner (an attention, a recurrent layer, an n-gram table). Every tensor in a slot has the batch as
its first axis, so that `reorder` can follow a beam search without knowing the owners.

Shapes: B batch, T new tokens, S tokens in all, H heads, K head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from yuyan.errors import InputError
from yuyan.nn.mask import Places, as_mask, has_holes, position_ids_of, positions_in_documents

Pair = tuple[Tensor, Tensor]


class NoCache:
    """Training: nothing is remembered."""

    length: int = 0
    """How many tokens each row has been given, padding included."""

    def append(self, owner: object, key: Tensor, value: Tensor) -> Pair:
        """All keys and values so far, (B, H, S, K), after the new ones (B, H, T, K)."""
        return key, value

    def once(self, owner: object, make: Callable[[], Pair]) -> Pair:
        """What `make` gives the first time: keys and values of a memory that does not grow."""
        return make()

    def recall(self, owner: object) -> Any:
        """What the owner left in its slot, or None."""
        return None

    def swap(self, owner: object, state: Any) -> Any:
        """Leave `state` (tensors with the batch first, or tuples of them) in the owner's slot; what was there before."""
        return None

    def place(
        self,
        shape: tuple[int, int],
        device: torch.device,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Places:
        """Where the (B, T) tokens of this call stand."""
        real = as_mask(attention_mask)
        slots = torch.arange(shape[1], device=device)[None]
        chosen = position_ids is not None
        uniform = not chosen and real is None and document_ids is None
        if position_ids is None:
            if document_ids is not None:
                position_ids = positions_in_documents(document_ids)
            else:
                position_ids = slots if real is None else position_ids_of(real)
        if real is not None and has_holes(real):
            slots = position_ids_of(real)
        return Places(0, position_ids, uniform, chosen, slots, slots, real, document_ids)

    def advance(self, count: int) -> None:
        """Say that `count` tokens were read by every part."""


@dataclass
class _Buffer:
    """Keys and values with room to grow: (B, H, capacity, K)."""

    key: Tensor
    value: Tensor


class Carried(NoCache):
    """Training on rows that continue each other: the state after a row is the state before the one that goes on with it.

    No gradient passes from one to the next: back-propagation through time is truncated (Williams & Peng 1990). The `rows`
    of an update come in their order, whatever the micro-batches; after `rows_per_epoch` rows the text begins anew. It
    serves the one side of a network without an encoder.
    """

    def __init__(self, rows: int, rows_per_epoch: int):
        self.rows, self.rows_per_epoch = rows, rows_per_epoch
        self.seen = 0
        """Rows read so far."""
        self.state: tuple[Tensor, ...] | None = None
        """(rows, ...) each; None at the beginning of the text."""
        self._count = 0

    def place(
        self,
        shape: tuple[int, int],
        device: torch.device,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Places:
        self._count = shape[0]
        return super().place(shape, device, attention_mask, position_ids, document_ids)

    def _part(self) -> slice:
        first = self.seen % self.rows
        return slice(first, first + self._count)

    def recall(self, owner: object) -> Any:
        return None if self.state is None else tuple(part[self._part()].clone() for part in self.state)

    def swap(self, owner: object, state: Any) -> Any:
        if self.state is None:
            self.state = tuple(part.new_zeros(self.rows, *part.shape[1:]) for part in state)
        for kept, new in zip(self.state, state, strict=True):
            kept[self._part()] = new.detach()
        return None

    def advance(self, count: int) -> None:
        self.seen += self._count
        if self.seen % self.rows_per_epoch == 0:
            self.forget()

    def forget(self) -> None:
        """Begin anew with the next row."""
        self.state = None


class Cache(NoCache):
    """Decoding: what was seen so far. Make one for each batch of texts; it grows as needed."""

    def __init__(self, capacity: int = 0, step: int = 256):
        self.length = 0
        self.slots: dict[object, Any] = {}
        self._capacity, self._step = capacity, step
        self._rows: int | None = None
        self._real: Tensor | None = None  # (B, length) once some token was padding
        self._holes = False

    def append(self, owner: object, key: Tensor, value: Tensor) -> Pair:
        end = self.length + key.shape[2]
        buffer = self.slots.get(owner)
        if buffer is None or buffer.key.shape[2] < end:
            buffer = self.slots[owner] = self._grow(buffer, key, value, end)
        buffer.key[:, :, self.length : end] = key
        buffer.value[:, :, self.length : end] = value
        return buffer.key[:, :, :end], buffer.value[:, :, :end]

    def _grow(self, buffer: _Buffer | None, key: Tensor, value: Tensor, end: int) -> _Buffer:
        room = max(self._capacity, -(-end // self._step) * self._step)
        if buffer is not None:  # half as much again, so that copying stays linear in the length of the text
            room = max(room, buffer.key.shape[2] * 3 // 2)
        new = _Buffer(*(x.new_empty(x.shape[0], x.shape[1], room, x.shape[3]) for x in (key, value)))
        if buffer is not None:
            new.key[:, :, : self.length] = buffer.key[:, :, : self.length]
            new.value[:, :, : self.length] = buffer.value[:, :, : self.length]
        return new

    def once(self, owner: object, make: Callable[[], Pair]) -> Pair:
        if owner not in self.slots:
            self.slots[owner] = make()
        pair: Pair = self.slots[owner]
        return pair

    def recall(self, owner: object) -> Any:
        return self.slots.get(owner)

    def swap(self, owner: object, state: Any) -> Any:
        before = self.slots.get(owner)
        self.slots[owner] = state
        return before

    def place(
        self,
        shape: tuple[int, int],
        device: torch.device,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Places:
        if document_ids is not None:
            raise InputError("document_ids: a packed row cannot be decoded with a cache; give one text a row")
        batch, count = shape
        if self._rows not in (None, batch):
            raise InputError(f"input_ids: {batch} rows, but the cache was filled with {self._rows}")
        self._rows = batch
        real = self._extend(batch, count, device, as_mask(attention_mask))
        query = torch.arange(self.length, self.length + count, device=device)[None]
        key = torch.arange(self.length + count, device=device)[None]
        chosen = position_ids is not None
        uniform = not chosen and real is None
        if real is not None:
            among = position_ids_of(real)
            position_ids = among[:, self.length :] if position_ids is None else position_ids
            if self._holes:
                query, key = among[:, self.length :], among
        positions = query if position_ids is None else position_ids
        return Places(self.length, positions, uniform, chosen, query, key, real)

    def _extend(self, batch: int, count: int, device: torch.device, new: Tensor | None) -> Tensor | None:
        """The marks of all tokens so far with the new ones, (B, length + count), or None when all are real."""
        if self._real is None and new is None:
            return None
        old = torch.ones(batch, self.length, dtype=torch.bool, device=device) if self._real is None else self._real
        given = new is not None
        new = torch.ones(batch, count, dtype=torch.bool, device=device) if new is None else new
        self._real = torch.cat((old[:, : self.length], new), 1)
        # Marks without padding cannot make a hole, unless a row was padded at its end before.
        if given or not self._holes:
            self._holes = has_holes(self._real)
        return self._real

    def advance(self, count: int) -> None:
        self.length += count

    def reorder(self, indices: Tensor) -> None:
        """Make row i what row `indices[i]` was (beam search); the number of rows may change."""
        self._rows = len(indices)
        self._real = None if self._real is None else self._real[indices]
        for owner, state in self.slots.items():
            self.slots[owner] = self._select(state, indices)

    def _select(self, state: Any, indices: Tensor) -> Any:
        if isinstance(state, Tensor):
            return state.index_select(0, indices)
        if isinstance(state, _Buffer):
            return _Buffer(state.key.index_select(0, indices), state.value.index_select(0, indices))
        if isinstance(state, tuple):
            return tuple(self._select(part, indices) for part in state)
        assert state is None, type(state)
        return None

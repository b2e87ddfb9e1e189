"""The `Forward` of a packed decoder: rows of texts of any length through the compiled step, on as many threads as torch has.

Each row has a slot of the memory for keys and values. A row that goes on keeps its slot, whatever place it takes among
the rows; only one whose parent goes on several times (a beam, samples of one prompt) is copied, and a free slot is used again.

M tokens of one pass, R rows, D hidden size, V vocabulary, S places of a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from yuyan.generate.forward import Feed
from yuyan.generate.packed import PackedDecoder
from yuyan.generate.prefixes import Prefixes
from yuyan.kernels import given, head, pieces, step
from yuyan.kernels.pack import PANEL
from yuyan.kernels.product import ROW_BLOCK
from yuyan.kernels.vector import tile_address

AT_ONCE = 96  # tokens of one pass: enough for fast products, and few enough for their numbers to stay in the cache
GROWTH = 64


class Kept(NamedTuple):
    """What one row remembers of its first tokens."""

    length: int
    keys: np.ndarray
    """(layers, G, S/16, words, 16)."""
    values: np.ndarray
    """(layers, G, K/16, words, 16)."""

    def first(self, length: int) -> Kept:
        """The same of its first `length` tokens; what lies behind them is never seen."""
        return self._replace(length=length)


class Slots:
    """Keys and values of rows, in the layout of packed weights."""

    def __init__(self, layers: int, groups: int, head: int, depth: int):
        self.layers, self.groups, self.head, self.depth = layers, groups, head, depth
        self.room, self.lengths = 0, dict[int, int]()
        """Places of each slot, and how many tokens each slot in use has."""
        self._make(0, 0)

    def _make(self, slots: int, room: int) -> None:
        self.keys = np.zeros((self.layers, slots, self.groups, room // 16, self.head // self.depth, 16), np.int32)
        self.values = np.zeros((self.layers, slots, self.groups, self.head // 16, room // self.depth, 16), np.int32)
        self.room = room

    def take(self) -> int:
        """A free slot, empty."""
        count = self.keys.shape[1]
        free = next((slot for slot in range(count) if slot not in self.lengths), None)
        if free is None:
            self._resize(count * 3 // 2 + 1, self.room)
            free = count
        self.lengths[free] = 0
        return free

    def expect(self, more: int) -> None:
        """Make room for so many more rows at once."""
        if (count := len(self.lengths) + more) > self.keys.shape[1]:
            self._resize(count, self.room)

    def need(self, room: int) -> None:
        """Make every slot at least so long."""
        if room > self.room:
            wanted = -(-room // GROWTH) * GROWTH
            self._resize(self.keys.shape[1], max(wanted, self.room * 3 // 2 // PANEL * PANEL))

    def _resize(self, slots: int, room: int) -> None:
        keys, values = self.keys, self.values
        self._make(slots, room)
        if keys.size:
            self.keys[:, : keys.shape[1], :, : keys.shape[3]] = keys
            self.values[:, : values.shape[1], :, :, : values.shape[4]] = values

    def _used(self, length: int) -> tuple[int, int]:
        """Blocks of keys and words of values that so many tokens take."""
        return -(-length // 16), -(-length // self.depth)

    def copy(self, slot: int) -> int:
        """Another slot with the same."""
        new, length = self.take(), self.lengths[slot]
        blocks, words = self._used(length)
        self.keys[:, new, :, :blocks] = self.keys[:, slot, :, :blocks]
        self.values[:, new, :, :, :words] = self.values[:, slot, :, :, :words]
        self.lengths[new] = length
        return new

    def prefix(self, row: int, length: int) -> Kept:
        """A copy of the first tokens of a slot."""
        blocks, words = self._used(length)
        return Kept(length, self.keys[:, row, :, :blocks].copy(), self.values[:, row, :, :, :words].copy())

    def begin_with(self, slot: int, kept: Kept) -> None:
        """Fill an empty slot."""
        self.need(kept.length)
        blocks, words = self._used(kept.length)
        self.keys[:, slot, :, :blocks] = kept.keys[:, :, :blocks]
        self.values[:, slot, :, :, :words] = kept.values[:, :, :, :words]
        self.lengths[slot] = kept.length


class _Part(NamedTuple):
    """Tokens of one row that are read in one pass."""

    row: int
    tokens: Sequence[int]
    slot: int
    past: int


class FastForward:
    """See the module. `prefixes` keeps beginnings of texts for later ones."""

    def __init__(self, decoder: PackedDecoder, prefixes: Prefixes | None = None):
        self.decoder, self.prefixes = decoder, prefixes
        self.sizes, self.factors = decoder.sizes()
        self.sizes[given.TILE] = tile_address()
        depth = 1 if decoder.weights.kind == "float32" else 2
        self.slots = Slots(
            int(self.sizes[given.LAYERS]), int(self.sizes[given.GROUPS]), int(self.sizes[given.HEAD_PAD]), depth
        )
        self._slot_of: list[int] = []
        self._turns = decoder.turns(1)
        self._room: _Room | None = None
        self.threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._asked: list[Future[None] | None] = [None] * (self.threads - 1)

    def lengths(self) -> list[int]:
        return [self.slots.lengths[slot] for slot in self._slot_of]

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Torch has one thread: its others would spin beside ours, and it would wait for one that has no processor."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def feed(self, feeds: Sequence[Feed]) -> list[Tensor]:
        assert all(feed.source is None for feed in feeds), "no encoder"
        self._slot_of, skipped = self._places(feeds)
        parts = [
            _Part(row, feed.tokens[skip:], slot, self.slots.lengths[slot])
            for row, (feed, slot, skip) in enumerate(zip(feeds, self._slot_of, skipped, strict=True))
        ]
        self.slots.need(max(part.past + len(part.tokens) for part in parts))
        hidden: list[list[Tensor]] = [[] for _ in feeds]
        for some in _passes(parts):
            read = self._read(some)
            for part, states in zip(some, torch.split(read, [len(part.tokens) for part in some]), strict=True):
                hidden[part.row].append(states)
                self.slots.lengths[part.slot] = part.past + len(part.tokens)
        if self.prefixes is not None:
            for feed, slot in zip(feeds, self._slot_of, strict=True):
                if feed.parent is None:
                    self.prefixes.keep(feed.tokens, self.slots, slot)
        return [states[0] if len(states) == 1 else torch.cat(states) for states in hidden]

    def score(self, hidden: Tensor) -> Tensor:
        matrix = self.decoder.table[-1]
        x = np.zeros((len(hidden), matrix[2]), np.float32)
        scaled = hidden if self.decoder.score_scale == 1.0 else hidden * self.decoder.score_scale
        x[:, : hidden.shape[1]] = scaled.numpy()
        out = np.empty((len(hidden), matrix[1]), np.float32)
        room, tile = self._room_for(len(hidden), 0), tile_address()
        self._on_threads(
            lambda thread, states: head.score_rows(
                thread, states, self.threads, tile, matrix, self.decoder.memory, x, room.left, room.own,
                self.decoder.head_bias, out,
            ),
            2,
        )  # fmt: skip
        return torch.from_numpy(out)[:, : self.decoder.config.vocab_size]

    def _places(self, feeds: Sequence[Feed]) -> tuple[list[int], list[int]]:
        """The slot of each feed, and how many of its tokens are known already."""
        parents = [self._slot_of[feed.parent] for feed in feeds if feed.parent is not None]
        for slot in set(self.slots.lengths) - set(parents):
            del self.slots.lengths[slot]
        self.slots.expect(sum(feed.parent is None for feed in feeds))
        slots, skipped, taken = [], [0] * len(feeds), set[int]()
        for number, feed in enumerate(feeds):
            if feed.parent is None:
                slot = self.slots.take()
                found = None if self.prefixes is None or feed.whole else self.prefixes.find(feed.tokens)
                if found is not None:
                    self.slots.begin_with(slot, found)
                    skipped[number] = found.length
            else:
                slot = self._slot_of[feed.parent]
                if slot in taken:  # the first of its children took it, and has forgotten nothing yet
                    slot = self.slots.copy(slot)
                taken.add(slot)
            slots.append(slot)
        for slot, feed in zip(slots, feeds, strict=True):
            self.slots.lengths[slot] -= feed.forget
        return slots, skipped

    def _read(self, parts: Sequence[_Part]) -> Tensor:
        """(M, D) hidden states of the tokens of one pass."""
        counts = [len(part.tokens) for part in parts]
        firsts = np.cumsum([0, *counts[:-1]])
        rows = np.array(
            [[first, len(part.tokens), part.past, part.slot] for first, part in zip(firsts, parts, strict=True)]
        )
        positions = np.concatenate([np.arange(part.past, part.past + len(part.tokens)) for part in parts])
        ids = torch.tensor([token for part in parts for token in part.tokens])
        decoder = self.decoder
        x = decoder.embed(ids, torch.from_numpy(positions)).numpy()
        longest = int(positions.max()) + 1
        if len(self._turns[0]) < longest and self.sizes[given.ROTARY]:
            self._turns = decoder.turns(longest)
        room = self._room_for(len(ids), longest)
        x = np.ascontiguousarray(x)
        sizes = self.sizes.copy()
        sizes[given.TOKENS], sizes[given.ROOM], sizes[given.THREADS] = len(ids), self.slots.room, self.threads
        model = given.Model(self.factors, decoder.table, decoder.memory, decoder.places, decoder.vectors)
        used = given.Room(
            room.work[: len(ids)],
            room.wide[: len(ids)],
            room.left,
            room.own,
            (self.slots.keys, self.slots.values),
            self._turns,
            room.scratch,
        )

        def run(thread: int, states: int) -> None:
            step.run_layers(thread, states, sizes, model, used, rows, x)

        self._on_threads(run, step.PARTS * int(sizes[given.LAYERS]) + 1)
        return torch.from_numpy(x)

    def _room_for(self, tokens: int, longest: int) -> _Room:
        if self._room is None or self._room.tokens < tokens or self._room.longest < longest:
            before = self._room
            tokens = max(tokens, before.tokens if before else 0)
            longest = max(longest, before.longest * 3 // 2 if before and before.longest < longest else 0)
            self._room = _Room(self.decoder, self.sizes, self.threads, tokens, -(-longest // GROWTH) * GROWTH)
        return self._room

    def _on_threads(self, work: Callable[[int, int], object], parts: int) -> None:
        """Run `work(thread, address of the states of its parts)` here and on every thread that is free; what is done here
        is done when nothing is left. A thread that is late still reads what it was given, so `work` keeps that alive."""
        states = np.zeros((parts, pieces.PART), np.uint8)

        def run(thread: int) -> None:
            work(thread, states.ctypes.data)

        for number, before in enumerate(self._asked):
            if before is not None and not before.done():
                continue  # another program has its processor, and the last pass went by without it
            if before is not None:
                before.result()
            self._pool = self._pool or ThreadPoolExecutor(self.threads - 1, "yuyan step")
            self._asked[number] = self._pool.submit(run, number + 1)
        run(0)


class _Room:
    """Where a pass puts its numbers; made once, and again when a longer pass comes."""

    def __init__(self, decoder: PackedDecoder, sizes: np.ndarray, threads: int, tokens: int, longest: int):
        self.tokens, self.longest = tokens, longest
        outputs, inputs = int(decoder.table[:-1, 1].max()), int(decoder.table[:, 2].max())
        queries = -(-int(sizes[given.HEADS] * sizes[given.HEAD]) // PANEL) * PANEL
        self.work = np.zeros((tokens, outputs + 48), np.float32)  # rows of 4096 bytes would share one place of a cache
        self.wide = np.zeros((tokens, max(inputs, queries)), np.float32)
        words = tokens * inputs
        self.left = (np.zeros(words, np.int32), np.zeros(words // 32, np.float32), np.zeros(words // 32, np.int32))
        few = step.FEW * inputs
        self.own = (
            np.zeros((threads, step.FEW, self.wide.shape[1]), np.float32),
            np.zeros((threads, few), np.int32),
            np.zeros((threads, few // 32), np.float32),
            np.zeros((threads, few // 32), np.int32),
        )
        size = int(sizes[given.HEAD_PAD])
        width = max(longest, size, PANEL)
        self.scratch = (
            np.zeros((threads, ROW_BLOCK * width), np.int32),
            np.zeros((threads, ROW_BLOCK * width), np.float32),
            np.zeros((threads, ROW_BLOCK * size), np.float32),
            np.zeros((threads, ROW_BLOCK * size), np.int32),
            np.zeros((threads, ROW_BLOCK), np.float32),
        )


def _passes(parts: Sequence[_Part]) -> list[list[_Part]]:
    """The parts cut into passes of at most so many tokens, each row's tokens in their order."""
    passes: list[list[_Part]] = [[]]
    free = AT_ONCE
    for part in parts:
        start = 0
        while start < len(part.tokens):
            if free == 0:
                passes.append([])
                free = AT_ONCE
            tokens = part.tokens[start : start + free]
            passes[-1].append(_Part(part.row, tokens, part.slot, part.past + start))
            start, free = start + len(tokens), free - len(tokens)
    return passes

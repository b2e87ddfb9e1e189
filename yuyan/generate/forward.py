"""What the engine asks of a model: feed tokens to rows, get hidden states; turn hidden states into scores.

A `Forward` is the seam for faster ones: its rows are texts of any length, and each step says from which row of the last
step a row goes on, how many of its tokens it forgets, and what it reads next. `PlainForward` does this with any model
that has `decode` and `score`: an n-gram table, an LSTM, a Transformer, with an encoder or without.

N rows that are fed, T tokens, S tokens of a source, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.generate.prefixes import Prefixes
from yuyan.nn.rows import RowCache

AT_ONCE = (
    512  # tokens of rows of unequal length that are read in one pass, as the masks of longer ones take much memory
)


class Decoder(Protocol):
    """The narrow waist between models and everything that uses them. With an encoder there is `encode` too."""

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor: ...

    def score(self, hidden: Tensor) -> Tensor: ...


class Feed(NamedTuple):
    """A row of the next step."""

    tokens: Sequence[int]
    """What it reads: at least one token."""
    parent: int | None = None
    """The row of the last step that it goes on from; None for a new text."""
    forget: int = 0
    """How many of the parent's latest tokens it forgets first."""
    wanted: int = 1
    """After how many of its last tokens the next one's scores are wanted."""
    source: Sequence[int] | None = None
    """What the encoder reads for a new text."""
    whole: bool = False
    """Whether the hidden states of all its tokens are needed, so that nothing may be taken from a kept prefix."""


class Forward(Protocol):
    """A model that is under way in several rows."""

    def feed(self, feeds: Sequence[Feed]) -> list[Tensor]:
        """Read; the hidden states of each row's tokens, (T, D). The feeds become the rows, in their order."""
        ...

    def score(self, hidden: Tensor) -> Tensor:
        """(N, D) hidden states to (N, V) scores in float32 or more."""
        ...

    def lengths(self) -> list[int]:
        """How many tokens each row has read."""
        ...

    def under_way(self) -> AbstractContextManager[None]:
        """What must hold while a step reads and chooses."""
        ...


class PlainForward:
    """A `Forward` of any model; `prefixes` keeps beginnings of texts for later ones."""

    def __init__(self, model: Decoder, prefixes: Prefixes | None = None, device: torch.device | str = "cpu"):
        self.model, self.prefixes, self.device = model, prefixes, torch.device(device)
        self.cache = RowCache()
        self.memory: Tensor | None = None
        self.memory_mask: Tensor | None = None
        self._row_of: list[int] = []  # of the cache, for each feed of the last step

    def lengths(self) -> list[int]:
        return [self.cache.lengths[row] for row in self._row_of]

    def under_way(self) -> AbstractContextManager[None]:
        return nullcontext()

    def feed(self, feeds: Sequence[Feed]) -> list[Tensor]:
        old = [number for number, feed in enumerate(feeds) if feed.parent is not None]
        new = [number for number, feed in enumerate(feeds) if feed.parent is None]
        self._select([self._row_of[feed.parent] for feed in feeds if feed.parent is not None])
        hidden: dict[int, Tensor] = {}
        if old:
            self.cache.forget([feeds[number].forget for number in old])
            read = self._read(self.cache, [feeds[number].tokens for number in old], self.memory, self.memory_mask)
            hidden |= dict(zip(old, read, strict=True))
        if new:
            hidden |= dict(zip(new, self._begin([feeds[number] for number in new]), strict=True))
        order = {number: row for row, number in enumerate([*old, *new])}
        self._row_of = [order[number] for number in range(len(feeds))]
        return [hidden[number] for number in range(len(feeds))]

    def score(self, hidden: Tensor) -> Tensor:
        scores = self.model.score(hidden[None])[0]
        return scores if scores.dtype == torch.float64 else scores.float()

    def _select(self, rows: list[int]) -> None:
        self.cache.select(rows)
        if self.memory is not None and self.memory_mask is not None:
            index = torch.tensor(rows, dtype=torch.long).to(self.device)
            self.memory, self.memory_mask = self.memory[index], self.memory_mask[index]

    def _begin(self, feeds: Sequence[Feed]) -> list[Tensor]:
        """Read new texts and put their rows behind the others."""
        cache, memory, mask = RowCache(len(feeds)), None, None
        if feeds[0].source is not None:
            memory, mask = self._encode([feed.source or () for feed in feeds])
        known = [0] * len(feeds)
        if self.prefixes is not None and memory is None:
            found = [None if feed.whole else self.prefixes.find(feed.tokens) for feed in feeds]
            cache.begin_with(found)
            known = list(cache.lengths)
        rest = [feed.tokens[skip:] for feed, skip in zip(feeds, known, strict=True)]
        hidden = self._read(cache, rest, memory, mask)
        if self.prefixes is not None and memory is None:
            for row, feed in enumerate(feeds):
                self.prefixes.keep(feed.tokens, cache, row)
        self.cache.join(cache)
        if memory is not None and mask is not None:
            self._join_memory(memory, mask)
        return hidden

    def _encode(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(N, S, D) hidden states of the encoder, and the mask (N, S) of its real tokens."""
        ids, mask = self._rectangle(sources)
        memory: Tensor = self.model.encode(ids, None if bool(mask.all()) else mask)  # type: ignore[attr-defined]
        return memory, mask

    def _join_memory(self, memory: Tensor, mask: Tensor) -> None:
        if self.memory is None or self.memory_mask is None or not len(self.memory):
            self.memory, self.memory_mask = memory, mask
            return
        width = max(self.memory.shape[1], memory.shape[1])
        memories = [F.pad(x, (0, 0, 0, width - x.shape[1])) for x in (self.memory, memory)]
        masks = [F.pad(x, (0, width - x.shape[1])) for x in (self.memory_mask, mask)]
        self.memory, self.memory_mask = torch.cat(memories), torch.cat(masks)

    def _read(
        self, cache: RowCache, texts: Sequence[Sequence[int]], memory: Tensor | None, memory_mask: Tensor | None
    ) -> list[Tensor]:
        """The hidden states (T, D) of each text's tokens."""
        longest = max(len(text) for text in texts)
        if longest <= AT_ONCE or all(len(text) == longest for text in texts):
            return self._read_once(cache, texts, memory, memory_mask)
        parts = [
            self._read_once(cache, [text[at : at + AT_ONCE] for text in texts], memory, memory_mask)
            for at in range(0, longest, AT_ONCE)
        ]
        return [torch.cat(rows) for rows in zip(*parts, strict=True)]

    def _read_once(
        self, cache: RowCache, texts: Sequence[Sequence[int]], memory: Tensor | None, memory_mask: Tensor | None
    ) -> list[Tensor]:
        ids, mask = self._rectangle(texts)
        extra: dict[str, Tensor] = {}
        if memory is not None and memory_mask is not None:
            extra["memory"] = memory
            if not bool(memory_mask.all()):
                extra["memory_mask"] = memory_mask
        counts = [len(text) for text in texts]
        cache.expect(counts)
        hidden = self.model.decode(ids, None if min(counts) == max(counts) else mask, cache=cache, **extra)
        return [row[:count] for row, count in zip(hidden, counts, strict=True)]

    def _rectangle(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(N, T) ids padded at the end, and which of them are real."""
        width = max(len(text) for text in texts)
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts]).to(self.device)
        counts = torch.tensor([len(text) for text in texts]).to(self.device)
        return ids, torch.arange(width, device=self.device) < counts[:, None]

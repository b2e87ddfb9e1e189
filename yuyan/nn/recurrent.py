"""A recurrent network: the other kind of side, with the same `forward` as an attention stack.

RNN, GRU and LSTM, one- or two-directional; a decoder may read an encoder's output through its first state alone
(Sutskever 2014), through additive attention (Bahdanau 2015) or multiplicative attention (Luong 2015).

Shapes: B batch, T tokens, S tokens of the memory, E width of the input, D hidden size, L layers times directions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from yuyan.config import Config
from yuyan.errors import InputError
from yuyan.nn import lstm
from yuyan.nn.cache import NoCache, Pair
from yuyan.nn.layered import DropoutMasks, Drops, Layers, dropout_module
from yuyan.nn.mask import Places, starts_of
from yuyan.nn.position import PositionModule

CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
State = tuple[Tensor, ...]
"""(B, L, D) each: the hidden state, and for an LSTM the cell state."""


class FirstState(Config):
    """The memory sets the first state and is not read again (Sutskever 2014)."""

    kind: Literal["first_state"] = "first_state"

    def build(self, hidden_size: int) -> MemoryAttention | None:
        return None


class Additive(Config):
    """score(s, m) = v tanh(W s + U m), read before each step and fed into the cell (Bahdanau 2015, section A.1.2)."""

    kind: Literal["additive"] = "additive"
    size: int | None = Field(default=None, gt=0)
    """Width of the hidden layer of the score; null is the hidden size."""

    def build(self, hidden_size: int) -> MemoryAttention | None:
        return AdditiveAttention(hidden_size, self.size or hidden_size)


class Multiplicative(Config):
    """score(h, m) = h W m, read after each step (Luong 2015, section 3.1, "general")."""

    kind: Literal["multiplicative"] = "multiplicative"

    def build(self, hidden_size: int) -> MemoryAttention | None:
        return MultiplicativeAttention(hidden_size)


RecurrentCross = Annotated[FirstState | Additive | Multiplicative, Field(discriminator="kind")]


class MemoryAttention(nn.Module):
    """A weighted mean of the memory; a variant says how a query scores it."""

    def keys(self, memory: Tensor) -> Tensor:
        """What of the memory can be computed once."""
        raise NotImplementedError

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B, T, D) queries and (B, S, ...) keys to (B, T, S)."""
        raise NotImplementedError

    def forward(self, query: Tensor, memory: Tensor, memory_mask: Tensor | None, cache: NoCache) -> Tensor:
        """(B, T, D): the context of each query."""
        keys, values = cache.once(self, lambda: (self.keys(memory), memory))
        return self._softmax(self.scores(query, keys), memory_mask) @ values

    def weights(self, query: Tensor, memory: Tensor, memory_mask: Tensor | None, cache: NoCache) -> Tensor:
        """(B, 1, T, S): how much of each token of the memory a context holds, as one head."""
        return self._softmax(self.scores(query, self.keys(memory)), memory_mask)[:, None]

    def _softmax(self, scores: Tensor, memory_mask: Tensor | None) -> Tensor:
        if memory_mask is not None:
            real = memory_mask.bool()[:, None, :]
            scores = scores.masked_fill(~(real | ~real.any(-1, keepdim=True)), float("-inf"))
        return scores.softmax(-1)


class AdditiveAttention(MemoryAttention):
    """Bahdanau's score."""

    def __init__(self, hidden_size: int, size: int):
        super().__init__()
        self.query_proj = nn.Linear(hidden_size, size, bias=False)
        self.key_proj = nn.Linear(hidden_size, size, bias=False)
        self.score_proj = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        out: Tensor = self.key_proj(memory)
        return out

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        hidden = torch.tanh(self.query_proj(query)[:, :, None] + keys[:, None])
        out: Tensor = self.score_proj(hidden)[..., 0]
        return out


class MultiplicativeAttention(MemoryAttention):
    """Luong's general score."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.key_proj = nn.Linear(hidden_size, hidden_size, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        out: Tensor = self.key_proj(memory)
        return out

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class Recurrent(Config):
    """Recurrent layers over one sequence."""

    kind: Literal["recurrent"] = "recurrent"
    num_layers: int = Field(gt=0)
    """How many layers, one reading the other."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """What a layer does at each token."""
    bidirectional: bool = False
    """Whether each layer also reads backwards; each direction has half the hidden size."""
    cross: RecurrentCross | None = None
    """How a decoder reads the encoder's output."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout between the layers."""
    output_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the output of the last layer."""
    dropout_masks: DropoutMasks = "token"
    """What these draw a mask for: each token anew, or a text as a whole (Gal & Ghahramani 2016)."""
    weight_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the recurrent weights that is dropped for a whole text (Merity et al. 2018)."""

    @property
    def drops(self) -> Drops:
        """What is dropped within the layers."""
        between = self.dropout if self.num_layers > 1 else 0.0
        return Drops(between, self.dropout_masks == "text", self.weight_dropout)

    @model_validator(mode="after")
    def _agree(self) -> Recurrent:
        if self.bidirectional and self.cross:
            raise ValueError("bidirectional: a decoder cannot read backwards what it has not written")
        return self

    @property
    def causal(self) -> bool:
        """Whether no token can see a later one."""
        return not self.bidirectional

    def filled(self, hidden_size: int) -> Recurrent:
        """With every None decided."""
        if self.bidirectional and hidden_size % 2:
            raise ValueError(f"hidden_size {hidden_size} cannot be halved between two directions")
        if isinstance(self.cross, Additive):
            cross = self.cross.model_copy(update={"size": self.cross.size or hidden_size})
            return self.model_copy(update={"cross": cross})
        return self

    def build(self, input_size: int, hidden_size: int) -> RecurrentModule:
        return RecurrentModule(self, input_size, hidden_size)


class RecurrentModule(nn.Module):
    """The layers, the reading of a memory, and the state carried through the cache."""

    def __init__(self, config: Recurrent, input_size: int, hidden_size: int):
        super().__init__()
        self.config = config
        self.position = PositionModule()  # a recurrent side counts by itself
        directions = 2 if config.bidirectional else 1
        self.feeding = isinstance(config.cross, Additive)
        self.cell = CELLS[config.cell](
            input_size + (hidden_size if self.feeding else 0), hidden_size // directions, config.num_layers,
            batch_first=True, dropout=config.drops.between, bidirectional=directions == 2,
        )  # fmt: skip
        self.state_size = (config.num_layers * directions, hidden_size // directions)
        self.dropout = dropout_module(config.output_dropout, config.dropout_masks)
        parts = 2 if config.cell == "lstm" else 1
        self.first_state = nn.Linear(hidden_size, parts * config.num_layers * hidden_size) if config.cross else None
        self.memory_attention = config.cross.build(hidden_size) if config.cross else None
        self.combine = nn.Linear(2 * hidden_size, hidden_size, bias=False) if self.memory_attention else None

    def forward(
        self, x: Tensor, places: Places, memory: Tensor | None, memory_mask: Tensor | None, cache: NoCache
    ) -> Tensor:
        """(B, T, E) embedded tokens to (B, T, D) hidden states."""
        if places.document_ids is not None:
            if memory is not None or places.attention_mask is not None:
                raise InputError("document_ids: a recurrent side reads packed rows without padding or a memory")
            separate: Tensor = self.dropout(self._documents(x, starts_of(places.document_ids)))
            return separate
        cell = _Cell(self.cell, self.config.drops)
        real = places.new_tokens()
        state = cache.recall(self)
        if state is None:
            state = self._first(x, memory, memory_mask)
        if self.feeding and memory is not None:
            out, state = self._step_by_step(cell, x, real, state, memory, memory_mask, cache)
        else:
            out, state = _run(cell, x, real, state)
            if self.memory_attention is not None and memory is not None:
                out = self._join(out, self.memory_attention(out, memory, memory_mask, cache))
        cache.swap(self, state)
        dropped: Tensor = self.dropout(out)
        return dropped

    def _first(self, x: Tensor, memory: Tensor | None, memory_mask: Tensor | None) -> State:
        """The state before the first token: zeros, or tanh of a projection of the memory's mean."""
        parts = 2 if self.config.cell == "lstm" else 1
        if self.first_state is None or memory is None:
            return tuple(x.new_zeros(x.shape[0], *self.state_size) for _ in range(parts))
        if memory_mask is None:
            mean = memory.mean(1)
        else:
            real = memory_mask.to(memory.dtype)[:, :, None]
            mean = (memory * real).sum(1) / real.sum(1).clamp(min=1)
        flat: Tensor = torch.tanh(self.first_state(mean))
        return flat.view(x.shape[0], parts, *self.state_size).unbind(1)

    def _documents(self, x: Tensor, starts: Tensor) -> Tensor:
        """All tokens of packed rows; the state is forgotten where a document starts, (B, T) True."""
        cell = _Cell(self.cell, self.config.drops)
        if isinstance(self.cell, nn.LSTM) and lstm.is_faster(self.cell, x):
            return cell.run(x, tuple(x.new_zeros(x.shape[0], *self.state_size) for _ in range(2)), starts)[0]
        places = starts.flatten().nonzero().flatten().tolist()
        sizes = [end - start for start, end in pairwise([*places, starts.numel()])]
        packed = pack_sequence(list(torch.split(x.flatten(0, 1), sizes)), enforce_sorted=False)
        out = cell.run_packed(packed, tuple(x.new_zeros(len(sizes), *self.state_size) for _ in range(2)))[0]
        return torch.cat(unpack_sequence(out)).view(*x.shape[:2], -1)

    def _step_by_step(
        self,
        cell: _Cell,
        x: Tensor,
        real: Tensor | None,
        state: State,
        memory: Tensor,
        memory_mask: Tensor | None,
        cache: NoCache,
    ) -> tuple[Tensor, State]:
        """One token at a time: what is read at a token is fed into the cell with it."""
        assert self.memory_attention is not None
        outs = []
        keep = _Once(cache)
        for t in range(x.shape[1]):
            context = self.memory_attention(state[0][:, -1:], memory, memory_mask, keep)
            out, new = cell.run(torch.cat((x[:, t : t + 1], context), -1), state)
            if real is not None:
                here = real[:, t, None, None]
                new = tuple(torch.where(here, a, b) for a, b in zip(new, state, strict=True))
            state = new
            outs.append(self._join(out, context))
        return torch.cat(outs, 1), state

    def _join(self, out: Tensor, context: Tensor) -> Tensor:
        """tanh(W [context; out]) (Luong 2015, equation 5)."""
        assert self.combine is not None
        return torch.tanh(self.combine(torch.cat((context, out), -1)))


class _Cell:
    """A cell for one forward pass, with states as the cache has them: the batch first."""

    def __init__(self, cell: nn.RNNBase, drops: Drops):
        self.cell = cell
        self.layers = Layers(cell, drops) if drops.need_layers and cell.training else None

    def run(self, x: Tensor, state: State, starts: Tensor | None = None) -> tuple[Tensor, State]:
        """(B, T, D) outputs and the states after the last token."""
        if self.layers is None and isinstance(self.cell, nn.LSTM) and lstm.is_faster(self.cell, x):
            self.layers = Layers(self.cell, Drops(self.cell.dropout))
        if self.layers is not None:
            out, after = self.layers.run(x, _turned(state), starts)
            return out, _turned(after)
        out, last = self.cell(x, self._hx(state))
        return out, _turned(last if isinstance(last, tuple) else (last,))

    def run_packed(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
        """The same for texts of several lengths."""
        if self.layers is not None:
            out, after = self.layers.run_packed(packed, _turned(state))
            return out, _turned(after)
        out, last = self.cell(packed, self._hx(state))
        return out, _turned(last if isinstance(last, tuple) else (last,))

    def _hx(self, state: State) -> object:
        turned = _turned(state)
        return turned if isinstance(self.cell, nn.LSTM) else turned[0]


def _turned(state: State) -> State:
    """(B, L, D) to (L, B, D), or back."""
    return tuple(part.transpose(0, 1).contiguous() for part in state)


def _run(cell: _Cell, x: Tensor, real: Tensor | None, state: State) -> tuple[Tensor, State]:
    """All tokens at once. Padding is taken out and put back: no state passes through it, in either direction."""
    if real is None or bool(real.all()):
        return cell.run(x, state)
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # the real tokens of each row, then its padding
    lengths = real.sum(1)
    front = x.gather(1, order[:, :, None].expand_as(x))
    packed: PackedSequence = pack_padded_sequence(
        front, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    packed_out, after = cell.run_packed(packed, state)
    out = pad_packed_sequence(packed_out, batch_first=True, total_length=x.shape[1])[0]
    out = torch.zeros_like(out).scatter(1, order[:, :, None].expand_as(out), out)
    some = (lengths > 0)[:, None, None]
    return out, tuple(torch.where(some, new, old) for new, old in zip(after, state, strict=True))


class _Once(NoCache):
    """Within one call the keys of the memory are computed once, whether or not the call is cached."""

    def __init__(self, cache: NoCache):
        self._cache = cache
        self._kept: dict[object, Pair] = {}

    def once(self, owner: object, make: object) -> Pair:
        if owner not in self._kept:
            self._kept[owner] = self._cache.once(owner, make)  # type: ignore[arg-type]
        return self._kept[owner]

"""The side of the neural n-gram model: each token is predicted from the vectors of the last n - 1 tokens, side by side.

    x = [C(w_t) ; C(w_(t-1)) ; ... ; C(w_(t-n+2))],    hidden = tanh(d + H x)

With direct connections the hidden state is [tanh(d + H x) ; x], so that an untied head with a bias computes
b + W x + U tanh(d + H x), the scores of the paper. Before a text stands a vector of zeros.
Source: Bengio et al. 2003, section 2. Like a recurrent side it carries what it needs of the past through the cache: the
vectors of the last n - 2 tokens.

Shapes: B batch, T tokens, E width of a token's vector, D hidden size.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.cache import NoCache
from yuyan.nn.drop import Dropout
from yuyan.nn.linear import Linear
from yuyan.nn.mask import Places, positions_in_documents
from yuyan.nn.position import PositionModule


class FeedForward(Config):
    """One layer of tanh over the last tokens."""

    kind: Literal["feed_forward"] = "feed_forward"
    order: int = Field(default=5, ge=2)
    """The n of the n-gram: a token is predicted from the n - 1 before it."""
    direct: bool = False
    """Whether the tokens' vectors reach the scores beside the layer too; the hidden state then holds both."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the hidden state."""

    @property
    def cross(self) -> None:
        """It reads no other text."""

    @property
    def causal(self) -> bool:
        """Whether no token can see a later one."""
        return True

    def filled(self, hidden_size: int) -> FeedForward:
        """With every None decided."""
        return self

    def layer_size(self, input_size: int, hidden_size: int) -> int:
        """Width of the layer. Raises ValueError if the direct connections leave no room for it."""
        size = hidden_size - (self.order - 1) * input_size if self.direct else hidden_size
        if size < 1:
            raise ValueError(
                f"decoder.direct: hidden_size {hidden_size} has no room beside {self.order - 1} vectors of {input_size}"
            )
        return size

    def build(self, input_size: int, hidden_size: int) -> FeedForwardModule:
        return FeedForwardModule(self, input_size, hidden_size)


class FeedForwardModule(nn.Module):
    """The layer, and the vectors of the last tokens carried through the cache."""

    def __init__(self, config: FeedForward, input_size: int, hidden_size: int):
        super().__init__()
        self.config = config
        self.position = PositionModule()  # places are told apart by the columns of H
        self.dense = Linear((config.order - 1) * input_size, config.layer_size(input_size, hidden_size))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, places: Places, memory: Tensor | None, memory_mask: Tensor | None, cache: NoCache
    ) -> Tensor:
        """(B, T, E) embedded tokens to (B, T, D) hidden states."""
        real, kept = places.new_tokens(), self.config.order - 2
        (before,) = cache.recall(self) or (x.new_zeros(x.shape[0], kept, x.shape[2]),)
        order = None if real is None or bool(real.all()) else (~real).to(torch.uint8).argsort(dim=1, stable=True)
        if order is not None:  # the real tokens of each row, then its padding
            x = x.gather(1, order[:, :, None].expand_as(x))
        line = torch.cat((before, x), 1)
        cache.swap(self, (self._last(line, kept, None if order is None or real is None else real.sum(1)),))
        out = self._hidden(line, None if places.document_ids is None else positions_in_documents(places.document_ids))
        if order is not None:
            out = torch.zeros_like(out).scatter(1, order[:, :, None].expand_as(out), out)
        dropped: Tensor = self.dropout(out)
        return dropped

    def _hidden(self, line: Tensor, place: Tensor | None) -> Tensor:
        """(B, n - 2 + T, E) to (B, T, D); the newest token comes first in x. What lies before the document of a token,
        whose `place` (B, T) in it is given, is zero as before a text."""
        count = line.shape[1] - self.config.order + 2
        newest = self.config.order - 2
        parts = [line[:, newest - back : newest - back + count] for back in range(newest + 1)]
        if place is not None:
            parts = [part * (place >= back)[:, :, None].to(part.dtype) for back, part in enumerate(parts)]
        past = torch.cat(parts, 2)
        hidden = torch.tanh(self.dense(past))
        return torch.cat((hidden, past), 2) if self.config.direct else hidden

    def _last(self, line: Tensor, kept: int, lengths: Tensor | None) -> Tensor:
        """The vectors of the last `kept` tokens of each row, of which `lengths` (B,) are new, or all."""
        if lengths is None:
            return line[:, line.shape[1] - kept :]
        at = lengths[:, None] + torch.arange(kept, device=line.device)
        return line.gather(1, at[:, :, None].expand(-1, -1, line.shape[2]))

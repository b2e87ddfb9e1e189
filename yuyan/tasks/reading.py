"""A network with an encoder as a decoder that has read one text: what generation can continue.

S tokens of the text, B rows that write about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from yuyan.models.network import NetworkModule


class Reading:
    """`decode` and `score` of a network whose encoder has read `source`, the ids of a text."""

    def __init__(self, network: NetworkModule, source: Sequence[int]):
        self.network = network
        with torch.no_grad():
            self.memory = network.encode(torch.tensor([list(source)]))  # (1, S, D)

    def decode(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, cache: Any = None) -> Tensor:
        """(B, T) ids to (B, T, D)."""
        memory = self.memory.expand(input_ids.shape[0], -1, -1)
        return self.network.decode(input_ids, attention_mask, memory=memory, cache=cache)

    def score(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to (B, T, V)."""
        return self.network.score(hidden)

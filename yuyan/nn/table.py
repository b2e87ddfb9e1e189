"""A table of vectors, one a number: `nn.Embedding` whose weights whoever builds the network draws or loads."""

from __future__ import annotations

import torch
from torch import nn


class Table(nn.Embedding):
    """Where a network is laid out before it has memory, nothing is drawn: PyTorch would load its compiler for that, which
    takes longer than to read a small model."""

    def reset_parameters(self) -> None:
        if self.weight.device != torch.device("meta"):
            super().reset_parameters()

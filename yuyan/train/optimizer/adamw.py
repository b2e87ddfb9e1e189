"""Adam with decoupled weight decay; the computation is PyTorch's fused one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from yuyan.config import Config
from yuyan.train.optimizer.groups import Kind, Rates, groups_of


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    """The full learning rate; the schedule multiplies it."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Memory of the mean gradient."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Memory of the squared gradient."""
    eps: float = Field(1e-8, gt=0)
    """Keeps the division finite."""
    weight_decay: float = Field(0.1, ge=0)
    """Share of a matrix, times the learning rate, taken away at each step."""
    rates: Rates | None = None
    """What the learning rate is multiplied by in each part of the network; null is 1 everywhere."""

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        return torch.optim.AdamW(
            groups_of(masters, kinds, self.rates or Rates(), lr=self.lr, weight_decay=self.weight_decay),
            lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True,
        )  # fmt: skip

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        return 2 * sum(p.numel() for p in masters.values())

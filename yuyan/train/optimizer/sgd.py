"""Stochastic gradient descent with momentum; PyTorch's, but for the weight decay, which is decoupled here as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from yuyan.config import Config
from yuyan.train.optimizer.groups import Kind, Rates, groups_of
from yuyan.train.parts import own


class Sgd(Config):
    """m = momentum m + g; w = w - lr m (Sutskever et al. 2013, section 2)."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0)
    """The full learning rate; the schedule multiplies it."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step that is taken again."""
    nesterov: bool = False
    """Whether the momentum looks one step ahead (Nesterov 1983)."""
    weight_decay: float = Field(0.0, ge=0)
    """Share of a matrix, times the learning rate, taken away at each step."""
    rates: Rates | None = None
    """What the learning rate is multiplied by in each part of the network; null is 1 everywhere."""

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        groups = groups_of(masters, kinds, self.rates or Rates(), lr=self.lr, weight_decay=self.weight_decay)
        for group in groups:
            group["decay"] = group.pop("weight_decay")  # PyTorch's name for an L2 penalty
        nesterov = self.nesterov and self.momentum > 0
        return _DecoupledSgd(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov, foreach=True)

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        return sum(p.numel() for p in masters.values()) if self.momentum else 0


class _DecoupledSgd(torch.optim.SGD):
    """Decays, then steps (Loshchilov & Hutter 2019, algorithm 1, with the decay at the old weights)."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            moved = [own(parameter) for parameter in group["params"] if parameter.grad is not None]
            if group["decay"] and moved:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["decay"])
        return super().step(closure)

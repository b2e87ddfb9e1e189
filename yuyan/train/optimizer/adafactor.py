"""Adafactor: Adam's second moments in a row and a column a matrix, so that its memory is next to nothing; PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from yuyan.config import Config
from yuyan.train.optimizer.groups import Kind, Rates, groups_of


class Adafactor(Config):
    """Factored second moments, clipped updates, steps in proportion to the weights (Shazeer & Stern 2018, algorithm 4)."""

    kind: Literal["adafactor"] = "adafactor"
    lr: float = Field(0.02, gt=0)
    """The full rate, as a share of a weight's size; never more than one over the root of the step. The schedule multiplies it."""
    beta2_decay: float = Field(-0.8, le=0)
    """The memory of squared gradients is 1 - step^this: it grows with the run (section 7.1)."""
    smallest: float = Field(1e-3, gt=0)
    """The size a weight near 0 is taken to have (epsilon 2)."""
    clip: float = Field(1.0, ge=1)
    """The largest root mean square of an update (section 6)."""
    weight_decay: float = Field(0.0, ge=0)
    """Share of a matrix, times the learning rate, taken away at each step."""
    rates: Rates = Rates()
    """What the learning rate is multiplied by in each part of the network."""

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        return torch.optim.Adafactor(
            groups_of(masters, kinds, self.rates, lr=self.lr, weight_decay=self.weight_decay),
            lr=self.lr, beta2_decay=self.beta2_decay, eps=(None, self.smallest), d=self.clip, foreach=False,
        )  # fmt: skip

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        shapes = [p.shape for p in masters.values()]
        return sum(s.numel() // s[-1] + s.numel() // s[-2] if len(s) > 1 else s.numel() for s in shapes)

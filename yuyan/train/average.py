"""An average of the weights over the updates of a run, in float32: a model that lies nearer the middle of the valley.

The last weights are noisy with the last batches; an average is about what the run would have come to with a rate that
falls. `ema` forgets exponentially (Tarvainen & Valpola 2017, section 3); `polynomial` is averaged descent (Polyak & Juditsky
1992), which counts all weights of the run alike, or the later ones more (Shamir & Zhang 2013, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.train.parts import own


class Ema(Config):
    """average = d average + (1 - d) weights after each update; d = min(decay, (1 + updates) / (10 + updates))."""

    kind: Literal["ema"] = "ema"
    decay: float = Field(0.999, gt=0, lt=1)
    """How much of the average stays at an update: it spans about 1 / (1 - decay) updates, and never more than a ninth of those there were."""

    def at(self, updates: int) -> float:
        """The decay of update number `updates`, from 1."""
        return min(self.decay, (1 + updates) / (10 + updates))


class Polynomial(Config):
    """average = d average + (1 - d) weights after each update; d = (updates - 1) / (updates + power)."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(0.0, ge=0)
    """The weights after update u count about as u^power: 0 is their plain mean, with 3 the last fifth of the run makes up six tenths of it."""

    def at(self, updates: int) -> float:
        """The share that stays at update number `updates`, from 1."""
        return (updates - 1) / (updates + self.power)


Averaging = Annotated[Ema | Polynomial, Field(discriminator="kind")]


class Average:
    """The averaged weights by name. It begins with the weights as they are."""

    def __init__(self, config: Averaging, masters: Mapping[str, Tensor]):
        self.config = config
        self.tensors = {name: master.detach().clone() for name, master in masters.items()}

    def follow(self, masters: Mapping[str, Tensor], updates: int) -> None:
        """Take in the weights after update number `updates`."""
        with torch.no_grad():
            averages, latest = [own(t) for t in self.tensors.values()], [own(masters[name]) for name in self.tensors]
            torch._foreach_lerp_(averages, latest, 1 - self.config.at(updates))

"""Adafactor: Adam's second moments in a row and a column a matrix, so that its memory is next to nothing; PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.train.optimizer.groups import Kind, Rates, groups_of
from yuyan.train.parts import is_part, own, own_of, whole


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
    rates: Rates | None = None
    """What the learning rate is multiplied by in each part of the network; null is 1 everywhere."""

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        return _Adafactor(
            groups_of(masters, kinds, self.rates or Rates(), lr=self.lr, weight_decay=self.weight_decay),
            lr=self.lr, beta2_decay=self.beta2_decay, eps=(None, self.smallest), d=self.clip, foreach=False,
        )  # fmt: skip

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        shapes = [p.shape for p in masters.values()]
        return sum(s.numel() // s[-1] + s.numel() // s[-2] if len(s) > 1 else s.numel() for s in shapes)


class _Adafactor(torch.optim.Adafactor):
    """A weight of which each process has a part is put together for its step; what is remembered of it every process has."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert closure is None
        groups = self.param_groups
        if not any(is_part(parameter) for group in groups for parameter in group["params"]):
            return super().step()  # type: ignore[no-untyped-call]
        try:
            for group in groups:
                for parameter in [p for p in group["params"] if p.grad is not None]:
                    self._step_one(group, parameter)
        finally:
            self.param_groups = groups

    def _step_one(self, group: dict[str, Any], parameter: nn.Parameter) -> None:
        everything = nn.Parameter(whole(parameter))
        everything.grad = whole(cast(Tensor, parameter.grad))
        remembered = self.state.pop(parameter, {})  # read from a saved state it may be in parts
        self.state[everything] = {name: whole(tensor) for name, tensor in remembered.items()}
        self.param_groups = [{**group, "params": [everything]}]
        super().step()  # type: ignore[no-untyped-call]
        self.state[parameter] = self.state.pop(everything)
        own(parameter).copy_(own_of(everything, parameter))

"""Adam with decoupled weight decay: PyTorch's fused computation, or one pass of our own where gradients are bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.words import has_words, share, words
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

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> ScalingAdamW:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        return ScalingAdamW(
            groups_of(masters, kinds, self.rates or Rates(), lr=self.lr, weight_decay=self.weight_decay),
            lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True,
        )  # fmt: skip

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        return 2 * sum(p.numel() for p in masters.values())


class ScalingAdamW(torch.optim.AdamW):
    """PyTorch's, with one pass of our own over weights on a CPU whose gradients are bfloat16."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As PyTorch's, but without its compiler, which its wrapper loads: for nothing, in a second and a half."""
        add = torch.optim.Optimizer.add_param_group
        getattr(add, "__wrapped__", add)(self, param_group)

    @torch.no_grad()
    def step_scaled(self, scale: float, copies: Mapping[nn.Parameter, Tensor]) -> bool:
        """As `Scaling` says; it cannot if some gradient is not of bfloat16."""
        moved = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not all(_in_one_pass(parameter, copies.get(parameter)) for _, parameter in moved):
            return False
        for group, parameter in moved:
            self._step_one(group, parameter, scale, copies[parameter])
        return True

    def _step_one(self, group: dict[str, Any], parameter: nn.Parameter, scale: float, copy: Tensor) -> None:
        from yuyan.train import kernels

        memory = self.state[parameter]
        if not memory:
            memory["step"] = torch.tensor(0.0)
            memory["exp_avg"], memory["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        memory["step"] += 1
        step, (beta1, beta2), rate = float(memory["step"]), group["betas"], group["lr"]
        numbers = (
            scale, beta1, beta2, rate / (1 - beta1**step), (1 - beta2**step) ** -0.5, group["eps"],
            1 - rate * group["weight_decay"],
        )  # fmt: skip
        rows, gradient = parameter.numel() // parameter.shape[-1], cast(Tensor, parameter.grad)
        arrays: list[Any] = [
            *(t.detach().view(rows, -1).numpy() for t in (parameter, memory["exp_avg"], memory["exp_avg_sq"])),
            *(words(t).reshape(rows, -1) for t in (gradient, copy)), *(np.float32(each) for each in numbers),
        ]  # fmt: skip
        share(rows, parameter.numel(), lambda first, last: kernels.adamw(first, last, *arrays))


def _in_one_pass(parameter: nn.Parameter, copy: Tensor | None) -> bool:
    gradient = cast(Tensor, parameter.grad)
    return (
        copy is not None
        and has_words(copy)
        and has_words(gradient)
        and parameter.dtype == torch.float32
        and parameter.numel() > 0
        and all(tensor.is_contiguous() for tensor in (parameter, gradient, copy))
    )

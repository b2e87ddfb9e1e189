"""Muon: momentum whose matrices are made orthogonal, so that every direction of a layer learns at the same speed.

The nearest orthogonal matrix comes from five rounds of a polynomial in products alone (Newton-Schulz), which run well in
bfloat16. It is meant for matrices inside the network; tables and vectors go to `rest`, an AdamW. Sources: Jordan et al.
2024, "Muon: an optimizer for hidden layers in neural networks" (algorithm, coefficients); Liu et al. 2025, "Muon is
scalable for LLM training", section 2.2 (the `rms` scale).

The maths is our own and not `torch.optim.Muon`, which takes every matrix by itself and always in bfloat16: small
matrices of one shape go through in one batch here (twice as fast at 128 x 128 on a CPU), where bfloat16 is emulated it
is float32, and matrices that lie stacked in one tensor (a recurrent cell's gates) are made orthogonal each by itself.
Queries, keys and values are separate matrices in this package, and are not divided further into heads.

k matrices, m rows, n columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.train.optimizer.adamw import AdamW, ScalingAdamW
from yuyan.train.optimizer.groups import Kind, Rates, groups_of
from yuyan.train.parts import own, own_of, whole_of
from yuyan.train.precision import Precision, resolve

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7
SMALL = 256  # rows or columns up to which a CPU is faster with a batch than with one product after the other
MOST_TOGETHER = 1 << 24  # numbers in one batch


class Muon(Config):
    """Orthogonal momentum for matrices inside the network, AdamW for the rest (Jordan et al. 2024)."""

    kind: Literal["muon"] = "muon"
    lr: float = Field(4e-3, gt=0)
    """The full learning rate of the matrices; the schedule multiplies it."""
    scale: Literal["rms", "spectral"] = "rms"
    """How long a step is: with rms as long as AdamW's (0.2 sqrt(longer side), Liu et al. 2025), so that its rates serve; with spectral sqrt(max(1, rows / columns)), for rates near 0.02."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Memory of the mean gradient."""
    nesterov: bool = True
    """Whether the momentum looks one step ahead."""
    rounds: int = Field(5, ge=1, le=20)
    """Rounds of Newton-Schulz; more come nearer to orthogonal, and cost as much each."""
    precision: Precision = "auto"
    """Number format of those rounds; auto is bfloat16 where the processor has it."""
    weight_decay: float = Field(0.1, ge=0)
    """Share of a matrix, times the learning rate, taken away at each step."""
    rest: AdamW = AdamW()
    """The optimizer of embeddings, head, norms and biases."""

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, Kind]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name what it is (`parameter_kinds`)."""
        inside, others = _parted(masters, kinds)
        groups = groups_of(inside, kinds, Rates(), lr=self.lr, weight_decay=self.weight_decay)
        return _Muon(groups, self.rest.build(others, kinds) if others else None, self)

    def kept(self, masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]) -> int:
        """How many numbers the optimizer remembers between two steps."""
        inside, others = _parted(masters, kinds)
        return sum(p.numel() for p in inside.values()) + self.rest.kept(others, kinds)


def _parted(
    masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind]
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The matrices inside the network, and the rest."""
    inside = {name: p for name, p in masters.items() if kinds[name].part == "matrix" and _has_directions(p)}
    return inside, {name: p for name, p in masters.items() if name not in inside}


def _has_directions(parameter: Tensor) -> bool:
    """A single row or column has one direction only, and more axes are no matrix."""
    return parameter.ndim == 2 and min(parameter.shape) > 1


class _Muon(torch.optim.Optimizer):
    """Two optimizers as one: their groups and their memory are found here, whichever steps them."""

    def __init__(self, groups: list[dict[str, Any]], rest: ScalingAdamW | None, config: Muon):
        # PyTorch wants one group at least; a network without matrices has only those of `rest`
        super().__init__(groups or [{"params": []}], {"lr": config.lr})
        self.config, self.rest = config, rest
        self._own = self.param_groups if groups else []
        self._dtype = resolve(config.precision, groups[0]["params"][0].device if groups else torch.device("cpu"))
        if rest is not None:
            rest.state = self.state
            self.param_groups = [*self._own, *rest.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step. There is no closure here."""
        assert closure is None
        for group in self._own:
            self._step_group(group, 1.0)
        if self.rest is not None:
            self.rest.step()

    @torch.no_grad()
    def step_scaled(self, scale: float, copies: Mapping[nn.Parameter, Tensor]) -> bool:
        """As `Scaling` says; it cannot where AdamW cannot, which does it for the rest."""
        moved = [p for group in self._own for p in group["params"] if p.grad is not None]
        if not all(p in copies for p in moved):
            return False
        if self.rest is not None and not self.rest.step_scaled(scale, copies):
            return False
        for group in self._own:
            self._step_group(group, scale)
        if moved:
            torch._foreach_copy_([copies[p] for p in moved], moved)
        return True

    def _step_group(self, group: dict[str, Any], scale: float) -> None:
        """One step with the gradients times `scale`."""
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        weights = [own(p) for p in parameters]
        gradients = [own(p.grad).to(p.dtype) for p in parameters if p.grad is not None]
        if scale != 1.0:
            gradients = list(torch._foreach_mul(gradients, scale))
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
        momenta = [own(self.state[p]["momentum_buffer"]) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - self.config.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, self.config.momentum) if self.config.nesterov else momenta
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        blocks = group["blocks"]
        for chosen in _alike(parameters):
            rows, columns = parameters[chosen[0]].shape
            pieces = [whole_of(ahead[i], parameters[i]).to(self._dtype) for i in chosen]
            matrices = torch.stack(pieces).view(-1, rows // blocks, columns)
            length = group["lr"] * self._length(rows // blocks, columns)
            steps = orthogonal(matrices, self.config.rounds).reshape(-1, rows, columns)
            for i, step in zip(chosen, steps, strict=True):
                weights[i].add_(own_of(step, parameters[i]), alpha=-length)

    def _length(self, rows: int, columns: int) -> float:
        if self.config.scale == "rms":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))


def _alike(parameters: list[nn.Parameter]) -> Iterator[list[int]]:
    """Numbers of parameters of one shape, together where a batch of them is faster."""
    shapes: dict[torch.Size, list[int]] = {}
    for number, parameter in enumerate(parameters):
        shapes.setdefault(parameter.shape, []).append(number)
    for shape, numbers in shapes.items():
        together = min(shape) < SMALL or parameters[numbers[0]].is_cuda
        size = max(1, MOST_TOGETHER // shape.numel()) if together else 1
        yield from (numbers[i : i + size] for i in range(0, len(numbers), size))


def orthogonal(matrices: Tensor, rounds: int) -> Tensor:
    """(k, m, n) matrices U S V^T as about U V^T, in their number format: singular values come to lie between 0.7 and 1.2.

    Each round is X = a X + (b A + c A^2) X with A = X X^T, from X divided by its norm, on the shorter side.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    x = (x / norms.clamp(min=EPS).to(x.dtype)).contiguous()
    if len(x) == 1:
        return _one(x[0], rounds).mT[None] if tall else _one(x[0], rounds)[None]
    for _ in range(rounds):
        square = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def _one(x: Tensor, rounds: int) -> Tensor:
    """The same for one matrix: a CPU's kernel for a single product is the faster one."""
    a, b, c = COEFFICIENTS
    for _ in range(rounds):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x

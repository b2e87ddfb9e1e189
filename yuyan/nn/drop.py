"""Dropout (Srivastava et al. 2014): each number is left out with probability p, and the others are divided by 1 - p.

In bfloat16 on a CPU PyTorch draws one number after the other, which takes a fifth of a training step. Here a call draws
one number from PyTorch's generator, whose state a run saves, and a hash of it and of the place decides over each number,
in the same pass that multiplies it. The backward pass computes the mask anew: none is kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuyan.nn.words import has_words, share, words


def dropout(x: Tensor, rate: float) -> Tensor:
    """`F.dropout(x, rate)`, by another draw."""
    if not rate:
        return x
    if not has_words(x) or not x.numel():
        return F.dropout(x, rate)
    out: Tensor = _Dropout.apply(x, rate, drawn_seed())  # type: ignore[no-untyped-call]
    return out


def drawn_seed() -> int:
    """From PyTorch's generator."""
    return int(torch.randint(2**63 - 1, (), dtype=torch.int64))


def dropped(x: Tensor, rate: float, seed: int) -> Tensor:
    """What is left of `x`: which numbers, depends on the seed and the shape alone. It is not differentiated here."""
    from yuyan.nn import kernels

    x = x.contiguous()
    out = torch.empty_like(x)
    source, made = (words(t).reshape(-1, t.shape[-1]) for t in (x, out))
    low, high, limit = seed & 0xFFFFFFFF, seed >> 32, min(round(rate * 2**32), 2**32 - 1)
    share(
        len(source), x.numel(),
        lambda first, last: kernels.dropped(first, last, source, made, low, high, limit, 1 / (1 - rate)),
    )  # fmt: skip
    return out


class Dropout(nn.Module):
    """Dropout while training, of a tensor of any shape."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training else x


class _Dropout(torch.autograd.Function):
    """What is left out depends on the seed and the shape alone, so that the gradient is the same function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return dropped(x, rate, seed)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None]:
        return _Dropout.apply(d_out, ctx.rate, ctx.seed), None, None  # type: ignore[no-untyped-call]

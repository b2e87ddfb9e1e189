"""The tanh approximation of GELU in bfloat16 on a CPU: one pass forward and one back, 3 to 4 times as fast as PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.nn.words import has_words, share, words


def gelu_tanh(x: Tensor) -> Tensor:
    """`F.gelu(x, approximate="tanh")`, rounded once (Hendrycks and Gimpel 2016)."""
    if not has_words(x):
        return F.gelu(x, approximate="tanh")
    out: Tensor = _GeluTanh.apply(x)  # type: ignore[no-untyped-call]
    return out


class _GeluTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from yuyan.nn import kernels

        x = x.contiguous()
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        source, made = (words(t).reshape(-1, t.shape[-1]) for t in (x, out))
        share(len(source), x.numel(), lambda first, last: kernels.gelu_tanh(first, last, source, made))
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Tensor:
        from yuyan.nn import kernels

        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            slope: Tensor = torch.ops.aten.gelu_backward(d_out, x, approximate="tanh")
            return slope
        out = torch.empty_like(x)
        source, given, made = (words(t.contiguous()).reshape(-1, t.shape[-1]) for t in (x, d_out, out))
        share(len(source), x.numel(), lambda first, last: kernels.d_gelu_tanh(first, last, source, given, made))
        return out

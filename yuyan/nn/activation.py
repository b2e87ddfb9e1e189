"""Functions between two products in bfloat16 on a CPU, in one pass forward and one back: the tanh approximation of GELU, 3 to 4
times as fast as PyTorch's, and the product of a gate.

Shapes: ... any leading axes, V width.
"""

from __future__ import annotations

from collections.abc import Callable
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
        _each_row(kernels.gelu_tanh, x, out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Tensor:
        from yuyan.nn import kernels

        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            slope: Tensor = torch.ops.aten.gelu_backward(d_out, x, approximate="tanh")
            return slope
        out = torch.empty_like(x)
        _each_row(kernels.d_gelu_tanh, x, d_out.contiguous(), out)
        return out


def silu_times(gate: Tensor, x: Tensor) -> Tensor:
    """(..., V): `F.silu(gate) * x`, rounded once (SwiGLU, Shazeer 2020)."""
    if not (has_words(gate) and has_words(x)):
        return F.silu(gate) * x
    out: Tensor = _SiluTimes.apply(gate, x)  # type: ignore[no-untyped-call]
    return out


class _SiluTimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, x: Tensor) -> Tensor:
        from yuyan.nn import kernels

        gate, x = gate.contiguous(), x.contiguous()
        ctx.save_for_backward(gate, x)
        out = torch.empty_like(x)
        _each_row(kernels.silu_times, gate, x, out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor]:
        from yuyan.nn import kernels

        gate, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients are to be differentiated themselves
            opened = gate.sigmoid()
            return d_out * x * opened * (1 + gate * (1 - opened)), d_out * gate * opened
        d_gate, d_x = torch.empty_like(gate), torch.empty_like(x)
        _each_row(kernels.d_silu_times, gate, x, d_out.contiguous(), d_gate, d_x)
        return d_gate, d_x


def _each_row(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """A loop over the rows (V,) of contiguous tensors of one shape."""
    arrays = [words(t).reshape(-1, t.shape[-1]) for t in tensors]
    share(len(arrays[0]), tensors[0].numel(), lambda first, last: kernel(first, last, *arrays))

"""A linear layer by the fastest exact means: x W^T + b, and in inference the activation after it in the same pass.

PyTorch hands float32 products to MKL, which reaches 40 % of the peak of some processors (AMD's), and oneDNN, which is part
of PyTorch as well, nearly all of it. Here oneDNN is asked directly, in float32 and with no setting of the process
changed. For bfloat16 PyTorch asks oneDNN itself, but writes the bias into the output first and adds the product to it; the
call here has the bias in the product's own pass.

Shapes: ... any leading axes, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuyan.nn.activation import gelu_tanh
from yuyan.nn.transforms import under_transform
from yuyan.nn.words import column_sums

Activate = Callable[[Tensor], Tensor]
Fused = tuple[str, str]
"""What oneDNN calls an activation, and its variant."""

LEAST_WORK = 1 << 21  # multiplications of a float32 product below which MKL's smaller start-up wins
LEAST_ROWS = 16
AVAILABLE = torch._C._has_mkldnn and platform.machine().lower() in ("x86_64", "amd64")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., I) times (O, I) transposed, plus (O): equal to `F.linear` to rounding, gradients of any order too."""
    if not _fits(x, weight):
        return F.linear(x, weight, bias)
    if not _differentiated(x, weight, bias):
        return _onednn(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def linear_activated(x: Tensor, weight: Tensor, bias: Tensor | None, activate: Activate, fused: Fused | None) -> Tensor:
    """`activate(linear(x, weight, bias))`, in one pass where nothing is differentiated; `fused` names `activate` there."""
    if fused is None or not _fits(x, weight):
        return activate(linear(x, weight, bias))
    if _differentiated(x, weight, bias):
        made = linear(x, weight, bias)
        return gelu_tanh(made) if fused == ("gelu", "tanh") else activate(made)
    return _onednn(x, weight, bias, *fused)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def activated(self, x: Tensor, activate: Activate, fused: Fused | None) -> Tensor:
        """The activation of the layer's output."""
        return linear_activated(x, self.weight, self.bias, activate, fused)


class Packed:
    """`x W^T` in bfloat16 for many small x in turn: W (O, I) is put in oneDNN's order once, for about `rows` rows."""

    def __init__(self, weight: Tensor, rows: int):
        self.weight, self.packed = weight, AVAILABLE and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, I) to (rows, O)."""
        return _onednn(x, self.weight, None) if self.packed else x @ self.weight.t()


def _fits(x: Tensor, weight: Tensor) -> bool:
    if not AVAILABLE or x.device.type != "cpu" or x.dtype != weight.dtype or under_transform():
        return False
    if torch.is_autocast_enabled("cpu"):  # which casts what `F.linear` gets
        return False
    rows = x.numel() // x.shape[-1] if x.shape[-1] else 0
    if x.dtype == torch.bfloat16:
        return rows > 0
    return x.dtype == torch.float32 and rows >= LEAST_ROWS and rows * weight.numel() >= LEAST_WORK


def _differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", variant: str = "") -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], variant)
    return out


def turned_product(left: Tensor, right: Tensor) -> Tensor:
    """(O, I): the transposed (N, O) times (N, I), which is the gradient of a weight."""
    if left.dtype == torch.bfloat16:  # PyTorch asks oneDNN for it in a faster order
        return left.t() @ right
    return linear(left.t(), right.t())


class _Linear(torch.autograd.Function):
    """Forward and backward products through oneDNN; the backward pass can be differentiated itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = d_out.flatten(0, -2)
        return (
            linear(d_out, weight.t()) if ctx.needs_input_grad[0] else None,
            turned_product(rows, x.flatten(0, -2)) if ctx.needs_input_grad[1] else None,
            (rows.sum(0) if torch.is_grad_enabled() else column_sums(rows)) if ctx.needs_input_grad[2] else None,
        )

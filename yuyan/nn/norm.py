"""How a vector is brought to a common size before or after each part of a network.

Shapes: (..., D) in and out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from yuyan.config import Config
from yuyan.nn.transforms import under_transform


class LayerNorm(Config):
    """Subtract the mean, divide by the standard deviation, scale and shift (Ba 2016)."""

    kind: Literal["layer_norm"] = "layer_norm"
    eps: float = Field(default=1e-5, gt=0)
    """Added to the variance before the root."""
    bias: bool = True
    """Whether a learned shift follows the learned scale."""

    def build(self, size: int) -> nn.Module:
        return nn.LayerNorm(size, eps=self.eps, bias=self.bias)


class RMSNorm(Config):
    """Divide by the root of the mean square, and scale (Zhang and Sennrich 2019)."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square before the root."""

    def build(self, size: int) -> nn.Module:
        return RMSNormModule(size, eps=self.eps)


class RMSNormModule(nn.RMSNorm):
    """RMSNorm; when training on a CPU with half the passes over memory of PyTorch's, which is put together from single operations."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.eps is not None
        fast = x.device.type == "cpu" and x.dtype == self.weight.dtype
        if fast and torch.is_grad_enabled() and not under_transform():
            out: Tensor = _RootMeanSquare.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
            return out
        plain: Tensor = super().forward(x)
        return plain


class _RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight; the statistics in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse if x.dtype == inverse.dtype else (x * inverse).to(x.dtype)
        ctx.save_for_backward(normed, inverse, weight)
        out: Tensor = normed * weight
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        d_weight = (d_out * normed).flatten(0, -2).sum(0)
        d_normed = d_out * weight
        along = (d_normed * normed).mean(-1, keepdim=True)
        return d_normed.addcmul_(normed, along, value=-1).mul_(inverse.to(d_normed.dtype)), d_weight, None


Norm = Annotated[LayerNorm | RMSNorm, Field(discriminator="kind")]

"""How a vector is brought to a common size before or after each part of a network.

Shapes: (..., D) in and out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from yuyan.config import Config


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
        return nn.RMSNorm(size, eps=self.eps)


Norm = Annotated[LayerNorm | RMSNorm, Field(discriminator="kind")]

"""What happens to each token between attentions: one hidden layer, plain or gated.

Shapes: (B, T, D) in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.activation import silu_times
from yuyan.nn.drop import Dropout
from yuyan.nn.linear import Fused, Linear

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "relu2", "tanh"]


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, which GPT-2 and T5 v1.1 were trained with (Hendrycks and Gimpel 2016)."""
    return F.gelu(x, approximate="tanh")


def relu2(x: Tensor) -> Tensor:
    """The square of the rectified value (So 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "silu": F.silu,
    "relu2": relu2,
    "tanh": F.tanh,
}

FUSED: dict[Activation, Fused] = {
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}
"""Those that a product can be joined with (yuyan.nn.linear)."""


def activated(layer: nn.Module, x: Tensor, activation: Activation) -> Tensor:
    """The activation of a layer's output, in one pass where the layer can."""
    if type(layer) is Linear:  # and not what stands in its place, as an adapter
        return layer.activated(x, ACTIVATIONS[activation], FUSED.get(activation))
    return ACTIVATIONS[activation](layer(x))


class Mlp(Config):
    """down(activation(up(x))) (Vaswani 2017, section 3.3)."""

    kind: Literal["mlp"] = "mlp"
    intermediate_size: int = Field(gt=0)
    """Width of the hidden layer."""
    activation: Activation = "gelu"
    """The function between the two products."""
    bias: bool = True
    """Whether both products have a bias."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the hidden layer."""

    def build(self, hidden_size: int) -> nn.Module:
        return MlpModule(self, hidden_size)


class MlpModule(nn.Module):
    """The plain feed-forward layer."""

    def __init__(self, config: Mlp, hidden_size: int):
        super().__init__()
        self.up_proj = Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.down_proj = Linear(config.intermediate_size, hidden_size, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.activation: Activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down_proj(self.dropout(activated(self.up_proj, x, self.activation)))
        return hidden


class Gated(Config):
    """down(activation(gate(x)) * up(x)): GLU and its relatives SwiGLU and GEGLU (Shazeer 2020)."""

    kind: Literal["gated"] = "gated"
    intermediate_size: int = Field(gt=0)
    """Width of the hidden layer."""
    activation: Activation = "silu"
    """The function on the gate."""
    bias: bool = False
    """Whether the three products have a bias."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the hidden layer."""

    def build(self, hidden_size: int) -> nn.Module:
        return GatedModule(self, hidden_size)


class GatedModule(nn.Module):
    """The gated feed-forward layer."""

    def __init__(self, config: Gated, hidden_size: int):
        super().__init__()
        self.gate_proj = Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.up_proj = Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.down_proj = Linear(config.intermediate_size, hidden_size, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.activation: Activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        if self.activation == "silu" and torch.is_grad_enabled():  # without, the gate's product makes its activation
            opened = silu_times(self.gate_proj(x), self.up_proj(x))
        else:
            opened = activated(self.gate_proj, x, self.activation) * self.up_proj(x)
        hidden: Tensor = self.down_proj(self.dropout(opened))
        return hidden


Ffn = Annotated[Mlp | Gated, Field(discriminator="kind")]

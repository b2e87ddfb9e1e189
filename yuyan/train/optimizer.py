"""What turns gradients into steps, and which weights it decays.

Groups follow the structure of the network, not its names: matrices inside the network are decayed, embeddings, norms and
biases are not (decay pulls them towards 0, where they carry no meaning).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from yuyan.config import Config


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

    def build(self, masters: dict[str, nn.Parameter], kinds: dict[str, str]) -> torch.optim.Optimizer:
        """The optimizer over `masters`; `kinds` says of each name whether it is a matrix, an embedding, ..."""
        decayed = [p for name, p in masters.items() if kinds[name] == "matrix"]
        spared = [p for name, p in masters.items() if kinds[name] != "matrix"]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": spared, "weight_decay": 0.0}]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True,
        )  # fmt: skip


OptimizerConfig = Annotated[AdamW, Field(discriminator=None)]


def parameter_kinds(module: nn.Module) -> dict[str, str]:
    """`embedding`, `matrix` or `vector` for the name of every parameter, by the module that owns it."""
    kinds: dict[str, str] = {}
    for prefix, owner in module.named_modules():
        for name, parameter in owner.named_parameters(prefix, recurse=False):
            if isinstance(owner, nn.Embedding):
                kinds[name] = "embedding"
            else:
                kinds[name] = "matrix" if parameter.ndim >= 2 else "vector"
    return kinds

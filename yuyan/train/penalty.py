"""What large weights cost, beside decay: a gradient that is added to that of the loss, and never seen in the loss.

Decoupled decay (`weight_decay` of an optimizer) takes a share of each weight away. A penalty goes through the optimizer
instead, so that Adam divides it by the size of the gradients (Loshchilov & Hutter 2019, section 2, say why that differs).
It is added after clipping: the reported norm of the gradient is that of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.train.optimizer.groups import DECAYED
from yuyan.train.parts import own


class Penalty(Config):
    """l1 sum |w| + l2 / 2 sum w^2 over the matrices that decay, for each token's loss."""

    l1: float = Field(0.0, ge=0)
    """Pulls every weight towards 0 by the same amount, and some to stay there (Tibshirani 1996)."""
    l2: float = Field(0.0, ge=0)
    """Pulls every weight in proportion to its size (Hoerl & Kennard 1970)."""

    @torch.no_grad()
    def add(self, groups: Sequence[dict[str, Any]]) -> None:
        """Add its gradient to those of the parameter groups of an optimizer."""
        decayed = [p for group in groups if group["part"] in DECAYED for p in group["params"] if p.grad is not None]
        weights: list[Tensor] = [own(p) for p in decayed]
        gradients = [own(p.grad) for p in decayed]
        if self.l2 and weights:
            torch._foreach_add_(gradients, weights, alpha=self.l2)
        if self.l1 and weights:
            torch._foreach_add_(gradients, [p.sign() for p in weights], alpha=self.l1)

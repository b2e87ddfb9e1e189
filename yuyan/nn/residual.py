"""A residual connection is a wrapper: where the norm sits is its whole difference.

Shapes: (B, T, D) in and out.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from yuyan.nn.drop import Dropout

Residual = Literal["pre", "post"]


class PreNorm(nn.Module):
    """x + inner(norm(x)): the stream itself is never normalised (GPT-2, Llama, T5)."""

    def __init__(self, norm: nn.Module, inner: nn.Module, dropout: float):
        super().__init__()
        self.norm, self.inner, self.dropout = norm, inner, Dropout(dropout)

    def forward(self, x: Tensor, *args: object) -> Tensor:
        out: Tensor = x + self.dropout(self.inner(self.norm(x), *args))
        return out


class PostNorm(nn.Module):
    """norm(x + inner(x)) (Vaswani 2017, BERT)."""

    def __init__(self, norm: nn.Module, inner: nn.Module, dropout: float):
        super().__init__()
        self.norm, self.inner, self.dropout = norm, inner, Dropout(dropout)

    def forward(self, x: Tensor, *args: object) -> Tensor:
        out: Tensor = self.norm(x + self.dropout(self.inner(x, *args)))
        return out


RESIDUALS: dict[Residual, type[PreNorm] | type[PostNorm]] = {"pre": PreNorm, "post": PostNorm}

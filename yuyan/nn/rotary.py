"""The arithmetic of rotary positions: at which rate each pair of coordinates turns, and how long texts stretch it.

The first half of a head's coordinates is paired with the second half. Pair i of a token at position p is turned by
the angle p * rate_i, with rate_i = theta^(-2i/K) (Su 2021, section 3.2); a scaling changes the rates so that a model
trained on short texts reads longer ones.

Shapes: B batch, T tokens, H heads, K head size.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from yuyan.config import Config
from yuyan.nn.transforms import under_transform


class LinearScaling(Config):
    """All positions are divided by `factor` (Chen 2023)."""

    kind: Literal["linear"] = "linear"
    factor: float = Field(ge=1)
    """How many times longer than in training a text may be."""

    def rates(self, theta: float, size: int, length: int) -> Tensor:
        return plain_rates(theta, size) / self.factor

    @property
    def magnitude(self) -> float:
        return 1.0


class DynamicScaling(Config):
    """Theta grows with the text once it is longer than in training (NTK-aware scaling)."""

    kind: Literal["dynamic"] = "dynamic"
    factor: float = Field(ge=1)
    """How fast theta grows."""
    original_max_position_embeddings: int = Field(gt=0)
    """The longest text of training; up to here nothing changes."""

    def rates(self, theta: float, size: int, length: int) -> Tensor:
        length = max(length, self.original_max_position_embeddings)
        stretch = self.factor * length / self.original_max_position_embeddings - (self.factor - 1)
        return plain_rates(theta * stretch ** (size / (size - 2)), size)

    @property
    def magnitude(self) -> float:
        return 1.0


class YarnScaling(Config):
    """Slow pairs are slowed down, fast ones kept, with a ramp between; queries and keys grow a little (Peng 2023)."""

    kind: Literal["yarn"] = "yarn"
    factor: float = Field(ge=1)
    """How many times longer than in training a text may be."""
    original_max_position_embeddings: int = Field(gt=0)
    """The longest text of training."""
    beta_fast: float = 32.0
    """Pairs that turn more often than this in the training length are kept."""
    beta_slow: float = 1.0
    """Pairs that turn less often than this are slowed by the whole factor."""
    attention_factor: float | None = None
    """By how much queries and keys grow; null is 0.1 ln(factor) + 1."""
    truncate: bool = True
    """Whether the ends of the ramp are whole pairs."""

    def rates(self, theta: float, size: int, length: int) -> Tensor:
        def pair(turns: float) -> float:
            """The pair that turns this often in the training length."""
            return (
                size * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))
            )

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        if low == high:
            high += 0.001  # a ramp needs a length
        kept = 1 - ((torch.arange(size // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
        rates = plain_rates(theta, size)
        return rates / self.factor * (1 - kept) + rates * kept

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


class Llama3Scaling(Config):
    """Long waves are slowed by `factor`, short ones kept, with a ramp between (Llama 3.1)."""

    kind: Literal["llama3"] = "llama3"
    factor: float = Field(ge=1)
    """How much slower long waves turn."""
    low_freq_factor: float = Field(gt=0)
    """Waves longer than the training length divided by this are slowed by the whole factor."""
    high_freq_factor: float = Field(gt=0)
    """Waves shorter than the training length divided by this are kept."""
    original_max_position_embeddings: int = Field(gt=0)
    """The longest text of training."""

    def rates(self, theta: float, size: int, length: int) -> Tensor:
        rates = plain_rates(theta, size)
        waves = self.original_max_position_embeddings * rates / (2 * math.pi)  # in the training length
        kept = ((waves - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clamp(0, 1)
        return (1 - kept) * rates / self.factor + kept * rates

    @property
    def magnitude(self) -> float:
        return 1.0


Pair = tuple[Tensor, Tensor]
Scaling = Annotated[LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling, Field(discriminator="kind")]


class Rotation:
    """The turn of every token: cosines and signed sines of its angles, (1|B, 1, T, K) each.

    Both halves of a head have the same cosines; the sines of the first half are negative, so that a turn is
    `x * cos + swapped(x) * sin`, with the two halves of x swapped.
    """

    def __init__(self, cos: Tensor, sin: Tensor):
        self.cos, self.sin = cos, sin
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor]] = {cos.dtype: (cos, sin)}

    def of_type(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The tables as `dtype`, converted once for all layers."""
        if dtype not in self._cast:
            self._cast[dtype] = (self.cos.to(dtype), self.sin.to(dtype))
        return self._cast[dtype]


def plain_rates(theta: float, size: int) -> Tensor:
    """(size/2,) radians a position, from 1 down to about 1/theta."""
    return 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size)


def rotation_tables(rates: Tensor, magnitude: float, length: int, device: torch.device) -> Pair:
    """Cosines and signed sines, (length, K) in float32, of all positions below `length`."""
    angle = torch.arange(length, dtype=torch.float32)[:, None] * rates.cpu()
    cos, sin = angle.cos() * magnitude, angle.sin() * magnitude
    return torch.cat((cos, cos), -1).to(device), torch.cat((-sin, sin), -1).to(device)


def rotate(heads: Tensor, rotation: Rotation | None) -> Tensor:
    """Turn (B, H, T, K) queries or keys."""
    if rotation is None:
        return heads
    cos, sin = rotation.of_type(heads.dtype)
    if under_transform() or not torch.is_grad_enabled():
        return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)
    out: Tensor = _Turn.apply(heads, cos, sin)  # type: ignore[no-untyped-call]
    return out


class _Turn(torch.autograd.Function):
    """The same with fewer passes over memory; its gradient is the turn back."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        if heads.dtype == torch.bfloat16:
            heads = heads.contiguous()  # 2 times as fast: the tables of all tokens of a head are one row
        return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        if d_out.dtype == torch.bfloat16:
            d_out = d_out.contiguous()
        return (d_out * cos).addcmul_(d_out.roll(d_out.shape[-1] // 2, -1), sin, value=-1), None, None

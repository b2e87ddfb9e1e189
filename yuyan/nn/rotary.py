"""The arithmetic of rotary positions: at which rate each pair of coordinates turns, and how long texts stretch it.

The first half of a head's coordinates is paired with the second half. Pair i of a token at position p is turned by
the angle p * rate_i, with rate_i = theta^(-2i/K) (Su 2021, section 3.2); a scaling changes the rates so that a model
trained on short texts reads longer ones.

Shapes: B batch, T tokens, H heads, K head size.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config


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
    """By how much queries and keys grow; None is 0.1 ln(factor) + 1."""
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


Scaling = Annotated[LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling, Field(discriminator="kind")]


class Rotation(NamedTuple):
    """The turn of every token: `cos` and `sin` of its angles, (1|B, T, 1, K/2)."""

    cos: Tensor
    sin: Tensor


def plain_rates(theta: float, size: int) -> Tensor:
    """(size/2,) radians a position, from 1 down to about 1/theta."""
    return 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size)


def rotation_tables(rates: Tensor, magnitude: float, length: int, device: torch.device) -> Rotation:
    """cos and sin, (length, size/2) in float32, of all positions below `length`."""
    angle = torch.arange(length, dtype=torch.float32)[:, None] * rates.cpu()
    return Rotation((angle.cos() * magnitude).to(device), (angle.sin() * magnitude).to(device))


def rotate(heads: Tensor, rotation: Rotation | None) -> Tensor:
    """Turn (B, T, H, K) queries or keys."""
    if rotation is None:
        return heads
    cos, sin = rotation.cos.to(heads.dtype), rotation.sin.to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

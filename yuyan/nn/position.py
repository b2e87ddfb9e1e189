"""Where order enters a model: one object with three hooks, each a no-op by default.

`embed` adds to the input (learned, sinusoidal), `rotation` turns queries and keys (rotary), `bias` is added to the
attention scores (T5, ALiBi). Every known scheme overrides one hook, so the stack calls all three and never asks.

Shapes: B batch, T queries, S keys, D width of what is embedded, H heads, K head size. A size written 1|B is 1 when
every row is alike.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.errors import InputError
from yuyan.nn.mask import Places
from yuyan.nn.rotary import DynamicScaling, Rotation, Scaling, plain_rates, rotation_tables
from yuyan.nn.table import Table
from yuyan.nn.transforms import under_transform


class PositionModule(nn.Module):
    """Order does not enter at all. A variant overrides one hook and leaves the others alone."""

    def embed(self, x: Tensor, places: Places) -> Tensor:
        """The input (B, T, D) with its positions."""
        return x

    def rotation(self, places: Places) -> Rotation | None:
        """How queries and keys are turned, computed once a forward pass."""
        return None

    def bias(self, places: Places) -> Tensor | None:
        """(1|B, H, T, S) to add to the attention scores."""
        return None


class NoPosition(Config):
    """A causal stack can count without being told (Haviv 2022); recurrent sides always do."""

    kind: Literal["none"] = "none"

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return PositionModule()


class Learned(Config):
    """One learned vector for each position, added to the input (GPT-2, BERT)."""

    kind: Literal["learned"] = "learned"
    max_position_embeddings: int = Field(gt=0)
    """The longest text in tokens."""
    offset: int = Field(default=0, ge=0)
    """Rows of the table before that of the first token; RoBERTa has 2."""

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return LearnedPosition(self, size)


class LearnedPosition(PositionModule):
    """The table of learned positions."""

    def __init__(self, config: Learned, size: int):
        super().__init__()
        self.config = config
        self.table = Table(config.max_position_embeddings + config.offset, size)

    def embed(self, x: Tensor, places: Places) -> Tensor:
        limit, offset = self.config.max_position_embeddings, self.config.offset
        if places.uniform:
            start, end = places.start, places.start + x.shape[1]
            if end > limit:
                raise InputError(f"input_ids: {end} tokens, but the model has positions for {limit}; cut the text")
            return x + self.table.weight[start + offset : end + offset]
        if not under_transform() and x.device.type == "cpu" and int(places.position_ids.max()) >= limit:
            end = int(places.position_ids.max()) + 1
            raise InputError(f"input_ids: {end} tokens, but the model has positions for {limit}; cut the text")
        embedded: Tensor = self.table(places.position_ids + offset)
        return x + embedded


class Sinusoidal(Config):
    """Sines and cosines of geometric wavelengths, added to the input (Vaswani 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"
    theta: float = Field(default=10_000.0, gt=1)
    """The longest wavelength divided by 2 pi."""

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return SinusoidalPosition(self)


class SinusoidalPosition(PositionModule):
    """PE(pos, 2i) = sin(pos / theta^(2i/D)), PE(pos, 2i+1) = cos of the same."""

    def __init__(self, config: Sinusoidal):
        super().__init__()
        self.config = config

    def embed(self, x: Tensor, places: Places) -> Tensor:
        size = x.shape[-1]
        even = torch.arange(0, size, 2, device=x.device, dtype=torch.float32)
        rate = torch.exp(even * (-math.log(self.config.theta) / size))
        angle = places.position_ids[..., None].float() * rate
        table = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :size]
        return x + table.to(x.dtype)


class Rotary(Config):
    """Queries and keys are turned by an angle that grows with their position (Su 2021)."""

    kind: Literal["rotary"] = "rotary"
    theta: float = Field(default=10_000.0, gt=1)
    """The longest wavelength divided by 2 pi, in tokens."""
    scaling: Scaling | None = None
    """How the angles change for texts longer than in training."""

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return RotaryPosition(self, head_size)


class RotaryPosition(PositionModule):
    """Rotation of queries and keys; the tables are kept and grow with the longest text seen."""

    def __init__(self, config: Rotary, head_size: int):
        super().__init__()
        self.config, self.head_size = config, head_size
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def rotation(self, places: Places) -> Rotation:
        start, end = places.start, places.start + places.query.shape[1]
        if places.uniform:
            cos, sin = self._table(end, places.query.device)
            return Rotation(cos[None, None, start:end], sin[None, None, start:end])
        # Derived positions never exceed the places; positions that the caller chose may.
        longest = int(places.position_ids.max()) + 1 if places.chosen else end
        cos, sin = self._table(longest, places.query.device)
        return Rotation(cos[places.position_ids][:, None], sin[places.position_ids][:, None])

    def prepare(self, length: int, device: torch.device) -> None:
        """Make the tables for texts of up to so many tokens, for a graph that cannot grow them."""
        self._table(length, device)

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of at least the positions below `length`, (S, K) each, on the CPU."""
        return self._table(length, torch.device("cpu"))

    def _table(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        scaling = self.config.scaling
        if isinstance(scaling, DynamicScaling):  # its rates are another function for each length
            return self._make(length, length, device)
        table = self._tables.get(device)
        if table is None or table[0].shape[0] < length:
            table = self._tables[device] = self._make(1 << max(8, (length - 1).bit_length()), length, device)
        return table

    def _make(self, room: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        scaling = self.config.scaling
        if scaling is None:
            return rotation_tables(plain_rates(self.config.theta, self.head_size), 1.0, room, device)
        rates = scaling.rates(self.config.theta, self.head_size, length)
        return rotation_tables(rates, scaling.magnitude, room, device)


class RelativeBias(Config):
    """A learned bias for each bucket of distances, shared by the layers of a stack (Raffel 2020, section 2.1)."""

    kind: Literal["relative_bias"] = "relative_bias"
    num_buckets: int = Field(default=32, gt=3)
    """How many biases each head has."""
    max_distance: int = Field(default=128, gt=1)
    """From here on all distances share the last bucket."""
    bidirectional: bool = True
    """Whether half of the buckets are for what comes later."""

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return RelativeBiasPosition(self, heads)


class RelativeBiasPosition(PositionModule):
    """Exact buckets for small distances, logarithmic ones for large."""

    def __init__(self, config: RelativeBias, heads: int):
        super().__init__()
        self.config = config
        self.table = Table(config.num_buckets, heads)

    def bias(self, places: Places) -> Tensor:
        if places.query.shape[0] > 1 or torch.compiler.is_exporting():
            offset = places.key[:, None, :] - places.query[:, :, None]
            bias: Tensor = self.table(self.bucket(offset)).permute(0, 3, 1, 2)
            return bias
        # Alike rows have no gaps: each distance is looked up once, and every query sees a window of them.
        queries, keys = places.query.shape[1], places.key.shape[1]
        offset = torch.arange(1 - places.start - queries, keys - places.start, device=places.key.device)
        distances: Tensor = self.table(self.bucket(offset)).T.contiguous()  # (H, T + S - 1)
        return distances.unfold(1, keys, 1).flip(1)[None]

    def bucket(self, offset: Tensor) -> Tensor:
        """The bucket of each `key - query`."""
        buckets = self.config.num_buckets
        if self.config.bidirectional:
            buckets //= 2
            start = (offset > 0).long() * buckets
            offset = offset.abs()
        else:
            start = torch.zeros_like(offset)
            offset = (-offset).clamp(min=0)
        near = buckets // 2
        # In this order: the rounding of exact powers decides their bucket, and published weights expect it so.
        share = torch.log(offset.clamp(min=1).float() / near) / math.log(self.config.max_distance / near)
        far = near + (share * (buckets - near)).long()
        return start + torch.where(offset < near, offset, far.clamp(max=buckets - 1))


class Alibi(Config):
    """Attention falls off linearly with distance, at a fixed slope for each head (Press 2022)."""

    kind: Literal["alibi"] = "alibi"

    def build(self, size: int, heads: int, head_size: int) -> PositionModule:
        return AlibiPosition(heads)


class AlibiPosition(PositionModule):
    """Slopes are the powers of 2^(-8/H); where H is no power of two, as published in the paper's code."""

    def __init__(self, heads: int):
        super().__init__()
        self.slopes = alibi_slopes(heads)

    def bias(self, places: Places) -> Tensor:
        distance = (places.query[:, :, None] - places.key[:, None, :]).abs()[:, None]
        slopes = torch.tensor(self.slopes, device=distance.device)[None, :, None, None]
        return -slopes * distance


def alibi_slopes(heads: int) -> list[float]:
    """One slope for each head."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    extra = [2 ** (-8 * (i + 1) / (2 * power)) for i in range(2 * power)][::2]
    return slopes + extra[: heads - power]


Position = Annotated[
    NoPosition | Learned | Sinusoidal | Rotary | RelativeBias | Alibi,
    Field(discriminator="kind"),
]

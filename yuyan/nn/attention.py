"""Scaled dot-product attention with any number of heads; self- and cross-attention are the same class.

A `View` says what one attention sees: everything additive is summed once a stack, so the attention itself is a few
lines and cannot tell a causal model from a bidirectional one.

Shapes: B batch, T queries, S keys, D hidden size, H heads, G key-value heads, K head size. 1|B: 1 if all rows agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.attend import Reach, attend, reach_of
from yuyan.nn.cache import NoCache, Pair
from yuyan.nn.linear import Linear
from yuyan.nn.mask import Mask, Places, allowed
from yuyan.nn.norm import Norm
from yuyan.nn.position import PositionModule
from yuyan.nn.rotary import Rotation, rotate


class Heads(Config):
    """How an attention is divided into heads."""

    count: int = Field(gt=0)
    """How many heads ask."""
    head_size: int | None = Field(default=None, gt=0)
    """Width of one head; null is hidden_size / count."""
    key_value_heads: int | None = Field(default=None, gt=0)
    """How many heads answer, each shared by a group of queries (Ainslie 2023); null is as many as ask."""
    bias: bool = False
    """Whether queries, keys and values have a bias."""
    output_bias: bool | None = None
    """Whether the output has one; null is as `bias`."""
    scale: float | None = Field(default=None, gt=0)
    """What scores are multiplied by; null is 1 / sqrt(head_size), T5 has 1."""
    qk_norm: Norm | None = None
    """A norm on each query and key head (Qwen3)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    @model_validator(mode="after")
    def _groups(self) -> Heads:
        if self.key_value_heads and self.count % self.key_value_heads:
            raise ValueError(f"count: {self.count} heads cannot share {self.key_value_heads} key-value heads evenly")
        return self

    def filled(self, hidden_size: int) -> Heads:
        """With every None decided."""
        if self.head_size is None and hidden_size % self.count:
            raise ValueError(f"hidden_size {hidden_size} cannot be divided among {self.count} heads; give head_size")
        return self.model_copy(
            update={
                "head_size": self.head_size or hidden_size // self.count,
                "key_value_heads": self.key_value_heads or self.count,
                "output_bias": self.bias if self.output_bias is None else self.output_bias,
            }
        )


@dataclass(frozen=True, slots=True)
class View:
    """What one attention sees: which keys, with what bias, through which rotation."""

    mask: Tensor | None
    """(1|B, 1|H, 1|T, S): booleans (True: seen), or numbers added to the scores; None: everything is seen."""
    causal: bool
    """Whether the kernel's own causal mask is all that is needed."""
    rotation: Rotation | None
    """How queries and keys are turned."""
    memory: Tensor | None
    """(B, S, D): what cross-attention reads; None: the attention reads its own input."""
    cache: NoCache
    """Where keys and values are kept."""
    reach: Reach | None = None
    """What the mask leaves to be seen of each query, so that the kernel need not look at the rest."""


def self_view(mask: Mask, position: PositionModule, places: Places, cache: NoCache) -> View:
    """The view of a sequence on itself; mask, padding, documents and position bias become one tensor at most."""
    visible, bias = allowed(mask, places), position.bias(places)
    causal = visible is None and mask.shape(places.query.shape[1], places.start) == "causal"
    reach = None if visible is None or bias is not None else reach_of(visible)
    if bias is not None:
        if causal:
            visible, causal = mask.allows(places.query[:, :, None], places.key[:, None, :])[:, None], False
        visible = bias if visible is None else bias.masked_fill(~visible, float("-inf"))
    return View(visible, causal, position.rotation(places), None, cache, reach)


def memory_view(memory: Tensor, memory_mask: Tensor | None, cache: NoCache) -> View:
    """The view on a memory (B, S, D) whose real tokens `memory_mask` (B, S) marks."""
    visible = None
    if memory_mask is not None:
        visible = memory_mask.bool()[:, None, None, :]
        visible = visible | ~visible.any(-1, keepdim=True)  # an empty memory must not give NaN
    return View(visible, False, None, memory, cache)


class Attention(nn.Module):
    """softmax(Q K^T * scale + mask) V in each head, joined by an output projection (Vaswani 2017, section 3.2)."""

    def __init__(self, config: Heads, hidden_size: int):
        super().__init__()
        self.config = heads = config.filled(hidden_size)
        assert heads.head_size and heads.key_value_heads and heads.output_bias is not None
        self.head_size = heads.head_size
        query_size, key_size = heads.count * heads.head_size, heads.key_value_heads * heads.head_size
        self.q_proj = Linear(hidden_size, query_size, bias=heads.bias)
        self.k_proj = Linear(hidden_size, key_size, bias=heads.bias)
        self.v_proj = Linear(hidden_size, key_size, bias=heads.bias)
        self.o_proj = Linear(query_size, hidden_size, bias=heads.output_bias)
        self.q_norm = heads.qk_norm.build(heads.head_size) if heads.qk_norm else nn.Identity()
        self.k_norm = heads.qk_norm.build(heads.head_size) if heads.qk_norm else nn.Identity()

    def forward(self, x: Tensor, view: View) -> Tensor:
        query = self._query(x, view)
        if view.memory is None:
            key, value = view.cache.append(self, *self._key_value(x, view.rotation))
        else:
            memory = view.memory
            key, value = view.cache.once(self, lambda: self._key_value(memory, None))
        mask = view.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(query.dtype)
        attended = attend(
            query, key, value, mask, causal=view.causal, scale=self.config.scale,
            dropout=self.config.dropout if self.training else 0.0, reach=view.reach,
        )  # fmt: skip
        output: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return output

    def weights(self, x: Tensor, view: View) -> Tensor:
        """(B, H, T, S): how much of each token of the memory a head reads at each of `x`; what `forward` never holds."""
        assert view.memory is not None
        query, (key, _) = self._query(x, view), self._key_value(view.memory, None)
        groups = query.shape[1] // key.shape[1]
        scale = self.head_size**-0.5 if self.config.scale is None else self.config.scale
        scores = query @ key.repeat_interleave(groups, 1).transpose(-1, -2) * scale
        if view.mask is not None:
            scores = scores.masked_fill(~view.mask, float("-inf"))
        return scores.softmax(-1)

    def _query(self, x: Tensor, view: View) -> Tensor:
        return rotate(self.q_norm(self._heads(self.q_proj(x))), view.rotation)

    def _key_value(self, x: Tensor, rotation: Rotation | None) -> Pair:
        return rotate(self.k_norm(self._heads(self.k_proj(x))), rotation), self._heads(self.v_proj(x))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_size).transpose(1, 2)  # (B, H, T, K)

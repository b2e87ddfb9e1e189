"""A stack of attention blocks: one of the two kinds of side that a network is made of.

Every choice is a seam: norm, where it sits, position, mask, feed-forward, heads, cross-attention. GPT-2, Llama, BERT
and T5 are points in this space, none is a branch in the code.

Shapes: B batch, T tokens, S tokens of the memory, D hidden size, E width of the input.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.attention import Attention, Heads, View, memory_view, self_view
from yuyan.nn.cache import NoCache
from yuyan.nn.ffn import Ffn
from yuyan.nn.linear import Linear
from yuyan.nn.mask import Causal, Mask, Places, Window
from yuyan.nn.norm import Norm, RMSNorm
from yuyan.nn.position import Position, RelativeBias, Rotary
from yuyan.nn.residual import RESIDUALS, Residual


class Local(Config):
    """Layers of a stack that see only what is near (ModernBERT, Qwen2 with a window)."""

    layers: tuple[int, ...]
    """Which ones, counted from 0."""
    mask: Mask
    """What they see."""
    position: Position | None = None
    """Their own positions; null is those of the stack."""


class Stack(Config):
    """Attention blocks over one sequence."""

    kind: Literal["stack"] = "stack"
    num_layers: int = Field(gt=0)
    """How many blocks."""
    heads: Heads
    """The attention heads of each block."""
    ffn: Ffn
    """The feed-forward layer of each block."""
    norm: Norm = RMSNorm()
    """The norm around every part."""
    position: Position = Rotary()
    """How order enters."""
    mask: Mask = Causal()
    """Who may see whom."""
    residual: Residual = "pre"
    """Whether the norm comes before a part, with one more at the end of the stack, or after it."""
    first_norm: bool = True
    """Whether the first attention norms its input; ModernBERT's embedding has done it."""
    cross: bool = False
    """Whether each block also reads the encoder's output."""
    local: Local | None = None
    """Layers with a mask of their own."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the output of each part, before it is added to the stream."""

    @model_validator(mode="after")
    def _agree(self) -> Stack:
        if self.local and any(not 0 <= i < self.num_layers for i in self.local.layers):
            raise ValueError(f"local.layers: the layers are 0 to {self.num_layers - 1}")
        causal = isinstance(self.mask, Causal | Window)
        if isinstance(self.position, RelativeBias) and self.position.bidirectional == causal:
            raise ValueError(
                "position.bidirectional: true needs a mask that shows what comes later, and false one that does not"
            )
        return self

    @property
    def causal(self) -> bool:
        """Whether no token can see a later one."""
        masks = (self.mask, *((self.local.mask,) if self.local else ()))
        return all(isinstance(mask, Causal | Window) for mask in masks)

    def filled(self, hidden_size: int) -> Stack:
        """With every None decided. Raises ValueError for sizes that do not fit together."""
        heads = self.heads.filled(hidden_size)
        positions = (self.position, self.local.position if self.local else None)
        if any(isinstance(position, Rotary) for position in positions) and (heads.head_size or 0) % 2:
            raise ValueError(f"heads: rotary positions turn pairs of coordinates; head_size {heads.head_size} is odd")
        return self.model_copy(update={"heads": heads})

    def build(self, input_size: int, hidden_size: int) -> StackModule:
        return StackModule(self, input_size, hidden_size)


class Block(nn.Module):
    """Attention, cross-attention where there is a memory, feed-forward."""

    def __init__(self, config: Stack, hidden_size: int, norm_input: bool):
        super().__init__()

        def residual(inner: nn.Module, norm: bool = True) -> nn.Module:
            layer = config.norm.build(hidden_size) if norm else nn.Identity()
            return RESIDUALS[config.residual](layer, inner, config.dropout)

        self.attention = residual(Attention(config.heads, hidden_size), norm_input)
        self.cross_attention = residual(Attention(config.heads, hidden_size)) if config.cross else None
        self.ffn = residual(config.ffn.build(hidden_size))

    def forward(self, x: Tensor, own: View, other: View | None) -> Tensor:
        x = self.attention(x, own)
        if self.cross_attention is not None:
            x = self.cross_attention(x, other)
        out: Tensor = self.ffn(x)
        return out


class StackModule(nn.Module):
    """Blocks that share their views. Pre-norm stacks end in a norm."""

    def __init__(self, config: Stack, input_size: int, hidden_size: int):
        super().__init__()
        self.config = config = config.filled(hidden_size)
        assert config.heads.head_size
        sizes = (input_size, config.heads.count, config.heads.head_size)
        self.position = config.position.build(*sizes)
        own = config.local.position if config.local else None
        self.local_position = own.build(*sizes) if own else None
        self.input_proj = Linear(input_size, hidden_size) if input_size != hidden_size else nn.Identity()
        self.layers = nn.ModuleList(
            Block(config, hidden_size, norm_input=config.first_norm or i > 0) for i in range(config.num_layers)
        )
        self.norm = config.norm.build(hidden_size) if config.residual == "pre" else nn.Identity()

    def forward(
        self, x: Tensor, places: Places, memory: Tensor | None, memory_mask: Tensor | None, cache: NoCache
    ) -> Tensor:
        """(B, T, E) embedded tokens to (B, T, D) hidden states."""
        own = self_view(self.config.mask, self.position, places, cache)
        near = own
        if self.config.local:
            near = self_view(self.config.local.mask, self.local_position or self.position, places, cache)
        local = frozenset(self.config.local.layers if self.config.local else ())
        other = None if memory is None else memory_view(memory, memory_mask, cache)
        x = self.input_proj(x)
        for i, layer in enumerate(self.layers):
            x = layer(x, near if i in local else own, other)
        hidden: Tensor = self.norm(x)
        return hidden

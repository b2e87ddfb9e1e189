"""From token ids to vectors.

Shapes: B batch, T tokens, E embedding size.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.errors import InputError
from yuyan.nn.layered import DropoutMasks, dropout_module
from yuyan.nn.mask import Places
from yuyan.nn.norm import Norm
from yuyan.nn.position import PositionModule
from yuyan.nn.table import Table


class Embedding(Config):
    """One vector a token, with what is added to it and done to it before the first layer."""

    size: int | None = Field(default=None, gt=0)
    """Width of the vectors; null is the hidden size."""
    type_vocab_size: int = Field(default=0, ge=0)
    """How many kinds of segment are told apart (BERT has 2); 0 is none."""
    norm: Norm | None = None
    """A norm after everything was added (BERT)."""
    scaled: bool = False
    """Whether vectors are multiplied by the root of their width (Vaswani 2017, section 3.4)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the result."""
    dropout_masks: DropoutMasks = "token"
    """What it draws a mask for: each token anew, or a text as a whole."""


class EmbeddingModule(nn.Module):
    """Tokens, segments and positions, added; then norm and dropout."""

    def __init__(self, config: Embedding, vocab_size: int, size: int):
        super().__init__()
        self.token = Table(vocab_size, size)
        self.token_type = Table(config.type_vocab_size, size) if config.type_vocab_size else None
        self.norm = config.norm.build(size) if config.norm else nn.Identity()
        self.dropout = dropout_module(config.dropout, config.dropout_masks)
        self.scale = size**0.5 if config.scaled else 1.0

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, places: Places, position: PositionModule
    ) -> Tensor:
        """(B, T) ids to (B, T, E)."""
        x = self.token(input_ids)
        if self.scale != 1.0:
            x = x * self.scale
        if self.token_type is not None:
            x = x + (self.token_type.weight[0] if token_type_ids is None else self.token_type(token_type_ids))
        elif token_type_ids is not None:
            raise InputError("token_type_ids: this model does not tell segments apart")
        embedded: Tensor = self.dropout(self.norm(position.embed(x, places)))
        return embedded

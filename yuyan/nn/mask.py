"""Who may see whom: a predicate on places, and where the tokens of one call stand.

A mask answers `allows(query, key)` for any two places; padding and packed documents are further predicates that are
and-ed to it. Where a whole row needs no tensor at all, `shape` says so and the fast kernel is kept.

Shapes: B batch, T queries, S keys (those in the cache, then the T new ones).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config

Shape = Literal["full", "causal", "tensor"]
"""What an unpadded row needs: nothing, the kernel's own causal mask, or a tensor."""


class Full(Config):
    """Every token sees every token."""

    kind: Literal["full"] = "full"

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones_like(query + key, dtype=torch.bool)

    def shape(self, queries: int, start: int) -> Shape:
        return "full"


class Causal(Config):
    """A token sees itself and what came before."""

    kind: Literal["causal"] = "causal"

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return key <= query

    def shape(self, queries: int, start: int) -> Shape:
        return "full" if queries == 1 else "causal" if start == 0 else "tensor"


class Window(Config):
    """A token sees itself and the `size - 1` tokens before it (Mistral)."""

    kind: Literal["window"] = "window"
    size: int = Field(gt=0)
    """How many tokens are visible, the token itself included."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < self.size)

    def shape(self, queries: int, start: int) -> Shape:
        return Causal().shape(queries, start) if queries + start <= self.size else "tensor"


class TwoSidedWindow(Config):
    """A token sees the tokens at most `reach` places away, on both sides (ModernBERT)."""

    kind: Literal["two_sided_window"] = "two_sided_window"
    reach: int = Field(ge=0)
    """How far away a visible token may be."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= self.reach

    def shape(self, queries: int, start: int) -> Shape:
        return "full" if queries + start <= self.reach + 1 else "tensor"


Mask = Annotated[Full | Causal | Window | TwoSidedWindow, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of one call stand. A first size of 1 means: the same in every row."""

    start: int
    """How many tokens the cache already holds."""
    position_ids: Tensor
    """(1|B, T): what positions are embedded or rotated by."""
    uniform: bool
    """Whether `position_ids` are simply start, start + 1, ... in every row."""
    chosen: bool
    """Whether the caller gave `position_ids`."""
    query: Tensor
    """(1|B, T): places that masks and distances are measured between."""
    key: Tensor
    """(1|B, S): the same for the keys."""
    attention_mask: Tensor | None = None
    """(B, S), True for real tokens; None when all are."""
    document_ids: Tensor | None = None
    """(B, T), for packed rows: tokens see their own document only."""
    fed: Tensor | None = None
    """(B, T), True for the real ones of the new tokens, where rows of a cache have lengths of their own."""

    def new_tokens(self) -> Tensor | None:
        """(B, T), True for the real ones of the new tokens; None when all are."""
        if self.fed is not None or self.attention_mask is None:
            return self.fed
        return self.attention_mask[:, self.start :]


def as_mask(attention_mask: Tensor | None) -> Tensor | None:
    """(B, T) of booleans from whatever the caller marks real tokens with: booleans, 0 and 1."""
    return None if attention_mask is None else attention_mask.to(torch.bool)


def position_ids_of(attention_mask: Tensor) -> Tensor:
    """(B, T): each real token's place among the real tokens of its row, so that padding on any side changes nothing."""
    return (attention_mask.long().cumsum(1) - 1).clamp(min=0)


def positions_in_documents(document_ids: Tensor) -> Tensor:
    """(B, T): each token's place in its own document, for rows packed with several."""
    places = torch.arange(document_ids.shape[1], device=document_ids.device).expand_as(document_ids)
    return places - torch.where(starts_of(document_ids), places, 0).cummax(1).values


def starts_of(document_ids: Tensor) -> Tensor:
    """(B, T), True where a document starts; the first token of a row is always such a place."""
    first = torch.ones_like(document_ids, dtype=torch.bool)
    first[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return first


def has_holes(attention_mask: Tensor) -> bool:
    """Whether some row has padding between real tokens, so that distances in the row are not distances in the text."""
    if torch.compiler.is_exporting():  # a graph cannot look; whoever runs it pads on one side
        return False
    starts = (attention_mask[:, 1:] & ~attention_mask[:, :-1]).sum(1) + attention_mask[:, 0]
    return bool((starts > 1).any())


def allowed(mask: Full | Causal | Window | TwoSidedWindow, places: Places) -> Tensor | None:
    """(1|B, 1, 1|T, S), True where a query may see a key; None when the kernel needs no tensor for it.

    A query that may see nothing (padding) sees everything: its output is never used, and must not be NaN.
    """
    queries = places.query.shape[1]
    shape = mask.shape(queries, places.start)
    visible = None
    if shape == "tensor" or (shape == "causal" and not _plain(places)):
        visible = mask.allows(places.query[:, :, None], places.key[:, None, :])[:, None]
    if places.document_ids is not None:
        same = (places.document_ids[:, :, None] == places.document_ids[:, None, :])[:, None]
        visible = same if visible is None else visible & same
    if places.attention_mask is not None:
        real = places.attention_mask[:, None, None, :]
        visible = real if visible is None else visible & real
        visible = visible | ~visible.any(-1, keepdim=True)
    return visible


def _plain(places: Places) -> bool:
    return places.attention_mask is None and places.document_ids is None

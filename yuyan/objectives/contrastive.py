"""Contrastive learning: a query is nearer to its own document than to all others of the batch.

    loss_i = -log( exp(s(q_i, d_i) / tau) / sum over documents d of the batch of exp(s(q_i, d) / tau) )

with s the cosine. The documents are the positive ones of all examples and their hard negatives; symmetric, the mean of
this and of the same with queries and positive documents exchanged. The loss of an example depends on the others of its
micro-batch, so micro-batches are a part of the objective, and two texts that answer the same query push each other away.

Source: van den Oord et al. 2018, section 2.3 (InfoNCE); in-batch and hard negatives: Karpukhin et al. 2020, section 3.2;
symmetric: Radford et al. 2021, section 2.3; two crops of one text as a pair: Izacard et al. 2022, section 3.1.
Relations: cross-entropy of a classifier whose classes are the documents; with one document in the batch it is 0.

B examples, K documents of each (the positive one first), C = B * K, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from yuyan.config import Config
from yuyan.errors import DataError
from yuyan.nn.head import pool
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks, Vocabulary, as_ids, field_of, framed, pad_right
from yuyan.tokens.special import Special


class Reader(Protocol):
    """A network that reads a text with whatever side it has."""

    def read(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor: ...


class Contrastive(Config):
    """Tell the right document from all others (InfoNCE)."""

    kind: Literal["contrastive"] = "contrastive"
    temperature: float = Field(0.05, gt=0)
    """Tau: the smaller, the more the nearest wrong documents count."""
    pool: Literal["first", "last", "mean"] = "mean"
    """What stands for a text; a decoder's is `last`."""
    symmetric: bool = False
    """Whether documents must find their queries too."""
    crop: tuple[float, float] = (0.1, 0.5)
    """Shortest and longest part of a corpus row that is one side of a pair, as shares of the row."""

    @field_validator("crop")
    @classmethod
    def _shares(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"the shortest and the longest share of a row, above 0 and up to 1; got {list(crop)}")
        return crop

    def build(self, tokenizer: Vocabulary) -> ContrastiveObjective:
        """With the marks of beginning and end."""
        return ContrastiveObjective(self, tokenizer.special)


@dataclass(frozen=True)
class ContrastiveObjective:
    """The objective; see the module."""

    config: Contrastive
    special: Special
    independent: ClassVar[bool] = False
    counted: ClassVar[Counted] = "pairs"

    def example(self, item: np.ndarray | Mapping[str, Any], random: np.random.Generator) -> Example:
        """`query`, `positive` and (optional) `negatives`, a list: bare ids. Of a corpus row, two random parts.

        `query_input_ids` (T,) and `document_input_ids` (K, T), the positive one first, with a mask of what is real.
        Raises DataError for other items.
        """
        if not isinstance(item, Mapping):
            query, documents = self._crop(item, random), [self._crop(item, random)]
        else:
            query = as_ids(field_of(item, "query", "contrastive"))
            negatives = item.get("negatives", ())
            documents = [as_ids(ids) for ids in (field_of(item, "positive", "contrastive"), *negatives)]
        texts = [framed(ids, self.special) for ids in (query, *documents)]
        if not all(map(len, texts)):
            raise DataError("objective contrastive: an empty text; there is nothing to compare")
        return {
            "query_input_ids": texts[0],
            "document_input_ids": pad_right(texts[1:], 0),
            "document_attention_mask": pad_right([np.ones(len(text), bool) for text in texts[1:]], 0),
        }

    def _crop(self, row: np.ndarray, random: np.random.Generator) -> np.ndarray:
        low, high = (max(1, round(share * len(row))) for share in self.config.crop)
        size = min(len(row), int(random.integers(low, max(low, high) + 1)))
        start = int(random.integers(0, len(row) - size + 1))
        return row[start : start + size]

    def loss(self, model: Reader, batch: Batch) -> Loss:
        """Nats, one pair an example; the count is 1."""
        return self._loss(*self._embedded(model, batch))

    def marks(self, model: Reader, batch: Batch) -> Marks:
        """The loss, and how many queries are nearest to their own document among all of the batch."""
        queries, documents, each, there = self._embedded(model, batch)
        scores = similarities(queries, documents, there)
        right = scores.argmax(1) == torch.arange(len(queries), device=scores.device) * each
        loss = self._loss(queries, documents, each, there)
        return {"loss": loss, "accuracy": Loss(right.float(), loss.count)}

    def _loss(self, queries: Tensor, documents: Tensor, each: int, there: Tensor | None) -> Loss:
        total = info_nce(
            queries, documents, each, self.config.temperature, there=there, symmetric=self.config.symmetric
        )
        return Loss(total, torch.ones_like(total, dtype=torch.int64))

    def _embedded(self, model: Reader, batch: Batch) -> tuple[Tensor, Tensor, int, Tensor | None]:
        """Queries (B, D), documents (B * K, D), K, and which documents are there: examples may have fewer than others."""
        documents, mask = batch["document_input_ids"], batch.get("document_attention_mask")
        there = None if mask is None else mask.flatten(0, 1).any(1)
        queries = self._embed(model, batch["query_input_ids"], batch.get("query_attention_mask"))
        candidates = self._embed(model, documents.flatten(0, 1), None if mask is None else mask.flatten(0, 1))
        return queries, candidates, documents.shape[1], there

    def _embed(self, model: Reader, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        return F.normalize(pool(model.read(input_ids, mask), mask, self.config.pool).float(), dim=-1)


def info_nce(
    queries: Tensor, documents: Tensor, each: int, temperature: float, *, there: Tensor | None = None, symmetric: bool
) -> Tensor:
    """(B,) nats, of `queries` (B, D) and `documents` (B * each, D), all of length 1; the positive one of each first.

    `there` (B * each,) is False for documents that are only padding.
    """
    scores = similarities(queries, documents, there) / temperature
    positive = torch.arange(len(queries), device=queries.device)
    total = F.cross_entropy(scores, positive * each, reduction="none")
    if symmetric:
        total = (total + F.cross_entropy(scores[:, ::each].T, positive, reduction="none")) / 2
    return total


def similarities(queries: Tensor, documents: Tensor, there: Tensor | None) -> Tensor:
    """(B, C) cosines of `queries` (B, D) and `documents` (C, D) of length 1; minus infinity for what is not there."""
    scores = queries @ documents.T
    return scores if there is None else scores.masked_fill(~there, float("-inf"))

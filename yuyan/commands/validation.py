"""How well a model does on held-out text, measured the same way at every look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yuyan.corpus import Shards
from yuyan.evaluate.likelihood import Likelihood, score_documents, summarise
from yuyan.models.network import NetworkModule
from yuyan.tokens import Tokenizer

PIECE = 1024  # tokens


def measure(
    model: NetworkModule, tokenizer: Tokenizer, shards: Shards, limit: int | None, context: int | None
) -> Likelihood:
    """The likelihood of `shards`, or of pieces of them, evenly spread, of about `limit` tokens in all."""
    special = tokenizer.special
    assert special.bos is not None and special.eos is not None
    documents: list[np.ndarray] = [shards.document(i) for i in range(len(shards))]
    sizes = [int(size) for size in shards.document_bytes]
    if limit is not None and shards.tokens > limit:
        documents = _pieces(documents, limit)
        sizes = [len(tokenizer.decode(ids.tolist()).encode()) for ids in documents]
    return summarise(score_documents(model, documents, sizes, bos=special.bos, eos=special.eos, context=context))


def _pieces(documents: Sequence[np.ndarray], limit: int) -> list[np.ndarray]:
    """Evenly spread pieces of at most PIECE tokens of the documents, about `limit` tokens in all."""
    pieces = [ids[at : at + PIECE] for ids in documents for at in range(0, max(1, len(ids)), PIECE)]
    total = sum(map(len, pieces))
    count = min(len(pieces), max(1, round(len(pieces) * limit / total)))
    return [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, count).astype(np.int64))]

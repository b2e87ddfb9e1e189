"""Word vectors as the first weights of a model's embedding: a row for each token.

Legend: V tokens, D dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.vectors.space import Vectors


class Table(NamedTuple):
    """Rows for the tokens, and where they came from."""

    matrix: NDArray[np.float32]
    """(V, D)."""
    found: int
    """Tokens whose vector was there, as written or in small letters."""
    composed: int
    """Tokens whose vector was made of pieces."""
    drawn: list[str]
    """Tokens without a vector: drawn with the mean and the standard deviation of the vectors, dimension by dimension."""


def table_for(tokens: Sequence[str], vectors: Vectors, control: Collection[int], seed: int) -> Table:
    """A row for each of `tokens`; the ids in `control` are no words, and are drawn."""
    mean, spread = vectors.matrix.mean(axis=0), vectors.matrix.std(axis=0)
    matrix = np.random.default_rng(seed).normal(mean, spread, (len(tokens), vectors.dimensions)).astype(np.float32)
    found = composed = 0
    drawn = []
    for row, token in enumerate(tokens):
        name = None if row in control else next((t for t in (token, token.lower()) if t in vectors), None)
        made = None if row in control else vectors.get(name or token)
        if made is None:
            drawn.append(token)
            continue
        matrix[row] = made
        found, composed = found + (name is not None), composed + (name is None)
    return Table(matrix, found, composed, drawn)

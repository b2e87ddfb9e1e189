"""How often each document is read: weights from quality scores, and what an epoch makes of them.

Not every document has a score (a short one cannot be judged). It backs off to the mean score of its source, and a source
with few scores backs off to the mean of all, as if `prior` documents with that mean were in every source.

Weights are normalised so that an epoch reads as many tokens as there are. In an epoch a document of weight w is read
floor(w) or ceil(w) times, w times on average: a document of weight 0.1 comes in every tenth epoch.

D documents.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from yuyan.config import Config
from yuyan.corpus.order import COPIES, DOCUMENTS, generator, permutation

Weights = NDArray[np.float64]


class ByQuality(Config):
    """Good documents more often than bad ones."""

    kind: Literal["by_quality"] = "by_quality"
    sharpness: float = Field(1.0, gt=0)
    """A document is drawn by its score to this power: 2 prefers good ones more, 0.5 less."""
    floor: float = Field(0.1, gt=0, le=1)
    """The least score that counts: no document is left out for good."""
    prior: float = Field(10.0, gt=0)
    """How many documents with the mean score of all are thought to be in each source, so that a source of few scores does
    not depend on them alone."""


def backed_off(scores: ArrayLike, sources: ArrayLike, prior: float) -> Weights:
    """(D,) scores without gaps: where one is NaN, s = (sum over the source + prior * m) / (count + prior), m the mean of all.

    `sources` (D,) are numbers. Where nothing has a score, all have 1.
    """
    found, source = np.asarray(scores, np.float64), np.asarray(sources, np.int64)
    known = ~np.isnan(found)
    if not known.any():
        return np.ones(len(found))
    size = int(source.max()) + 1
    total = np.bincount(source[known], weights=found[known], minlength=size)
    count = np.bincount(source[known], minlength=size)
    expected = (total + prior * found[known].mean()) / (count + prior)
    return np.where(known, found, expected[source])


def weights_of(scores: Weights, sizes: ArrayLike, settings: ByQuality) -> Weights:
    """(D,) how often a document of `sizes` (D,) tokens is read in an epoch, on average."""
    raw = np.maximum(scores, settings.floor) ** settings.sharpness
    tokens = np.asarray(sizes, np.float64)
    weights: Weights = raw * (tokens.sum() / (raw * tokens).sum())
    return weights


def drawn(weights: Weights, seed: int, epoch: int) -> NDArray[np.int64]:
    """The documents of an epoch in their order, each floor(w) or ceil(w) times: a function of (weights, seed, epoch).

    Systematic sampling in a random order of the documents (Madow 1949): one number u decides about all, document i
    comes floor(W_i + u) - floor(W_(i-1) + u) times, W the running sum of the weights.
    """
    order = permutation(len(weights), seed, epoch, COPIES)
    u = np.random.Generator(generator(seed, epoch, 1, COPIES)).random()
    copies = np.diff(np.floor(np.cumsum(weights[order]) + u), prepend=0.0).astype(np.int64)
    chosen = np.repeat(order, copies)
    return chosen[permutation(len(chosen), seed, epoch, DOCUMENTS)]

"""Two models of one vocabulary as one: p = weight p_1 + (1 - weight) p_2, the weight chosen on text held out for it.

A counted model knows rare words by heart and a network knows similar contexts, so a mixture is better than either
(Bengio et al. 2003, section 4; Jelinek & Mercer 1980 for the weight). The likelihood of a text is concave in the weight,
so the best one is where the derivative changes its sign.

N tokens scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yuyan.evaluate.likelihood import DocumentScores

STEPS = 60
EDGE = 1e-6  # both models keep a share: a probability of zero in one must not make the mixture's zero


def mixed(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """(N,) log-probabilities of the mixture from those of its parts; `weight` is the share of the first."""
    return np.asarray(np.logaddexp(np.log(weight) + first, np.log1p(-weight) + second))


def best_weight(first: np.ndarray, second: np.ndarray) -> float:
    """The share of the first model with which (N,) tokens are likeliest, between EDGE and 1 - EDGE."""
    top = np.maximum(first, second)
    p, q = np.exp(first - top), np.exp(second - top)
    low, high = EDGE, 1 - EDGE
    for _ in range(STEPS):
        middle = (low + high) / 2
        if float(np.sum((p - q) / (middle * p + (1 - middle) * q))) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def document_scores(log_probs: Sequence[np.ndarray], sizes: Sequence[int]) -> DocumentScores:
    """Documents of `sizes` bytes from the log-probabilities of their tokens."""
    nats = np.array([-float(each.sum()) for each in log_probs])
    return DocumentScores(nats, np.array([len(each) for each in log_probs]), np.asarray(sizes, dtype=np.int64))

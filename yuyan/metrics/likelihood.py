"""What a language model's likelihood is worth: perplexity per token, bits per byte.

Perplexity depends on the tokenizer; bits per byte does not: whatever the tokens, the text has the same bytes, and the
probability of the text is the product over its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable


def perplexity(nats: float, tokens: float) -> float:
    """exp of the mean negative log-likelihood of a token (Jelinek et al. 1977). `nats` is the sum over `tokens`."""
    if not tokens:
        return math.nan
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, bytes_: float) -> float:
    """Negative log2-likelihood of a text over its length in UTF-8 bytes: what a perfect compressor would need."""
    return nats / math.log(2) / bytes_ if bytes_ else math.nan


def total(values: Iterable[float]) -> float:
    """An exactly rounded sum, so that the order of the documents does not matter."""
    return math.fsum(values)

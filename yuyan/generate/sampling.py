"""How the next token is chosen from its scores: greedy, or drawn after the scores were reshaped.

Every rule is a pure function on scores (B, V); a forbidden token has score -inf. The order is fixed: temperature, then
top-k, then top-p, each on what the one before left over.

B requests, V vocabulary.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config, Seed


class Sampling(Config):
    """How to choose tokens. Temperature 0 is greedy, and then the other settings do nothing."""

    temperature: float = Field(0.8, ge=0, allow_inf_nan=False)
    """Divides the scores: below 1 more certain, above 1 more even; 0 takes the likeliest token."""
    top_k: int | None = Field(None, ge=1)
    """Only the k likeliest tokens (Fan et al. 2018)."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the smallest set of tokens with this much probability together (Holtzman et al. 2020)."""
    seed: Seed = 0
    """The same seed gives the same text."""
    max_tokens: int | None = Field(None, ge=1)
    """Stop after so many new tokens; by default 200, or what fits the context."""


def with_temperature(scores: Tensor, temperature: float) -> Tensor:
    """Scores of the distribution p^(1/temperature), renormalised by softmax."""
    return scores / temperature


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Forbid all but the k highest scores of each row; equal scores at the edge stay."""
    k = min(k, scores.shape[-1])
    return scores.masked_fill(scores < scores.topk(k, dim=-1).values[..., -1:], float("-inf"))


def keep_top_p(scores: Tensor, p: float) -> Tensor:
    """Forbid tokens outside the smallest set, likeliest first, whose probability reaches p; at least one stays."""
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return scores.masked_fill(torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, before >= p), float("-inf"))


def choose(scores: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token for one request: `scores` (V,). Draws one uniform number a token, so a seed fixes the text."""
    scores = scores.double()
    if sampling.temperature == 0:
        return int(scores.argmax())
    scores = with_temperature(scores, sampling.temperature)
    if sampling.top_k is not None:
        scores = keep_top_k(scores, sampling.top_k)
    if sampling.top_p is not None:
        scores = keep_top_p(scores, sampling.top_p)
    mass = scores.softmax(-1).cumsum(-1)
    drawn = torch.rand((), generator=generator, dtype=torch.float64) * mass[-1]
    return min(int(torch.searchsorted(mass, drawn, right=True)), int(scores.isfinite().nonzero()[-1]))

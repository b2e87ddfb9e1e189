"""How the next token is chosen from its scores: greedy, or drawn after the scores were reshaped.

Every rule is a pure function on scores (B, V); a forbidden token has score -inf. The order is fixed: temperature, then
top-k, top-p, min-p and typical, each on what the one before left over.

B requests, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from yuyan.config import Config, Seed
from yuyan.generate.settings import MOST_TEXTS, Settings
from yuyan.generate.speculation import Speculation

FORBIDDEN = float("-inf")


class Samples(Config):
    """The few keys of sampling that a run needs to show what it has learnt."""

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


class Greedy(Settings):
    """Always the likeliest token."""

    kind: Literal["greedy"] = "greedy"
    speculation: Speculation | None = None
    """Guess several tokens ahead and check them at once; the text is the same."""


class Sampling(Settings):
    """Draw each token by its probability. Temperature 0 is greedy, and then what reshapes probabilities does nothing."""

    kind: Literal["sampling"] = "sampling"
    temperature: float = Field(0.8, ge=0, allow_inf_nan=False)
    """Divides the scores: below 1 more certain, above 1 more even; 0 takes the likeliest token."""
    top_k: int | None = Field(None, ge=1)
    """Only the k likeliest tokens (Fan et al. 2018)."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the smallest set of tokens with this much probability together (Holtzman et al. 2020)."""
    min_p: float | None = Field(None, gt=0, le=1)
    """Only tokens with this share of the likeliest one's probability (Nguyen et al. 2025)."""
    typical_p: float | None = Field(None, gt=0, le=1)
    """Only the most typical tokens with this much probability together (Meister et al. 2023)."""
    seed: Seed = 0
    """The same seed gives the same text. Text i of several is that of seed + i."""
    n: int = Field(1, ge=1, le=MOST_TEXTS)
    """How many texts."""
    best_of: int | None = Field(None, ge=1, le=MOST_TEXTS)
    """Write so many and keep the n with the highest mean log-probability of a token."""
    speculation: Speculation | None = None
    """Guess several tokens ahead and check them at once; the distribution of the text is the same."""

    @model_validator(mode="after")
    def _enough(self) -> Sampling:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of: {self.best_of} texts are written, and n = {self.n} of them wanted")
        return self


def with_temperature(scores: Tensor, temperature: float) -> Tensor:
    """Scores of the distribution p^(1/temperature), renormalised by softmax; the highest is 0, so none overflows."""
    return (scores - scores.amax(-1, keepdim=True)) / temperature


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Forbid all but the k highest scores of each row; equal scores at the edge stay."""
    k = min(k, scores.shape[-1])
    return scores.masked_fill(scores < scores.topk(k, dim=-1).values[..., -1:], FORBIDDEN)


def keep_top_p(scores: Tensor, p: float) -> Tensor:
    """Forbid tokens outside the smallest set, likeliest first, whose probability reaches p; at least one stays."""
    return _keep_first(scores, scores.sort(dim=-1, descending=True, stable=True).indices, p)


def _keep_first(scores: Tensor, order: Tensor, p: float) -> Tensor:
    """Forbid all but the first tokens of `order` (B, V) that reach the probability p together."""
    ordered = scores.softmax(-1).gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    return scores.masked_fill(torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, before >= p), FORBIDDEN)


def keep_min_p(scores: Tensor, p: float) -> Tensor:
    """Forbid tokens with less than p times the probability of the likeliest."""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), FORBIDDEN)


def keep_typical(scores: Tensor, p: float) -> Tensor:
    """Forbid tokens outside the smallest set that reaches p, nearest first: |-log p(v) - entropy| (section 3)."""
    logs = scores.log_softmax(-1)
    entropy = -(logs.exp() * logs.masked_fill(logs == FORBIDDEN, 0.0)).sum(-1, keepdim=True)
    return _keep_first(scores, (-logs - entropy).abs().sort(dim=-1, stable=True).indices, p)


def distribution(scores: Tensor, settings: Greedy | Sampling) -> Tensor:
    """Probabilities (V,), in float64, that the next token is drawn by: all on the likeliest one without a temperature."""
    scores = scores.double()
    if isinstance(settings, Greedy) or settings.temperature == 0:
        return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
    scores = with_temperature(scores, settings.temperature)
    if settings.top_k is not None:
        scores = keep_top_k(scores, settings.top_k)
    if settings.top_p is not None:
        scores = keep_top_p(scores, settings.top_p)
    if settings.min_p is not None:
        scores = keep_min_p(scores, settings.min_p)
    if settings.typical_p is not None:
        scores = keep_typical(scores, settings.typical_p)
    return scores.softmax(-1)


def draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """A token by its probability (V,), which need not sum to 1. One uniform number a token, so a seed fixes the text."""
    mass = probabilities.cumsum(-1)
    drawn = uniform(generator) * float(mass[-1])
    return min(int(torch.searchsorted(mass, drawn, right=True)), int(probabilities.nonzero()[-1]))


def uniform(generator: torch.Generator) -> float:
    """A number from 0 up to 1."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def likeliest(scores: Tensor) -> int:
    """The token with the highest score (V,); NumPy finds it 20 times as fast as PyTorch."""
    return int(scores.numpy().argmax()) if scores.device.type == "cpu" else int(scores.argmax())


def choose(scores: Tensor, settings: Greedy | Sampling, generator: torch.Generator) -> int:
    """One token for one request: `scores` (V,)."""
    if isinstance(settings, Greedy) or settings.temperature == 0:
        return likeliest(scores)
    return draw(distribution(scores, settings), generator)

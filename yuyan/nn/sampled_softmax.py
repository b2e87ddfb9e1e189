"""Cross-entropy over a large vocabulary from few of its scores: for training only, a text is measured by all of them.

The sum of exp(scores) over all words but the label is estimated from words that are drawn from a proposal q and shared
by all tokens of a batch: each draw w stands for exp(s_w) / (S q(w)), so that the estimate is right on average, whatever
the draws. Sources: Bengio & Senecal 2003 and 2008 (importance sampling); Jean et al. 2015, section 3 (shared draws).

The S draws are stratified, one from each of S equal parts of q, and a word that is drawn twice is scored once with twice
the weight. The log-uniform proposal, log((w + 2) / (w + 1)) / log(V + 1), fits ids in the order of falling frequency, as
the tokenizers of words and characters have them.

N tokens, D hidden size, V vocabulary, S draws, U different words among them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.nn.linear import linear
from yuyan.nn.linear_cross_entropy import IGNORE


class FullSoftmax(Config):
    """Every word is scored."""

    kind: Literal["full"] = "full"


class SampledSoftmax(Config):
    """The label is scored, and words drawn for the whole batch."""

    kind: Literal["sampled"] = "sampled"
    negatives: int = Field(2048, ge=1)
    """How many words are drawn for a forward pass."""
    proposal: Literal["log_uniform", "uniform"] = "log_uniform"
    """What they are drawn from; log_uniform is for ids in the order of falling frequency."""


Softmax = Annotated[FullSoftmax | SampledSoftmax, Field(discriminator="kind")]
FULL = FullSoftmax()


class Drawn(NamedTuple):
    """`ids` (U,) that were drawn, and the `log_weight` (U,) float32 of each: log(times drawn / (S q))."""

    ids: Tensor
    log_weight: Tensor


def draw(config: SampledSoftmax, vocab_size: int, device: torch.device) -> Drawn:
    """Words from the proposal; the randomness is PyTorch's own, whose state a run saves."""
    count = config.negatives
    at = (torch.arange(count, dtype=torch.float64) + torch.rand(count, dtype=torch.float64)) / count
    if config.proposal == "uniform":
        drawn = (at * vocab_size).long()
    else:
        drawn = (at * math.log(vocab_size + 1)).exp().sub_(1).long()
    ids, times = torch.unique(drawn.clamp_(max=vocab_size - 1), return_counts=True)
    return Drawn(ids.to(device), (times / (count * proposal(config, ids, vocab_size))).log().float().to(device))


def proposal(config: SampledSoftmax, ids: Tensor, vocab_size: int) -> Tensor:
    """q of each id, float64."""
    if config.proposal == "uniform":
        return torch.full(ids.shape, 1 / vocab_size, dtype=torch.float64)
    return ((ids.double() + 2) / (ids.double() + 1)).log() / math.log(vocab_size + 1)


def sampled_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, config: SampledSoftmax
) -> Tensor:
    """An estimate of -log softmax(hidden @ weight.T + bias)[label] of every token, float32 (N,); 0 where the label is -100.

    `hidden` (N, D), `weight` (V, D), `bias` (V,) or None, `labels` (N,).
    """
    return loss_of_draws(hidden, weight, bias, labels, draw(config, weight.shape[0], hidden.device))


def loss_of_draws(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, drawn: Drawn) -> Tensor:
    """`sampled_cross_entropy` with words that were drawn before."""
    wanted = labels.clamp(min=0)
    scores = linear(hidden, weight[drawn.ids], None if bias is None else bias[drawn.ids]).float() + drawn.log_weight
    scores = scores.masked_fill(drawn.ids == wanted[:, None], float("-inf"))  # the label is scored by itself
    right = (hidden * weight[wanted]).sum(1).float()
    if bias is not None:
        right = right + bias[wanted].float()
    whole = torch.logsumexp(torch.cat((right[:, None], scores), 1), 1)
    return (whole - right) * (labels != IGNORE)

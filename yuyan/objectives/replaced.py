"""Replaced-token detection: a small generator fills hidden places, the model says of every token whether it is the original.

The generator is a masked language model; its guesses are drawn, no gradient passes through them, and a guess that is right
counts as original. For an example of n tokens, of which m were hidden,

    total = n/m * sum over hidden i of -log p_G(w_i)  +  lambda * sum over all t of -log p_D(right verdict on t)

with a count of n: over full rows the mean is the sum of the two means, which is what lambda = 50 was chosen for.

Source: Clark et al. 2020, section 2 and appendix A; the weighting by means follows the released code.
Relations: the first term alone is `MaskedToken` with the mask at every hidden place.

B examples, T tokens, N hidden tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.models.pair import Pair
from yuyan.nn.linear import linear
from yuyan.nn.linear_cross_entropy import CHUNK_ELEMENTS, IGNORE
from yuyan.objectives.base import (
    Batch,
    Counted,
    Example,
    LanguageNetwork,
    Loss,
    Marks,
    Vocabulary,
    pair_of,
    sparse_token_loss,
)
from yuyan.objectives.masked import Masking, Unit, masking_for


class ReplacedToken(Config):
    """Find the tokens that a generator replaced (ELECTRA)."""

    kind: Literal["replaced_token"] = "replaced_token"
    rate: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that the generator fills."""
    mask_share: float = Field(1.0, ge=0, le=1)
    """Share of those that it sees as the mask; the rest it sees as they are."""
    unit: Unit = "token"
    """What is chosen together: a token, the tokens of a word between spaces, or those of a Chinese word."""
    discriminator_weight: float = Field(50.0, gt=0)
    """Lambda, what a verdict counts for beside a guess."""
    generator_size: float = Field(0.25, gt=0, le=1)
    """Width of the generator, as a share of the model's: hidden size, heads and feed-forward."""

    def build(self, tokenizer: Vocabulary) -> ReplacedTokenObjective:
        """With the mask's id. Raises ConfigError if the tokenizer has no mask."""
        masking = masking_for(tokenizer, self.rate, self.mask_share, 0.0, self.unit)
        return ReplacedTokenObjective(masking, self.discriminator_weight)


class _Judged(NamedTuple):
    """The generator's `guesses`; (B, T) the verdicts as `scores`, what was `replaced`, and which tokens are `real`."""

    guesses: Loss
    scores: Tensor
    replaced: Tensor
    real: Tensor


@dataclass(frozen=True)
class ReplacedTokenObjective:
    """The objective; see the module. Its model is a `Pair`: the companion generates, the model has a `ReplacedHead`."""

    masking: Masking
    discriminator_weight: float = 50.0
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def example(self, item: np.ndarray, random: np.random.Generator) -> Example:
        """The first T tokens of a row: `input_ids` with tokens hidden, `labels` what they were, -100 elsewhere.

        `draws` are T numbers between 0 and 1, all the chance that the generator's guesses need.
        """
        ids = item[:-1]
        chosen = self.masking.choose(ids, random)
        return {
            "input_ids": self.masking.cover(ids, chosen, random),
            "labels": np.where(chosen, ids, IGNORE),
            "draws": random.random(len(ids), dtype=np.float32),
        }

    def loss(self, model: Pair, batch: Batch) -> Loss:
        """Nats; the count is that of the tokens. Raises InputError if the model is no pair."""
        return self._loss(self._judged(model, batch))

    def marks(self, model: Pair, batch: Batch) -> Marks:
        """The loss; the verdicts that are right, of all tokens and of those that were replaced; the generator's perplexity."""
        judged = self._judged(model, batch)
        right = ((judged.scores > 0) == judged.replaced) & judged.real
        found, replaced = right & judged.replaced, judged.replaced & judged.real
        return {
            "loss": self._loss(judged),
            "accuracy": Loss(right.sum(1).float(), judged.real.sum(1)),
            "replaced_recall": Loss(found.sum(1).float(), replaced.sum(1)),
            "generator_perplexity": judged.guesses,
        }

    def _judged(self, model: Pair, batch: Batch) -> _Judged:
        pair, mask, hidden_at = pair_of(model, "replaced_token"), batch.get("attention_mask"), batch["labels"] != IGNORE
        states = pair.companion.encode(batch["input_ids"], mask)
        guesses = sparse_token_loss(pair.companion, states, batch["labels"])
        with torch.no_grad():
            drawn = draw(pair.companion, states[hidden_at], batch["draws"][hidden_at])
        shown = batch["input_ids"].masked_scatter(hidden_at, drawn)
        original = torch.where(hidden_at, batch["labels"], batch["input_ids"])
        scores = pair.model.score(pair.model.encode(shown, mask))[..., 0].float()
        real = torch.ones_like(hidden_at) if mask is None else mask.bool()
        return _Judged(guesses, scores, shown != original, real)

    def _loss(self, judged: _Judged) -> Loss:
        verdicts = F.binary_cross_entropy_with_logits(judged.scores, judged.replaced.float(), reduction="none")
        count = judged.real.sum(1)
        guessed = judged.guesses.total * (count / judged.guesses.count.clamp(min=1))
        return Loss(guessed + self.discriminator_weight * (verdicts * judged.real).sum(1), count)


def draw(model: LanguageNetwork, states: Tensor, draws: Tensor) -> Tensor:
    """(N,) tokens drawn from softmax(scores of `states` (N, D)) by `draws` (N,), uniform on [0, 1).

    The token is the first whose cumulative probability exceeds the draw: one number a token is all the chance needed,
    it travels in the batch, and the same batch gives the same tokens on every device and in every cut.
    """
    weight, bias = model.output_projection()
    states = model.before_projection(states)
    drawn = torch.empty(len(draws), dtype=torch.int64, device=draws.device)
    size = max(16, CHUNK_ELEMENTS // weight.shape[0])
    for part in (slice(start, start + size) for start in range(0, len(draws), size)):
        cumulative = linear(states[part], weight, bias).float().softmax(1).cumsum(1)
        limit = draws[part, None] * cumulative[:, -1:]
        drawn[part] = torch.searchsorted(cumulative, limit, right=True)[:, 0].clamp(max=weight.shape[0] - 1)
    return drawn

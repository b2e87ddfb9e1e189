"""Distillation: a student learns what a frozen teacher thinks of every token, not only which one came.

For each token scored, with p = softmax(teacher's scores / tau) and q = softmax(student's scores / tau):

    w * tau^2 * KL(p || q)  +  (1 - w) * -log of the student's probability of the label

tau^2 keeps the gradients of the two parts of one size whatever the temperature.

Source: Hinton et al. 2015, section 2; for language models Sanh et al. 2019, section 3.
Relations: with w = 0 it is its base objective; with w = 1 and a teacher that is certain, too.

B examples, T tokens, N tokens scored, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from yuyan.config import Config, Place
from yuyan.models.pair import Pair
from yuyan.nn.linear import linear
from yuyan.nn.linear_cross_entropy import CHUNK_ELEMENTS, IGNORE
from yuyan.nn.sampled_softmax import FULL
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks, TokenObjective, Vocabulary, pair_of
from yuyan.objectives.masked import MaskedToken
from yuyan.objectives.next_token import NextToken
from yuyan.objectives.prefix_lm import PrefixLM
from yuyan.objectives.span import SpanCorruption

Base = Annotated[NextToken | PrefixLM | MaskedToken | SpanCorruption, Field(discriminator="kind")]

PLAIN_BASE = {"cross_entropy": None, "softmax": FULL, "unmasked_weight": 0.0}
"""Settings of a base objective that say how its own loss is made."""


class Distil(Config):
    """Learn from a teacher's probabilities."""

    kind: Literal["distil"] = "distil"
    base: Base = NextToken()
    """What student and teacher are asked, and which tokens are scored, by plain cross-entropy."""
    teacher: Place | None = None
    """Folder of the teacher, a run or a model folder with the same tokenizer; in a file, relative to it."""
    temperature: float = Field(2.0, gt=0)
    """Tau: above 1, unlikely tokens say more."""
    soft_weight: float = Field(0.5, ge=0, le=1)
    """The share of the teacher in the loss; the rest is the label's."""

    @field_validator("base")
    @classmethod
    def _plain(cls, base: Base) -> Base:
        """What would be left out of the loss is refused."""
        for key, plain in PLAIN_BASE.items():
            if getattr(base, key, plain) != plain:
                raise ValueError(
                    f"{key}: a teacher's and a student's probabilities are compared as they are; leave it away"
                )
        return base

    def build(self, tokenizer: Vocabulary) -> DistilObjective:
        """With the base built. Raises what that raises."""
        return DistilObjective(self.base.build(tokenizer), self.temperature, self.soft_weight)


@dataclass(frozen=True)
class DistilObjective:
    """The objective; see the module. Its model is a `Pair`: the companion is the teacher."""

    base: TokenObjective
    temperature: float = 2.0
    soft_weight: float = 0.5
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def example(self, item: np.ndarray | Mapping[str, Any], random: np.random.Generator) -> Example:
        """That of the base objective."""
        return self.base.example(item, random)

    def loss(self, model: Pair, batch: Batch) -> Loss:
        """Nats; the count is that of the labels. Raises InputError if the model is no pair."""
        pair, labels = pair_of(model, "distil"), batch["labels"]
        scored = labels != IGNORE
        with torch.no_grad():
            teacher = pair.companion.before_projection(self.base.hidden(pair.companion, batch)[scored])
        student = pair.model.before_projection(self.base.hidden(pair.model, batch)[scored])
        projections = (*pair.companion.output_projection(), *pair.model.output_projection())
        size = max(16, CHUNK_ELEMENTS // projections[0].shape[0])
        # recomputed in the backward pass: the scores of all tokens never exist together
        each = [
            cast(Tensor, checkpoint(self._marked, *part, *projections, use_reentrant=False, preserve_rng_state=False))
            for part in zip(*(torch.split(x, size) for x in (teacher, student, labels[scored])), strict=True)
        ]
        total = torch.zeros(labels.shape, device=labels.device).masked_scatter(scored, torch.cat(each))
        return Loss(total.sum(1), scored.sum(1))

    def marks(self, model: Pair, batch: Batch) -> Marks:
        """Those of the student under the base objective, as for a model without a teacher."""
        return self.base.marks(pair_of(model, "distil").model, batch)

    def _marked(
        self, teacher: Tensor, student: Tensor, labels: Tensor,
        teacher_weight: Tensor, teacher_bias: Tensor | None, weight: Tensor, bias: Tensor | None,
    ) -> Tensor:  # fmt: skip
        return distillation(
            linear(teacher, teacher_weight, teacher_bias).float(), linear(student, weight, bias).float(), labels,
            self.temperature, self.soft_weight,
        )  # fmt: skip


def distillation(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float, soft_weight: float) -> Tensor:
    """(N,) nats of the scores (N, V) of the two and the labels (N,); see the module."""
    log_p, log_q = ((scores / temperature).log_softmax(1) for scores in (teacher, student))
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1) * temperature**2
    return soft_weight * soft + (1 - soft_weight) * F.cross_entropy(student, labels, reduction="none")

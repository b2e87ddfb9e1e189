"""Direct preference optimisation: of two answers to a prompt make the chosen one likelier, measured against a reference.

    z    = beta * [ (log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected)) ]
    loss = -(1 - epsilon) * log sigma(z) - epsilon * log sigma(-z)

Source: Rafailov et al. 2023, equation 7; label smoothing epsilon, for labels that are wrong so often: Mitchell 2023, the
note "cDPO", equation 3.
Relations: logistic regression on the difference of two `PrefixLM` losses; at the start, when model and reference are
equal, it is log 2 whatever the answers.

B pairs, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.models.pair import Pair
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives.base import (
    Batch,
    Counted,
    Example,
    LanguageNetwork,
    Loss,
    Marks,
    Vocabulary,
    answered,
    as_ids,
    field_of,
    pair_of,
    sparse_token_loss,
)
from yuyan.tokens.special import Special


class Preference(Config):
    """Prefer the better of two answers (DPO)."""

    kind: Literal["preference"] = "preference"
    beta: float = Field(0.1, gt=0)
    """How strongly the model is held to the reference."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Epsilon: how often the preference is thought to be the wrong way round."""

    def build(self, tokenizer: Vocabulary) -> PreferenceObjective:
        """With the marks of beginning and end."""
        return PreferenceObjective(tokenizer.special, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class PreferenceObjective:
    """The objective; see the module. Its model is a `Pair`: the companion is the frozen reference."""

    special: Special
    beta: float = 0.1
    label_smoothing: float = 0.0
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "pairs"

    def example(self, item: Mapping[str, Any], random: np.random.Generator) -> Example:
        """`prompt`, `chosen` and `rejected`, bare ids, as two texts `<s> prompt answer </s>` scored on the answer.

        Raises DataError for other items.
        """
        prompt = as_ids(field_of(item, "prompt", "preference"))
        example: Example = {}
        for name in ("chosen", "rejected"):
            text = answered(prompt, as_ids(field_of(item, name, "preference")), self.special)
            example |= {f"{name}_{key}": value for key, value in text.items()}
        return example

    def loss(self, model: Pair, batch: Batch) -> Loss:
        """Nats; the count is 1, and 0 for a pair without any label. Raises InputError if the model is no pair."""
        chosen, rejected, count = self._gains(model, batch)
        return Loss(preference(chosen, rejected, self.beta, self.label_smoothing) * count, count)

    def marks(self, model: Pair, batch: Batch) -> Marks:
        """The loss; the pairs whose chosen answer gained more; by how much it did, in nats times beta (the margin)."""
        chosen, rejected, count = self._gains(model, batch)
        return {
            "loss": Loss(preference(chosen, rejected, self.beta, self.label_smoothing) * count, count),
            "accuracy": Loss((chosen > rejected).float() * count, count),
            "margin": Loss(self.beta * (chosen - rejected) * count, count),
        }

    def _gains(self, model: Pair, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) how much likelier than to the reference the chosen and the rejected answers are, and what is counted."""
        pair = pair_of(model, "preference")
        input_ids = _stacked(batch["chosen_input_ids"], batch["rejected_input_ids"], 0)
        labels = _stacked(batch["chosen_labels"], batch["rejected_labels"], IGNORE)
        ours = log_probs(pair.model, input_ids, labels)
        with torch.no_grad():
            reference = log_probs(pair.companion, input_ids, labels)
        chosen, rejected = (ours - reference).chunk(2)
        return chosen, rejected, (labels != IGNORE).any(1).view(2, -1).any(0).long()


def log_probs(model: LanguageNetwork, input_ids: Tensor, labels: Tensor) -> Tensor:
    """(B,) log-probability of the labels (B, T) that are not -100, each given all before it. Padding comes last."""
    return -sparse_token_loss(model, model.decode(input_ids), labels).total


def preference(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """(B,) nats of how much likelier than to the reference each answer is, as logarithms; see the module."""
    z = beta * (chosen - rejected)
    return -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)


def _stacked(chosen: Tensor, rejected: Tensor, fill: int) -> Tensor:
    longest = max(chosen.shape[1], rejected.shape[1])
    return torch.cat([F.pad(rows, (0, longest - rows.shape[1]), value=fill) for rows in (chosen, rejected)])

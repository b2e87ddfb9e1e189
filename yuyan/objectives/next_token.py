"""Next-token prediction: the causal language model, p(w_1 ... w_T) = product over t of p(w_t | w_1 ... w_{t-1}).

Relations: a unigram to 5-gram model maximises the same likelihood by counting; perplexity is exp of this loss per token.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from yuyan.config import Config
from yuyan.objectives.base import Batch, Example, LanguageNetwork, Loss, token_loss


class NextToken(Config):
    """Predict every token of a row from those before it."""

    kind: Literal["next_token"] = "next_token"

    def example(self, row: np.ndarray, random: np.random.Generator) -> Example:
        """A row of T + 1 token ids becomes T inputs and, one to the right, T labels."""
        return {"input_ids": row[:-1], "labels": row[1:]}

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Total and count of the cross-entropy in nats, one pair an example."""
        return token_loss(model, model.decode(batch["input_ids"], batch.get("attention_mask")), batch["labels"])

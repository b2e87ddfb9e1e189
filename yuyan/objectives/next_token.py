"""Next-token prediction: the causal language model, p(w_1 ... w_T) = product over t of p(w_t | w_1 ... w_{t-1}).

Source: Bengio et al. 2003, section 2; Radford et al. 2018, section 3.1.
Relations: a unigram to 5-gram model maximises the same likelihood by counting; perplexity is exp of this loss per token.

B examples, T tokens, D hidden size.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from yuyan.config import Config
from yuyan.nn.linear_cross_entropy import CrossEntropy
from yuyan.objectives.base import Batch, Counted, Example, LanguageNetwork, Loss, Marks, Vocabulary, token_loss


class NextToken(Config):
    """Predict every token of a row from those before it."""

    kind: Literal["next_token"] = "next_token"
    cross_entropy: CrossEntropy = CrossEntropy()
    """What is trained beside the plain cross-entropy, which is what is reported."""
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def build(self, tokenizer: Vocabulary) -> NextToken:
        """Itself: it needs no control tokens."""
        return self

    def example(self, item: np.ndarray, random: np.random.Generator) -> Example:
        """A row of T + 1 token ids becomes T inputs and, one to the right, T labels."""
        return {"input_ids": item[:-1], "labels": item[1:]}

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder."""
        return model.decode(batch["input_ids"], batch.get("attention_mask"))

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Total and count of the cross-entropy in nats, one pair an example."""
        return token_loss(model, self.hidden(model, batch), batch["labels"], self.cross_entropy)

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token."""
        loss = self.loss(model, batch)
        return {"loss": loss, "perplexity": loss}

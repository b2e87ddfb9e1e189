"""Next-token prediction: the causal language model, p(w_1 ... w_T) = product over t of p(w_t | w_1 ... w_{t-1}).

Source: Bengio et al. 2003, section 2; Radford et al. 2018, section 3.1.
Relations: a unigram to 5-gram model maximises the same likelihood by counting; perplexity is exp of this loss per token.

B examples, T tokens, D hidden size.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator
from torch import Tensor

from yuyan.config import Config
from yuyan.corpus.pack import PackedRow
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy
from yuyan.nn.sampled_softmax import FULL, SampledSoftmax, Softmax
from yuyan.objectives.base import (
    Batch,
    Counted,
    Example,
    LanguageNetwork,
    Loss,
    Marks,
    Vocabulary,
    packing,
    sampled_token_loss,
    token_loss,
)


class NextToken(Config):
    """Predict every token of a row from those before it."""

    kind: Literal["next_token"] = "next_token"
    cross_entropy: CrossEntropy | None = None
    """What is trained beside the plain cross-entropy, which is what is reported: {label_smoothing: ...} or {z_loss: ...}; null is
    nothing."""
    softmax: Softmax = FULL
    """Which words are scored in training; a model is always measured by the scores of all."""
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    @model_validator(mode="after")
    def _agree(self) -> NextToken:
        if isinstance(self.softmax, SampledSoftmax) and self.cross_entropy is not None:
            raise ValueError("softmax: sampled knows no label_smoothing or z_loss; leave objective.cross_entropy away")
        return self

    def build(self, tokenizer: Vocabulary) -> NextToken:
        """Itself: it needs no control tokens."""
        return self

    def example(self, item: np.ndarray | PackedRow, random: np.random.Generator) -> Example:
        """A row of T + 1 token ids becomes T inputs and, one to the right, T labels; the first token of another document
        is none."""
        if not isinstance(item, PackedRow):
            return {"input_ids": item[:-1], "labels": item[1:]}
        ids, documents = item
        labels = np.where(documents[1:] == documents[:-1], ids[1:], IGNORE)
        return {"input_ids": ids[:-1], "labels": labels, "document_ids": documents[:-1]}

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder."""
        return model.decode(batch["input_ids"], batch.get("attention_mask"), **packing(batch))

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Total and count of the cross-entropy in nats, one pair an example; with a sampled softmax an estimate of it."""
        hidden = self.hidden(model, batch)
        if isinstance(self.softmax, SampledSoftmax):
            return sampled_token_loss(model, hidden, batch["labels"], self.softmax)
        return token_loss(model, hidden, batch["labels"], self.cross_entropy or PLAIN)

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token."""
        loss = token_loss(model, self.hidden(model, batch), batch["labels"])
        return {"loss": loss, "perplexity": loss}

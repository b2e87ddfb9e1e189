"""Prefix language modelling: a causal language model that is marked only on what follows a prefix.

Of a corpus row the prefix is a random part; of a prompt and its answer it is the prompt, which is supervised fine-tuning
on instructions. The prefix too is read from left to right: any decoder can do that, as published instruction models do.

Source: Raffel et al. 2020, section 3.2.1 (there with a prefix that sees itself whole); Ouyang et al. 2022, section 3.5.
Relations: `NextToken` with -100 on the prefix; with an empty prompt the two have the same gradient.

B examples, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from yuyan.config import Config
from yuyan.errors import DataError
from yuyan.nn.linear_cross_entropy import PLAIN, CrossEntropy
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
    shifted,
    sparse_token_loss,
)
from yuyan.tokens.special import Special


class PrefixLM(Config):
    """Continue a prefix, or answer a prompt."""

    kind: Literal["prefix_lm"] = "prefix_lm"
    cross_entropy: CrossEntropy | None = None
    """What is trained beside the plain cross-entropy, which is what is reported: {label_smoothing: ...} or {z_loss: ...}; null is
    nothing."""

    def build(self, tokenizer: Vocabulary) -> PrefixLMObjective:
        """With the marks of beginning and end."""
        return PrefixLMObjective(tokenizer.special, self.cross_entropy or PLAIN)


@dataclass(frozen=True)
class PrefixLMObjective:
    """The objective; see the module."""

    special: Special
    cross_entropy: CrossEntropy = PLAIN
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def example(self, item: np.ndarray | Mapping[str, Any], random: np.random.Generator) -> Example:
        """One of three:

        - a corpus row (T + 1,): a prefix of 1 to T tokens, each length as likely, is not scored;
        - `prompt` and `answer`, bare ids: `<s> prompt answer </s>`, scored on the answer and `</s>`;
        - `input_ids` (T + 1,) as they are, and `scored` (T + 1,), true for the tokens to learn: conversations.

        Raises DataError for anything else.
        """
        if not isinstance(item, Mapping):
            prefix = int(random.integers(1, max(2, len(item))))
            return shifted(item, np.arange(len(item)) >= prefix)
        if "input_ids" not in item:
            prompt = as_ids(field_of(item, "prompt", "prefix_lm"))
            return answered(prompt, as_ids(field_of(item, "answer", "prefix_lm")), self.special)
        ids, scored = as_ids(item["input_ids"]), np.asarray(field_of(item, "scored", "prefix_lm"), bool)
        if scored.shape != ids.shape:
            raise DataError(f"objective prefix_lm: {len(ids)} input_ids, but {scored.size} entries in 'scored'")
        return shifted(ids, scored)

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder, which never looks right, where the padding is: it needs no mask."""
        return model.decode(batch["input_ids"])

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Cross-entropy in nats; the count is that of the tokens after the prefix."""
        return sparse_token_loss(model, self.hidden(model, batch), batch["labels"], self.cross_entropy)

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token after the prefix."""
        loss = self.loss(model, batch)
        return {"loss": loss, "perplexity": loss}

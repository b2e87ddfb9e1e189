"""Span corruption: cut spans out of a text, leave a sentinel in each hole, and write the spans after their sentinels.

    text    Thank you for inviting me to your party last week
    source  Thank you <X> me to your party <Y> week </s>
    target  <X> for inviting <Y> last </s>

The noise is that of the released code of T5: a fixed number of tokens is hidden, in a fixed number of spans; both the
hidden and the visible tokens are cut at random into that many parts, which alternate, a visible part first. So the lengths
of source and target depend on that of the row alone, and rows of equal length need no padding.

Source: Raffel et al. 2020, sections 3.1.4 and 3.3.4 (15 %, mean length 3); the end mark follows the code, where the paper
ends the target with one more sentinel.
Relations: a mean length of 1 hides single tokens, as `MaskedToken` does; the target is `NextToken` given the source.

B examples, T tokens, S source tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.errors import ConfigError, InputError
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy
from yuyan.objectives.base import Batch, Counted, Example, LanguageNetwork, Loss, Marks, Vocabulary, as_ids, token_loss


class SpanCorruption(Config):
    """Write the spans that were cut out (T5)."""

    kind: Literal["span_corruption"] = "span_corruption"
    rate: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that is cut out."""
    mean_length: float = Field(3.0, ge=1)
    """Mean length of a span, in tokens."""
    cross_entropy: CrossEntropy | None = None
    """What is trained beside the plain cross-entropy, which is what is reported: {label_smoothing: ...} or {z_loss: ...}; null is
    nothing."""

    def build(self, tokenizer: Vocabulary) -> SpanCorruptionObjective:
        """With the sentinels and the marks of start and end. Raises ConfigError if the tokenizer lacks them."""
        special = tokenizer.special
        if not special.sentinels:
            raise ConfigError("objective: the tokenizer has no sentinels; train one with tokenizer.sentinels=100")
        if special.start is None:
            raise ConfigError(
                "objective: the tokenizer has neither a pad nor a bos token for the decoder to start with"
            )
        return SpanCorruptionObjective(
            sentinels=as_ids(special.sentinels),
            start=special.start,
            eos=special.eos,
            rate=self.rate,
            mean_length=self.mean_length,
            cross_entropy=self.cross_entropy or PLAIN,
        )


class Spans(NamedTuple):
    """How a row of a given length is cut."""

    hidden: int
    """Tokens cut out."""
    number: int
    """Spans they are in."""


@dataclass(frozen=True, kw_only=True)
class SpanCorruptionObjective:
    """The objective; see the module."""

    sentinels: np.ndarray
    start: int
    eos: int | None
    rate: float = 0.15
    mean_length: float = 3.0
    cross_entropy: CrossEntropy = PLAIN
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def example(self, item: np.ndarray, random: np.random.Generator) -> Example:
        """The first T tokens of a row: the source as `input_ids`, the target as `labels`.

        `decoder_input_ids` are the labels one to the right, behind the pad token (as published T5 starts). A row of less
        than 2 tokens has nothing to hide: its labels are -100. Raises InputError if there are fewer sentinels than spans.
        """
        ids, end = item[:-1], as_ids([] if self.eos is None else [self.eos])
        if len(ids) < 2:
            source = np.concatenate([ids, end]) if len(ids) + len(end) else as_ids([self.start])
            return {
                "input_ids": source, "decoder_input_ids": as_ids([self.start]), "labels": np.full(1, IGNORE, np.int64)
            }  # fmt: skip
        spans = self.spans(len(ids))
        if spans.number > len(self.sentinels):
            raise InputError(
                f"objective span_corruption: a row of {len(ids)} tokens has {spans.number} spans, and the tokenizer "
                f"{len(self.sentinels)} sentinels; train it with tokenizer.sentinels={spans.number}"
            )
        noise = self.noise(len(ids), spans, random)
        begins = noise & ~np.concatenate([[False], noise[:-1]])
        sentinels = self.sentinels[: spans.number]
        source = ids.copy()
        source[begins] = sentinels
        source = np.concatenate([source[~noise | begins], end])
        target = np.concatenate([np.insert(ids[noise], np.flatnonzero(begins[noise]), sentinels), end])
        return {
            "input_ids": source, "decoder_input_ids": np.concatenate([[self.start], target[:-1]]), "labels": target
        }  # fmt: skip

    def spans(self, length: int) -> Spans:
        """For a row of at least 2 tokens; at least one token is hidden and one is shown."""
        hidden = min(max(round(length * self.rate), 1), length - 1)
        number = min(max(round(hidden / self.mean_length), 1), hidden, length - hidden)
        return Spans(hidden, number)

    def noise(self, length: int, spans: Spans, random: np.random.Generator) -> np.ndarray:
        """(T,) True for what is hidden."""
        sizes = np.stack([
            random_parts(length - spans.hidden, spans.number, random), random_parts(spans.hidden, spans.number, random)
        ], axis=1).reshape(-1)  # fmt: skip
        noise: np.ndarray = np.repeat(np.arange(len(sizes)) % 2 == 1, sizes)
        return noise

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder that reads the source."""
        mask = batch.get("attention_mask")
        memory = model.encode(batch["input_ids"], mask)
        return model.decode(batch["decoder_input_ids"], memory=memory, memory_mask=mask)

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Cross-entropy in nats; the count is that of the target's tokens, sentinels and end mark included."""
        return token_loss(model, self.hidden(model, batch), batch["labels"], self.cross_entropy)

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token of the target."""
        loss = self.loss(model, batch)
        return {"loss": loss, "perplexity": loss}


def random_parts(total: int, count: int, random: np.random.Generator) -> np.ndarray:
    """(count,) sizes of at least 1 that add up to `total`; every such cut is as likely."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)

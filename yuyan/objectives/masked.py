"""Masked language modelling: hide some tokens of a text and predict them from all the others.

L = - sum over hidden i of log p(w_i | the text as shown), and with `unmasked_weight` u, - u * sum over the tokens left
alone of log p(w_j | the text as shown): with u = 1 every token is scored, hidden or not.

Source: Devlin et al. 2019, section 3.1 (15 %; of those 80 % a mask, 10 % a random token, 10 % left as they are); whole
words: Cui et al. 2021, section 3.1, also for the words of Chinese text.
Relations: `SpanCorruption` hides too, and writes what was hidden instead of marking places; `ReplacedToken` asks which
tokens were replaced. Without a hidden token in sight, u > 0 is the training of a denoising autoencoder on clean input.

B examples, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from yuyan.config import Config
from yuyan.corpus.pack import PackedRow
from yuyan.errors import ConfigError
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy
from yuyan.objectives.base import (
    Batch,
    Counted,
    Example,
    LanguageNetwork,
    Loss,
    Marks,
    Vocabulary,
    packing,
    right_tokens,
    sparse_token_loss,
)
from yuyan.objectives.words import Segment, WordFinder, chinese_words, words_by_space

Unit = Literal["token", "word", "chinese_word"]


class MaskedToken(Config):
    """Predict hidden tokens (BERT)."""

    kind: Literal["masked_token"] = "masked_token"
    rate: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that is chosen."""
    mask_share: float = Field(0.8, ge=0, le=1)
    """Share of the chosen tokens that becomes the mask."""
    random_share: float = Field(0.1, ge=0, le=1)
    """Share of them that becomes another token at random; the rest is left as it is."""
    unit: Unit = "token"
    """What is chosen together: a token, the tokens of a word between spaces, or those of a Chinese word."""
    unmasked_weight: float = Field(0.0, ge=0)
    """What a token that was not chosen counts for in the loss; 0 is BERT's."""
    cross_entropy: CrossEntropy | None = None
    """What is trained beside the plain cross-entropy, which is what is reported: {label_smoothing: ...} or {z_loss: ...}; null is
    nothing."""

    @model_validator(mode="after")
    def _shares(self) -> MaskedToken:
        if self.mask_share + self.random_share > 1:
            raise ValueError("mask_share and random_share are more than 1 together")
        return self

    def build(self, tokenizer: Vocabulary, segment: Segment | None = None) -> MaskedTokenObjective:
        """With the mask's id; `segment` replaces the segmenter that `unit` names.

        Raises ConfigError if the tokenizer has no mask, InputError if a segmenter is missing.
        """
        masking = masking_for(tokenizer, self.rate, self.mask_share, self.random_share, self.unit, segment)
        return MaskedTokenObjective(masking, self.unmasked_weight, self.cross_entropy or PLAIN)


@dataclass(frozen=True)
class MaskedTokenObjective:
    """The objective; see the module."""

    masking: Masking
    unmasked_weight: float = 0.0
    cross_entropy: CrossEntropy = PLAIN
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def example(self, item: np.ndarray | PackedRow, random: np.random.Generator) -> Example:
        """The first T tokens of a row: `input_ids` with tokens hidden, `labels` what they were, -100 elsewhere.

        With a weight on the tokens left alone, they are `unmasked_labels`.
        """
        ids = (item.input_ids if isinstance(item, PackedRow) else item)[:-1]
        chosen = self.masking.choose(ids, random)
        example = {"input_ids": self.masking.cover(ids, chosen, random), "labels": np.where(chosen, ids, IGNORE)}
        if self.unmasked_weight:
            example["unmasked_labels"] = np.where(~chosen & self.masking.text[ids], ids, IGNORE)
        if isinstance(item, PackedRow):
            example["document_ids"] = item.document_ids[:-1]
        return example

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D) states of the encoder."""
        return model.encode(batch["input_ids"], batch.get("attention_mask"), **packing(batch))

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Cross-entropy in nats; the count is that of the hidden tokens, and of the others if they weigh anything."""
        hidden = self.hidden(model, batch)
        masked = sparse_token_loss(model, hidden, batch["labels"], self.cross_entropy)
        if not self.unmasked_weight:
            return masked
        others = sparse_token_loss(model, hidden, batch["unmasked_labels"], self.cross_entropy)
        return Loss(masked.total + self.unmasked_weight * others.total, masked.count + others.count)

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """Of the hidden tokens alone: the loss, the perplexity, and how many are guessed right."""
        hidden = self.hidden(model, batch)
        loss = sparse_token_loss(model, hidden, batch["labels"])
        return {"loss": loss, "perplexity": loss, "accuracy": right_tokens(model, hidden, batch["labels"])}


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Which tokens are chosen, and what is shown in their place."""

    mask: int
    text: np.ndarray
    """(V,) True for tokens that stand for text: control tokens are never chosen nor put in by chance."""
    replacements: np.ndarray
    """The ids of those tokens."""
    rate: float
    mask_share: float
    random_share: float
    words: WordFinder | None = None

    def choose(self, ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """(T,) True for about `rate` of the tokens of text; for one at least, if there is any.

        Exactly so many tokens, rounded, or as many as whole words fit into that number.
        """
        candidates = np.flatnonzero(self.text[ids])
        chosen = np.zeros(len(ids), bool)
        if not len(candidates):
            return chosen
        wanted = max(1, round(self.rate * len(candidates)))
        if self.words is None:
            chosen[random.choice(candidates, wanted, replace=False)] = True
            return chosen
        words = self.words.words(ids)
        words[~self.text[ids]] = -1
        chosen[np.isin(words, _fitting(words[candidates], wanted, random))] = True
        return chosen

    def cover(self, ids: np.ndarray, chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """(T,) what is shown: at the chosen places the mask, a random token or the token itself."""
        places = np.flatnonzero(chosen)
        dice = random.random(len(places))
        others = self.replacements[random.integers(0, len(self.replacements), len(places))]
        kept = np.where(dice < self.mask_share + self.random_share, others, ids[places])
        shown = ids.copy()
        shown[places] = np.where(dice < self.mask_share, self.mask, kept)
        return shown


def _fitting(words: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Words in random order while they have at most `wanted` tokens together; if all have more, one of the shortest."""
    numbers, sizes = np.unique(words, return_counts=True)
    order = random.permutation(len(numbers))
    taken, left = [], wanted
    for place in order.tolist():
        if sizes[place] <= left:
            taken.append(place)
            left -= int(sizes[place])
        if left == 0:
            break
    fitting: np.ndarray = numbers[taken or order[sizes[order].argmin()]]
    return fitting


def masking_for(
    tokenizer: Vocabulary,
    rate: float,
    mask_share: float,
    random_share: float,
    unit: Unit,
    segment: Segment | None = None,
) -> Masking:
    """The masking of a tokenizer's tokens. Raises ConfigError without a mask token, InputError without a segmenter."""
    if tokenizer.special.mask is None:
        raise ConfigError("objective: the tokenizer has no mask token; train one with tokenizer.mask=true")
    text = np.ones(len(tokenizer), bool)
    text[sorted(tokenizer.special.control)] = False
    if segment is None and unit != "token":
        segment = words_by_space if unit == "word" else chinese_words()
    words = None if segment is None else WordFinder.of(tokenizer, segment)
    return Masking(
        mask=tokenizer.special.mask, text=text, replacements=np.flatnonzero(text), rate=rate,
        mask_share=mask_share, random_share=random_share, words=words,
    )  # fmt: skip

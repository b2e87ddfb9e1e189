"""More data from the same text: changes at random to what a model reads in training, off unless a config asks for them.

`TokenDropout` changes only what is read; what is to be said stays (the noise of Xie 2017, and of word dropout). `Delete`,
`Swap` and `Replace` change the text before the question is made of it, so the answer changes with it (Wei & Zou 2019,
section 2, without synonyms). Of records with named parts only what is read is changed: prompts, queries, their documents,
frames. Control tokens are never changed, moved or put in.

A change is a pure function of the generator it is handed, which `Batches` makes from (seed, epoch, index) alone.
Held-out text is never changed.

T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from yuyan.config import Config
from yuyan.corpus.batch import Example
from yuyan.errors import ConfigError
from yuyan.tokens import Special

Ids = NDArray[np.int64]
Change = Callable[[Ids, np.random.Generator], Ids]
Make = Callable[[Any, np.random.Generator], Example]
COUNTED_AT_ONCE = 1 << 24
READ = ("prompt", "query", "positive", "negatives", "inputs", "input_ids")
"""The parts of a record that are read and not written."""
KEPT = 2  # tokens: fewer predict nothing


@dataclass(frozen=True)
class Frequencies:
    """How often each token comes in the training text. `counts` (V,); `text` (V,) is False for control tokens."""

    counts: NDArray[np.int64]
    text: NDArray[np.bool_]
    special: Special

    @classmethod
    def of(cls, parts: Sequence[NDArray[Any]], vocab_size: int, special: Special) -> Frequencies:
        """Count the ids of all `parts`, a piece at a time."""
        counts = np.zeros(vocab_size, np.int64)
        for ids in parts:
            for at in range(0, len(ids), COUNTED_AT_ONCE):
                counts += np.bincount(ids[at : at + COUNTED_AT_ONCE], minlength=vocab_size)
        text = np.ones(vocab_size, bool)
        text[sorted(special.control)] = False
        counts[~text] = 0
        return cls(counts, text, special)

    def unigram(self) -> Change:
        """For each id one drawn by its share of the text, p(w) = count(w) / N."""
        until = np.cumsum(self.counts)

        def draw(ids: Ids, random: np.random.Generator) -> Ids:
            return np.searchsorted(until, random.integers(0, until[-1], len(ids)), side="right").astype(np.int64)

        return draw

    def uniform(self) -> Change:
        """For each id any token of text."""
        some = np.flatnonzero(self.text)
        return lambda ids, random: some[random.integers(0, len(some), len(ids))]

    def same_frequency(self, neighbours: int) -> Change:
        """For each id one of the `neighbours` that are next to it in the order of frequency, half of them on either side."""
        some = np.flatnonzero(self.text)
        order = some[np.argsort(-self.counts[some], kind="stable")]
        rank = np.zeros(len(self.counts), np.int64)
        rank[order] = np.arange(len(order))
        count = min(neighbours, len(order) - 1)

        def draw(ids: Ids, random: np.random.Generator) -> Ids:
            mine = rank[ids]
            first = np.clip(mine - neighbours // 2, 0, len(order) - 1 - count)
            place = first + random.integers(0, count, len(ids))
            drawn: Ids = order[place + (place >= mine)]
            return drawn

        return draw


# ---------------------------------------------------------------- the kinds


class TokenDropout(Config):
    """Hide tokens from what is read; what is to be predicted stays."""

    kind: Literal["token_dropout"] = "token_dropout"
    rate: float = Field(0.1, gt=0, lt=1)
    """How likely each token is hidden."""
    becomes: Literal["random", "unigram", "mask", "unk"] = "random"
    """What stands in its place: any token, one drawn by its share of the text, the mask, or the unknown token."""

    def build(self, tokens: Frequencies) -> Change:
        """Raises ConfigError if the tokenizer has no such token."""
        if self.becomes in ("random", "unigram"):
            return _replaced(self.rate, tokens, tokens.uniform() if self.becomes == "random" else tokens.unigram())
        token = tokens.special.mask if self.becomes == "mask" else tokens.special.unk
        if token is None:
            remedy = "tokenizer.mask=true, or " if self.becomes == "mask" else ""
            raise ConfigError(f"data.augment: the tokenizer has no {self.becomes} token; give {remedy}becomes: random")
        return _replaced(self.rate, tokens, lambda ids, random: np.full_like(ids, token))


class Delete(Config):
    """Leave tokens out; the row becomes shorter."""

    kind: Literal["delete"] = "delete"
    rate: float = Field(0.1, gt=0, lt=1)
    """How likely each token is left out."""

    def build(self, tokens: Frequencies) -> Change:
        """A text that would be left with less than two tokens stays as it is."""

        def delete(ids: Ids, random: np.random.Generator) -> Ids:
            left = ids[(random.random(len(ids)) >= self.rate) | ~tokens.text[ids]]
            return left if len(left) >= KEPT else ids

        return delete


class Swap(Config):
    """Exchange tokens at two places, several times."""

    kind: Literal["swap"] = "swap"
    rate: float = Field(0.05, gt=0, lt=1)
    """Exchanges per token, rounded to a whole number of them."""

    def build(self, tokens: Frequencies) -> Change:
        """One exchange after the other, each of two places drawn at random."""

        def swap(ids: Ids, random: np.random.Generator) -> Ids:
            places = np.flatnonzero(tokens.text[ids])
            ids = ids.copy()
            if len(places):
                for a, b in places[random.integers(0, len(places), (round(self.rate * len(places)), 2))]:
                    ids[a], ids[b] = ids[b], ids[a]
            return ids

        return swap


class Replace(Config):
    """Write other tokens in the place of some, to be read and to be predicted."""

    kind: Literal["replace"] = "replace"
    rate: float = Field(0.1, gt=0, lt=1)
    """How likely each token is replaced."""
    by: Literal["unigram", "same_frequency"] = "unigram"
    """One drawn by its share of the text, or one that comes about as often."""
    neighbours: int = Field(20, ge=2)
    """Of how many tokens next to it in the order of frequency one is taken, for same_frequency."""

    def build(self, tokens: Frequencies) -> Change:
        """See `by`."""
        draw = tokens.unigram() if self.by == "unigram" else tokens.same_frequency(self.neighbours)
        return _replaced(self.rate, tokens, draw)


Augmentation = Annotated[TokenDropout | Delete | Swap | Replace, Field(discriminator="kind")]


def _replaced(rate: float, tokens: Frequencies, draw: Change) -> Change:
    def replace(ids: Ids, random: np.random.Generator) -> Ids:
        chosen = (random.random(len(ids)) < rate) & tokens.text[ids]
        changed = ids.astype(np.int64)
        changed[chosen] = draw(changed[chosen], random)
        return changed

    return replace


# ---------------------------------------------------------------- questions


def augmented(make: Make, settings: Sequence[Augmentation], tokens: Frequencies) -> Make:
    """`make`, asked of changed texts, and with tokens dropped from what it gives to read; in the order of `settings`."""
    texts = [each.build(tokens) for each in settings if not isinstance(each, TokenDropout)]
    inputs = [each.build(tokens) for each in settings if isinstance(each, TokenDropout)]

    def example(item: Any, random: np.random.Generator) -> Example:
        for change in texts:
            item = _changed(item, change, random)
        question = make(item, random)
        for change in inputs:
            question = {
                name: change(array.reshape(-1), random).reshape(array.shape) if name.endswith("input_ids") else array
                for name, array in question.items()
            }
        return question

    return example


def _changed(item: Any, change: Change, random: np.random.Generator) -> Any:
    if not isinstance(item, Mapping):
        return change(item, random)
    return {
        name: value if name not in READ
        else [change(ids, random) for ids in value] if isinstance(value, list) else change(value, random)
        for name, value in item.items()
    }  # fmt: skip

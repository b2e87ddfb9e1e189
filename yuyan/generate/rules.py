"""Rules that change scores before a token is chosen: penalties, bans, biases. Each is a function of what was written.

The order is fixed: bias, repetition, presence and frequency, n-grams, bad words, shortest length, and last the mask of a
constraint. A forbidden token has score -inf. Rules have no state of their own, so a beam, a guess of speculative
decoding and a plain continuation go through the same lines.

V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from yuyan.errors import InputError
from yuyan.generate.settings import Settings
from yuyan.tokens.pieces import Pieces

FORBIDDEN = float("-inf")


class Constraint(Protocol):
    """What a text must obey beyond its rules, such as a grammar: a mask over the next token, and a state that follows."""

    def mask(self) -> Tensor:
        """(V,) booleans: which tokens may come next, end marks included."""
        ...

    def take(self, token: int) -> None:
        """Follow a token that `mask` allowed."""
        ...

    def copy(self) -> Constraint:
        """Another one at the same place."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        ...

    @property
    def over(self) -> bool:
        """Whether the text must end here."""
        ...


def biased(scores: Tensor, bias: dict[int, float]) -> Tensor:
    """Scores (V,) with what is added to some."""
    scores = scores.clone()
    scores[list(bias)] += torch.tensor(list(bias.values()), dtype=scores.dtype, device=scores.device)
    return scores


def penalise_repetition(scores: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Scores (V,): s / penalty for the tokens in `seen` where s > 0, s * penalty elsewhere (Keskar et al. 2019, 4.1)."""
    ids = sorted(set(seen))
    scores, old = scores.clone(), scores[ids]
    scores[ids] = torch.where(old > 0, old / penalty, old * penalty)
    return scores


def penalise_presence(scores: Tensor, written: Sequence[int], presence: float, frequency: float) -> Tensor:
    """Scores (V,) less `presence` for each token in `written`, and `frequency` for each time it is there."""
    counts, scores = Counter(written), scores.clone()
    taken = [presence + frequency * count for count in counts.values()]
    scores[list(counts)] -= torch.tensor(taken, dtype=scores.dtype, device=scores.device)
    return scores


def repeated_ngrams(ids: Sequence[int], size: int) -> list[int]:
    """The tokens that would complete a sequence of `size` tokens which `ids` has already."""
    if len(ids) < size:
        return []
    before = tuple(ids[len(ids) - size + 1 :])
    return [ids[i + size - 1] for i in range(len(ids) - size + 1) if tuple(ids[i : i + size - 1]) == before]


class BadWords:
    """Which tokens would bring a bad word into the text, at whatever place of a token it begins or ends."""

    def __init__(self, words: Sequence[str], pieces: Pieces):
        self.words = [word.encode() for word in words]
        self.pieces = pieces
        self.longest = max(map(len, self.words), default=0)
        self._completing = cache(self._search)

    def banned(self, written: Sequence[int], first: bool) -> list[int]:
        """The tokens that may not follow `written`; `first`: nothing with a text came before those."""
        tail, begun = b"", False
        for token in reversed(written):
            if len(tail) >= self.longest:
                break
            tail = self.pieces.later[token] + tail
        else:
            tail, begun = self._from_the_beginning(written, first)
        opening = first and not begun and not tail
        return [
            token
            for word in self.words
            for size in _overlaps(tail, word)
            for token in self._completing(word, size, opening)
        ]

    def _from_the_beginning(self, written: Sequence[int], first: bool) -> tuple[bytes, bool]:
        real = [token for token in written if token not in self.pieces.control]
        if not first or not real:
            return b"".join(self.pieces.later[token] for token in real), bool(real)
        return self.pieces.first[real[0]] + b"".join(self.pieces.later[token] for token in real[1:]), True

    def _search(self, word: bytes, size: int, opening: bool) -> list[int]:
        """The tokens that go on with `word[size:]`, or, for a `size` of 0, that hold all of `word`."""
        table = self.pieces.first if opening else self.pieces.later
        if size == 0:
            return [i for i, piece in enumerate(table) if word in piece]
        return [i for i, piece in enumerate(table) if piece.startswith(word[size:])]


def _overlaps(tail: bytes, word: bytes) -> list[int]:
    """0, and every size below that of `word` such that `tail` ends in its first `size` bytes."""
    return [0, *(size for size in range(1, len(word)) if tail.endswith(word[:size]))]


class Rules:
    """The rules of one request. `prompt` are the ids that the text continues, `ends` those that end it.

    Raises InputError for a bias on a token that is not there.
    """

    def __init__(
        self, settings: Settings, prompt: Sequence[int], ends: frozenset[int], pieces: Pieces, vocab_size: int
    ):
        self.settings, self.prompt, self.ends = settings, list(prompt), sorted(i for i in ends if i < vocab_size)
        self.first = all(i in pieces.control for i in prompt)
        self.bad_words = BadWords(settings.bad_words, pieces) if settings.bad_words else None
        for token in settings.logit_bias:
            if not 0 <= token < vocab_size:
                raise InputError(f"logit_bias: {token} is not a token; the vocabulary has {vocab_size}")

    def apply(self, scores: Tensor, written: Sequence[int], constraint: Constraint | None = None) -> Tensor:
        """Scores (V,) of the token after `written`, as they are after all rules."""
        s = self.settings
        if s.logit_bias:
            scores = biased(scores, s.logit_bias)
        if s.repetition_penalty != 1.0:
            scores = penalise_repetition(scores, [*self.prompt, *written], s.repetition_penalty)
        if (s.presence_penalty or s.frequency_penalty) and written:
            scores = penalise_presence(scores, written, s.presence_penalty, s.frequency_penalty)
        if banned := self._banned(written):
            scores = scores.clone()
            scores[banned] = FORBIDDEN
        if constraint is not None:
            scores = scores.masked_fill(~constraint.mask().to(scores.device), FORBIDDEN)
        return scores

    def _banned(self, written: Sequence[int]) -> list[int]:
        s, banned = self.settings, []
        if s.no_repeat_ngram is not None:
            banned += repeated_ngrams([*self.prompt, *written], s.no_repeat_ngram)
        if self.bad_words is not None:
            banned += self.bad_words.banned(written, self.first)
        if len(written) < s.min_tokens:
            banned += self.ends
        return banned

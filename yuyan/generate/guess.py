"""Guesses of the next tokens: from the text itself, or from a smaller model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from yuyan.generate.forward import Decoder, Feed, PlainForward
from yuyan.generate.rules import FORBIDDEN
from yuyan.generate.sampling import Greedy, Sampling, distribution, draw
from yuyan.generate.search import Guess, Line
from yuyan.generate.speculation import PromptLookup


class LookupGuesser:
    """What followed the latest tokens where they were last seen."""

    def __init__(self, settings: PromptLookup):
        self.settings = settings

    def guess(self, line: Line, settings: Greedy | Sampling, room: int) -> list[Guess]:
        ids = [*(line.start.source or ()), *line.start.prompt, *line.written]
        found = what_followed(ids, self.settings.ngram)
        return [Guess(token) for token in found[: min(self.settings.tokens, room)]]


def what_followed(ids: Sequence[int], ngram: int) -> list[int]:
    """The tokens after the last earlier place of the latest `ngram` tokens, or of fewer if they are nowhere."""
    for size in range(min(ngram, len(ids) - 1), 0, -1):
        latest = list(ids[len(ids) - size :])
        for at in range(len(ids) - size - 1, -1, -1):
            if list(ids[at : at + size]) == latest:
                return list(ids[at + size :])
    return []


class DraftGuesser:
    """What a smaller model writes under the same rules; one for each text, as it remembers what it has read."""

    def __init__(self, model: Decoder, tokens: int, context: int | None, vocab_size: int):
        self.model, self.tokens, self.context, self.vocab_size = model, tokens, context, vocab_size
        self._readers: dict[int, _Reader] = {}

    def guess(self, line: Line, settings: Greedy | Sampling, room: int) -> list[Guess]:
        ids = [*line.start.prompt, *line.written]
        count = min(self.tokens, room, room if self.context is None else self.context - len(ids))
        if count <= 0:
            return []
        if line.sample not in self._readers:
            self._readers[line.sample] = _Reader(self.model)
        return self._readers[line.sample].write(line, settings, ids, count, self.vocab_size)


class _Reader:
    """A text that the smaller model follows."""

    def __init__(self, model: Decoder):
        self.forward = PlainForward(model)
        self.read = 0

    def write(self, line: Line, settings: Greedy | Sampling, ids: list[int], count: int, size: int) -> list[Guess]:
        guesses: list[Guess] = []
        written = list(line.written)
        constraint = None if line.constraint is None else line.constraint.copy()
        hidden = self._feed(ids[self.read :])
        self.read = len(ids)
        mark = self.forward.cache.mark()
        while True:
            scores = self.forward.score(hidden[-1:])[0, :size]
            scores = line.start.rules.apply(scores, written, constraint)
            if bool((scores == FORBIDDEN).all()):
                break
            given = distribution(scores, settings)
            token = draw(given, line.generator)
            guesses.append(Guess(token, given))
            if len(guesses) == count or token in line.start.ends:
                break
            written.append(token)
            if constraint is not None:
                constraint.take(token)
            hidden = self._feed([token])
        self.forward.cache.rewind(mark)
        return guesses

    def _feed(self, tokens: Sequence[int]) -> Tensor:
        return self.forward.feed([Feed(tokens, 0 if self.read else None)])[0]

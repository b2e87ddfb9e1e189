"""What a strategy is to the engine: it says what its rows read next, gets their scores, and reports what was written.

A `Search` is one request under way. `Line` is one text that it writes, with its rules, its stop strings and its random
numbers; `LineSearch` is greedy decoding and sampling: n lines, each a row, with or without guesses ahead.

A guess g for the next token, drawn from q, is kept with probability min(1, p(g) / q(g)); else the token is drawn from
max(0, p - q), renormalised. So every token has distribution p, whatever q is (Leviathan et al. 2023, appendix A.1).

V vocabulary, D hidden size, T tokens fed to a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from yuyan.generate.forward import Feed
from yuyan.generate.rules import FORBIDDEN, Constraint, Rules
from yuyan.generate.sampling import Greedy, Sampling, choose, distribution, draw, uniform
from yuyan.generate.settings import Settings
from yuyan.generate.stops import StopStream
from yuyan.tokens import Tokenizer

Reason = Literal["stop", "length", "forbidden"]
Alternative = tuple[int, float]
"""A token and its log-probability."""


class Token(NamedTuple):
    """A new token of one request; `text` is what has become certain with it."""

    request: int
    id: int
    text: str = ""
    sample: int = 0
    logprob: float | None = None
    top: tuple[Alternative, ...] = ()


class Done(NamedTuple):
    """A text is finished: `stop` at an end mark or a stop string, `length` at its limit, `forbidden` if the rules leave
    no token. `text` is what still waited, `score` what texts of one request are ordered by, `valid` whether the text
    obeys its constraint, where it has one."""

    request: int
    reason: Reason
    text: str = ""
    sample: int = 0
    stop: str | None = None
    score: float | None = None
    valid: bool | None = None


Event = Token | Done


class Read(NamedTuple):
    """What came of one feed."""

    scores: Tensor
    """(wanted, V): of the token after each of the last tokens."""
    hidden: Tensor
    """(T, D)."""


class Search(Protocol):
    """One request under way."""

    def first(self) -> list[Feed]:
        """What is read first."""
        ...

    def step(self, reads: Sequence[Read]) -> tuple[list[Feed], list[Event]]:
        """From what came of the last feeds to the next ones; none when all is written."""
        ...


@dataclass(frozen=True)
class Start:
    """What a search begins with."""

    prompt: Sequence[int]
    """What the decoder has read before the first new token."""
    limit: int
    """How many new tokens there may be."""
    ends: frozenset[int]
    """Tokens that end a text."""
    rules: Rules
    tokenizer: Tokenizer
    source: Sequence[int] | None = None
    """What the encoder reads."""
    constraint: Constraint | None = None
    guesser: Guesser | None = None

    @property
    def before(self) -> Sequence[int]:
        """What the new text is the continuation of: nothing, if the prompt is what the encoder reads, or if the new text
        has a grammar of its own."""
        return self.prompt if self.source is None and self.constraint is None else ()

    def line(self, settings: Settings, sample: int = 0, seed: int = 0, *, ranked: bool = False) -> Line:
        """A text that has not begun; `ranked` ones count their log-probabilities."""
        return Line(self, settings, sample, seed, ranked=ranked)

    def open(self, *, whole: bool = False) -> list[Feed]:
        """The first feed of every strategy."""
        return [Feed(self.prompt, source=self.source, whole=whole)]


class Guess(NamedTuple):
    """A token that may come next, and the distribution (V,) it was drawn from; None: it was not drawn."""

    token: int
    drawn_from: Tensor | None = None


class Guesser(Protocol):
    """Where guesses come from."""

    def guess(self, line: Line, settings: Greedy | Sampling, room: int) -> list[Guess]:
        """At most `room` tokens that may follow those of the line."""
        ...


def notes_of(scores: Tensor, token: int, alternatives: int) -> tuple[float, tuple[Alternative, ...]]:
    """The log-probability of `token` by the model's own scores (V,), and those of the likeliest tokens."""
    logs = scores.log_softmax(-1)
    best = logs.topk(min(alternatives, len(logs)))
    return float(logs[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))


class Line:
    """One text that is being written."""

    def __init__(self, start: Start, settings: Settings, sample: int, seed: int, *, ranked: bool):
        self.start, self.settings, self.sample, self.ranked = start, settings, sample, ranked
        self.written: list[int] = []
        self.generator = torch.Generator().manual_seed(seed % 2**63)
        self.constraint = None if start.constraint is None else start.constraint.copy()
        self.total, self.count = 0.0, 0
        self._text = StopStream(start.tokenizer, start.before, settings.stop)
        self.done: Done | None = None

    @property
    def left(self) -> int:
        """How many tokens it may still have."""
        return self.start.limit - len(self.written)

    @property
    def mean(self) -> float:
        """Mean log-probability of its tokens, where that is counted."""
        return self.total / max(self.count, 1)

    @property
    def rank(self) -> tuple[bool, float]:
        """What finished lines are ordered by: those that obey first."""
        return self.done is not None and self.done.valid is False, -self.mean

    def scores(self, scores: Tensor) -> Tensor:
        """Scores (V,) of the next token after all rules."""
        return self.start.rules.apply(scores, self.written, self.constraint)

    def note(self, scores: Tensor, token: int) -> tuple[float | None, tuple[Alternative, ...]]:
        """What is to be reported of a chosen token, from the model's scores (V,)."""
        wanted = self.settings.logprobs
        if wanted is None and not self.ranked:
            return None, ()
        logprob, top = notes_of(scores, token, wanted or 0)
        self.total, self.count = self.total + logprob, self.count + 1
        return (None, ()) if wanted is None else (logprob, top)

    def put(self, token: int, logprob: float | None = None, top: tuple[Alternative, ...] = ()) -> list[Event]:
        """Write a token, which may be the last one."""
        assert self.done is None
        if token in self.start.ends:
            return [self.finish("stop")]
        self.written.append(token)
        if self.constraint is not None:
            self.constraint.take(token)
        events: list[Event] = [Token(0, token, self._text.put(token), self.sample, logprob, top)]
        if self._text.stopped is not None or (self.constraint is not None and self.constraint.over):
            events.append(self.finish("stop"))
        elif self.left == 0:
            events.append(self.finish("length"))
        return events

    def finish(self, reason: Reason, score: float | None = None) -> Done:
        """The end of the text."""
        rest = self._text.finish()
        stopped = self._text.stopped
        valid = None if self.constraint is None else self.constraint.complete and stopped is None
        self.done = Done(0, "stop" if stopped is not None else reason, rest, self.sample, stopped, score, valid)
        return self.done


class LineSearch:
    """Greedy decoding and sampling; see the module."""

    def __init__(self, settings: Greedy | Sampling, start: Start):
        self.settings, self.start = settings, start
        self.wanted = settings.n if isinstance(settings, Sampling) else 1
        count = (settings.best_of or settings.n) if isinstance(settings, Sampling) else 1
        seed = settings.seed if isinstance(settings, Sampling) else 0
        ranked = count > self.wanted
        self.lines = [start.line(settings, sample, seed + sample, ranked=ranked) for sample in range(count)]
        self._guesses: list[list[Guess]] = [[] for _ in self.lines]
        self._open: list[int] = []  # the line of each row; none before the prompt was read
        self._events: list[list[Event]] = [[] for _ in self.lines]

    def first(self) -> list[Feed]:
        return self.start.open()

    def step(self, reads: Sequence[Read]) -> tuple[list[Feed], list[Event]]:
        rows = list(enumerate(self._open)) or [(0, number) for number in range(len(self.lines))]
        feeds, events, open_lines = [], [], []
        for row, number in rows:
            line, guesses = self.lines[number], self._guesses[number]
            before = len(line.written)
            new = self._write(line, reads[row].scores, guesses)
            events += self._reported(number, new)
            if line.done is not None:
                continue
            kept = len(line.written) - before - 1
            guesses = self._guesses[number] = self._guess(line)
            tokens = [line.written[-1], *(guess.token for guess in guesses)]
            feeds.append(Feed(tokens, row, len(reads[row].scores) - 1 - kept, len(tokens)))
            open_lines.append(number)
        self._open = open_lines
        return feeds, events if feeds or not self._ranked else self._best()

    @property
    def _ranked(self) -> bool:
        return len(self.lines) > self.wanted

    def _reported(self, number: int, new: list[Event]) -> list[Event]:
        if not self._ranked:
            return new
        self._events[number] += new
        return []

    def _best(self) -> list[Event]:
        """The events of the best lines, numbered by their rank."""
        order = sorted(range(len(self.lines)), key=lambda number: self.lines[number].rank)[: self.wanted]
        events: list[Event] = []
        for rank, number in enumerate(order):
            for event in self._events[number]:
                score = {"score": self.lines[number].mean} if isinstance(event, Done) else {}
                events.append(event._replace(sample=rank, **score))  # type: ignore[arg-type]
        return events

    def _guess(self, line: Line) -> list[Guess]:
        if self.start.guesser is None or line.left < 2:
            return []
        return self.start.guesser.guess(line, self.settings, line.left - 1)

    def _write(self, line: Line, scores: Tensor, guesses: Sequence[Guess]) -> list[Event]:
        """Keep guesses while they hold, then write one token more."""
        events: list[Event] = []
        for place in range(len(scores)):
            ruled = line.scores(scores[place])
            if bool(ruled.amax() == FORBIDDEN):
                return [*events, line.finish("forbidden")]
            if place < len(guesses):
                token, kept = self._check(ruled, guesses[place], line.generator)
            else:
                token, kept = choose(ruled, self.settings, line.generator), False
            events += line.put(token, *line.note(scores[place], token))
            if line.done is not None or not kept:
                break
        return events

    def _check(self, scores: Tensor, guess: Guess, generator: torch.Generator) -> tuple[int, bool]:
        """The token to write, and whether it is the guess."""
        wanted = distribution(scores, self.settings)
        given = torch.zeros_like(wanted) if guess.drawn_from is None else guess.drawn_from
        if guess.drawn_from is None:
            given[guess.token] = 1.0
        if uniform(generator) * float(given[guess.token]) < float(wanted[guess.token]):
            return guess.token, True
        rest = (wanted - given).clamp(min=0)
        return draw(rest if bool(rest.any()) else wanted, generator), False

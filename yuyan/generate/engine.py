"""Generating text: requests of any kind in one batch, which come and go while others are under way.

Each request is a `Search` with rows of its own; at every step the rows of all requests are fed in one pass, and each
search gets the scores of its rows. So a request gives in a batch what it gives alone, whatever the others do.

With `overflow: slide` a row that would pass the context begins anew with its latest tokens, three quarters of the
context, behind its begin mark: what a request writes does not depend on when the others do so.

N rows of a step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from yuyan.errors import InputError
from yuyan.generate.forward import Feed, Forward
from yuyan.generate.rules import Constraint, Rules
from yuyan.generate.search import Event, Guesser, Read, Search, Start
from yuyan.generate.strategy import Settings, search_for
from yuyan.tokens import Tokenizer

DEFAULT_TOKENS = 200


@dataclass(frozen=True)
class Request:
    """What is to be continued, and how."""

    prompt: Sequence[int]
    """What the decoder reads first; it already carries its begin mark."""
    settings: Settings
    source: Sequence[int] | None = None
    """What the encoder reads, where there is one."""
    constraint: Constraint | None = None
    guesser: Guesser | None = None


@dataclass
class _Active:
    """A request under way."""

    search: Search
    feeds: list[Feed]
    slides: bool
    request: Request
    first: int = 0
    """Its first row of the last step."""
    read: list[list[int]] = field(default_factory=list)
    """What each of its rows has read, where that may slide."""


class Engine:
    """Requests under way on one model.

    Published models may score more ids than their tokenizer has; those are never chosen. `ends` are the tokens that end
    a text, `context` how many tokens the model reads, None for any number.
    """

    def __init__(self, forward: Forward, tokenizer: Tokenizer, *, ends: frozenset[int], context: int | None):
        self.forward, self.tokenizer, self.ends, self.context = forward, tokenizer, ends, context
        self._active: dict[int, _Active] = {}
        self._count = 0

    def add(self, request: Request) -> int:
        """Take up a request; its number is that of its events.

        Raises InputError for an empty prompt, and for one that leaves no room for a new token within the context.
        """
        settings, slides = request.settings, request.settings.overflow == "slide"
        limit = limit_of(request, self.context)
        rules = Rules(settings, request.prompt, self.ends, self.tokenizer.pieces, len(self.tokenizer))
        start = Start(
            request.prompt, limit, self.ends, rules, self.tokenizer, request.source, request.constraint, request.guesser
        )
        search = search_for(settings, start)
        number, self._count = self._count, self._count + 1
        self._active[number] = _Active(search, search.first(), slides and self.context is not None, request)
        return number

    def cancel(self, number: int) -> None:
        """Drop a request; nothing happens if it is finished."""
        self._active.pop(number, None)

    def holds(self, number: int) -> bool:
        """Whether this request is under way."""
        return number in self._active

    @property
    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._active)

    def run(self) -> Iterator[Event]:
        """The events of all requests until they are finished."""
        while self.busy:
            yield from self.step()

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Feed every row once."""
        feeds: list[Feed] = []
        for active in self._active.values():
            new = self._slid(active) if active.slides else active.feeds
            before, active.first = active.first, len(feeds)
            feeds += [feed if feed.parent is None else feed._replace(parent=before + feed.parent) for feed in new]
        with self.forward.under_way():
            return self._read(feeds)

    def _read(self, feeds: list[Feed]) -> list[Event]:
        """Read, choose, and go on."""
        hidden = self.forward.feed(feeds)
        wanted = [rows[len(rows) - feed.wanted :] for rows, feed in zip(hidden, feeds, strict=True)]
        scores = self.forward.score(torch.cat(wanted))[:, : len(self.tokenizer)]
        parts = torch.split(scores, [len(rows) for rows in wanted])
        events: list[Event] = []
        for number, active in list(self._active.items()):
            rows = range(active.first, active.first + len(active.feeds))
            active.feeds, new_events = active.search.step([Read(parts[row], hidden[row]) for row in rows])
            events += [event._replace(request=number) for event in new_events]
            if not active.feeds:
                del self._active[number]
        return events

    def _slid(self, active: _Active) -> list[Feed]:
        """The next feeds; rows that would pass the context begin anew with their latest tokens.

        Guesses never make a row slide: those that do not fit are left out, so the text is what it is without them.
        """
        assert self.context is not None
        control = self.tokenizer.special.control
        begin = [token for token in active.request.prompt[:1] if token in control]
        feeds, read = [], []
        for feed in active.feeds:
            seen = [] if feed.parent is None else active.read[feed.parent]
            sure = len(feed.tokens) - (feed.wanted - 1)
            seen, guesses = [*seen[: len(seen) - feed.forget], *feed.tokens[:sure]], feed.tokens[sure:]
            slides = len(seen) > self.context
            if slides:
                keep = max(self.context * 3 // 4, 1 + len(begin)) - len(begin)
                seen = [*begin, *seen[len(seen) - keep :]]
            guesses = guesses[: max(0, self.context - len(seen))]
            feed = feed._replace(tokens=[*feed.tokens[:sure], *guesses], wanted=1 + len(guesses))
            seen = [*seen, *guesses]
            if slides:
                feed = feed._replace(tokens=seen, parent=None, forget=0, source=active.request.source)
            feeds.append(feed)
            read.append(seen)
        active.read = read
        return feeds


def limit_of(request: Request, context: int | None) -> int:
    """How many new tokens a request may have. Raises InputError if it does not fit the context."""
    prompt, settings = len(request.prompt), request.settings
    wanted = settings.max_tokens
    if prompt == 0:
        raise InputError("the prompt is empty, and this model has no begin mark to start from")
    if context is None or settings.overflow == "slide":
        return wanted or DEFAULT_TOKENS
    room = context - prompt + 1 - settings.looks_ahead  # the last token chosen is never read again
    if room <= 0:
        raise InputError(
            f"the prompt has {prompt} tokens, and the model reads at most {context}; shorten the prompt, "
            "or let it forget the oldest part (overflow=slide)"
        )
    if wanted is not None and wanted > room:
        raise InputError(
            f"{prompt} tokens of prompt and {wanted} new ones do not fit the {context} that the model reads; "
            f"ask for at most {room} (--max-tokens {room}), or let it forget the oldest part (overflow=slide)"
        )
    return min(wanted or DEFAULT_TOKENS, room)

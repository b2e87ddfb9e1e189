"""Beam search: keep the likeliest beginnings, and order what is finished by log-probability over a power of its length.

At each step every beginning is continued by every token, and the likeliest `beams` continuations go on; those among them
that end are finished. The score of a text of t tokens, end mark included, is its log-probability / t^length_penalty.
With groups, the beams of a group choose after those of the groups before it, and each token that those took at this step
costs `diversity` (Vijayakumar et al. 2018, algorithm 1); the final scores are the model's own.

R rows, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from yuyan.generate.forward import Feed
from yuyan.generate.rules import FORBIDDEN, Constraint
from yuyan.generate.search import Alternative, Event, Read, Reason, Start, notes_of
from yuyan.generate.settings import MOST_TEXTS, Settings
from yuyan.generate.stops import cut_at_stop


class Beam(Settings):
    """The likeliest whole text, approximately (Graves 2012; Sutskever et al. 2014)."""

    kind: Literal["beam"] = "beam"
    beams: int = Field(4, ge=1, le=MOST_TEXTS)
    """How many beginnings are followed."""
    n: int = Field(1, ge=1, le=MOST_TEXTS)
    """How many texts, best first."""
    length_penalty: float = Field(1.0, allow_inf_nan=False)
    """The power of the length that the log-probability is divided by: 0 for none; the larger, the longer the text."""
    early_stopping: bool | Literal["never"] = False
    """When to stop with `beams` finished texts: at once (true), when the best beginning as it is now scores no better
    (false), or when no beginning could score better at any length (never)."""
    groups: int = Field(1, ge=1)
    """Groups of beams that are kept apart; `beams` is divided among them."""
    diversity: float = Field(0.5, ge=0, allow_inf_nan=False)
    """What a token costs for each beam of the groups before that took it at the same step."""

    @model_validator(mode="after")
    def _sizes(self) -> Beam:
        if self.n > self.beams:
            raise ValueError(f"n: {self.beams} beams give at most {self.beams} texts, not {self.n}")
        if self.beams % self.groups:
            raise ValueError(f"groups: {self.beams} beams cannot be divided evenly among {self.groups}")
        return self


Notes = tuple[tuple[float, tuple[Alternative, ...]], ...]


class Beginning(NamedTuple):
    """A text under way."""

    written: tuple[int, ...] = ()
    total: float = 0.0
    row: int = 0
    notes: Notes = ()
    constraint: Constraint | None = None


class Finished(NamedTuple):
    """A text that ended: `written` is without the end mark."""

    score: float
    written: tuple[int, ...]
    reason: Reason
    notes: Notes
    valid: bool | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """What texts are ordered by: those that obey their constraint first."""
        return self.valid is False, -self.score


class Candidate(NamedTuple):
    """A beginning and one more token."""

    beginning: Beginning
    token: int
    total: float
    constraint: Constraint | None = None
    """Where the text is in its grammar, behind the token."""


@dataclass
class Group:
    """Beams that compete with each other."""

    size: int
    open: list[Beginning]
    finished: list[Finished] = field(default_factory=list)
    over: bool = False


class BeamSearch:
    """The search; see the module."""

    def __init__(self, settings: Beam, start: Start):
        self.settings, self.start = settings, start
        size = settings.beams // settings.groups
        self.groups = [Group(size, [Beginning(constraint=start.constraint)]) for _ in range(settings.groups)]
        self.steps = 0

    def first(self) -> list[Feed]:
        return self.start.open()

    def step(self, reads: Sequence[Read]) -> tuple[list[Feed], list[Event]]:
        taken: Counter[int] = Counter()
        self.steps += 1
        for group in self.groups:
            if not group.over:
                taken.update(self._advance(group, reads, taken))
        feeds: list[Feed] = []
        for group in self.groups:
            for number, beginning in enumerate(group.open if not group.over else ()):
                group.open[number] = beginning._replace(row=len(feeds))
                feeds.append(Feed([beginning.written[-1]], beginning.row))
        return feeds, [] if feeds else self._events()

    def _advance(self, group: Group, reads: Sequence[Read], taken: Counter[int]) -> list[int]:
        """One more token for every beam of a group; which tokens those are."""
        candidates = self._candidates(group, reads, taken)
        goes_on: list[Beginning] = []
        tokens = []
        for place, candidate in enumerate(candidates):
            reason = self._ends(candidate)
            if reason is None and len(goes_on) < group.size:
                goes_on.append(self._continued(candidate, reads))
            elif reason is not None and place < group.size:
                self._finish(group, candidate, reason, reads)
            else:
                continue
            tokens.append(candidate.token)
        group.over = not goes_on
        if goes_on:
            group.open = goes_on
            group.over = self._settled(group)
        return tokens

    def _candidates(self, group: Group, reads: Sequence[Read], taken: Counter[int]) -> list[Candidate]:
        """The likeliest continuations, best first: so many that enough of them do not end."""
        totals, chosen_by = [], []
        for beginning in group.open:
            logs = reads[beginning.row].scores[-1].log_softmax(-1)
            totals.append(self.start.rules.apply(logs, beginning.written, beginning.constraint) + beginning.total)
            chosen_by.append(self._diverse(totals[-1], taken))
        flat = torch.cat(chosen_by)
        count = min(len(flat), max(2, 1 + len(self.start.ends)) * group.size)
        size = len(totals[0])
        found = []
        for place in flat.topk(count).indices.tolist():
            row, token = divmod(place, size)
            if (total := float(totals[row][token])) != FORBIDDEN:
                found.append(Candidate(group.open[row], token, total, self._followed(group.open[row], token)))
        return found

    def _followed(self, beginning: Beginning, token: int) -> Constraint | None:
        if beginning.constraint is None:
            return None
        constraint = beginning.constraint.copy()
        if token not in self.start.ends:
            constraint.take(token)
        return constraint

    def _diverse(self, totals: Tensor, taken: Counter[int]) -> Tensor:
        if not taken or not self.settings.diversity:
            return totals
        totals = totals.clone()
        cost = torch.tensor(list(taken.values()), dtype=totals.dtype, device=totals.device)
        totals[list(taken)] -= self.settings.diversity * cost
        return totals

    def _ends(self, candidate: Candidate) -> Literal["stop", "length"] | None:
        if candidate.token in self.start.ends:
            return "stop"
        if candidate.constraint is not None and candidate.constraint.over:
            return "stop"
        if self.settings.stop:
            written = [*self.start.before, *candidate.beginning.written, candidate.token]
            text = self.start.tokenizer.decode(written)[len(self.start.tokenizer.decode(self.start.before)) :]
            if cut_at_stop(text, self.settings.stop) != text:
                return "stop"
        return "length" if self.steps == self.start.limit else None

    def _continued(self, candidate: Candidate, reads: Sequence[Read]) -> Beginning:
        beginning = candidate.beginning
        written = (*beginning.written, candidate.token)
        notes = self._notes(candidate, reads)
        return Beginning(written, candidate.total, beginning.row, notes, candidate.constraint)

    def _notes(self, candidate: Candidate, reads: Sequence[Read]) -> Notes:
        beginning, wanted = candidate.beginning, self.settings.logprobs
        if wanted is None:
            return ()
        return (*beginning.notes, notes_of(reads[beginning.row].scores[-1], candidate.token, wanted))

    def _finish(
        self, group: Group, candidate: Candidate, reason: Literal["stop", "length"], reads: Sequence[Read]
    ) -> None:
        """Add to the finished texts, of which the best are kept."""
        written = candidate.beginning.written
        if candidate.token not in self.start.ends:
            written = (*written, candidate.token)
        score = candidate.total / self._power(self.steps)
        valid = None if candidate.constraint is None else candidate.constraint.complete
        group.finished.append(Finished(score, written, reason, self._notes(candidate, reads), valid))
        group.finished.sort(key=lambda text: text.rank)
        del group.finished[group.size :]

    def _settled(self, group: Group) -> bool:
        """Whether what is finished cannot be bettered, as far as `early_stopping` wants to know."""
        if len(group.finished) < group.size:
            return False
        if self.settings.early_stopping is True:
            return True
        never = self.settings.early_stopping == "never" and self.settings.length_penalty > 0
        best = group.open[0].total / self._power(self.start.limit if never else self.steps)
        return best <= group.finished[-1].score

    def _power(self, length: int) -> float:
        return float(length**self.settings.length_penalty)

    def _events(self) -> list[Event]:
        """The n best texts of all groups."""
        finished = [text for group in self.groups for text in group.finished]
        texts = sorted(finished or self._broken_off(), key=lambda text: text.rank)
        events: list[Event] = []
        for rank, text in enumerate(texts[: self.settings.n]):
            line = self.start.line(self.settings, rank)
            line.constraint = None
            for number, token in enumerate(text.written):
                if line.done is None:
                    events += line.put(token, *(text.notes[number] if text.notes else ()))
            if line.done is None:
                events.append(line.finish(text.reason))
            events[-1] = events[-1]._replace(score=text.score, valid=text.valid)  # type: ignore[call-arg]
        return events or [self.start.line(self.settings).finish("forbidden")]

    def _broken_off(self) -> list[Finished]:
        """Where the rules left no token and nothing was finished: what was written, as the other strategies keep it."""
        return [
            Finished(
                beginning.total / self._power(len(beginning.written)), beginning.written, "forbidden", beginning.notes,
                None if beginning.constraint is None else beginning.constraint.complete,
            )
            for group in self.groups for beginning in group.open if beginning.written
        ]  # fmt: skip

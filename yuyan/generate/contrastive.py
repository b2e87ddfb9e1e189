"""Contrastive search: likely, but unlike what is already there.

Of the k likeliest tokens the one is written with the highest (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), where h_v is
the hidden state that v would have and the h_j are those of prompt and text (Su et al. 2022, section 3.2, equation 5).
Each candidate is a row of its own, so that the pass which gives h_v is also the one that continues after v.

Relations: alpha 0 and k 1 are greedy decoding.

k candidates, S tokens so far, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from yuyan.generate.forward import Feed
from yuyan.generate.rules import FORBIDDEN
from yuyan.generate.search import Event, Read, Start
from yuyan.generate.settings import MOST_TEXTS, Settings


class Contrastive(Settings):
    """Deterministic, and without the loops of greedy decoding."""

    looks_ahead: ClassVar[int] = 1

    kind: Literal["contrastive"] = "contrastive"
    top_k: int = Field(4, ge=1, le=MOST_TEXTS)
    """How many tokens are candidates."""
    alpha: float = Field(0.6, ge=0, le=1)
    """Weight of being unlike."""


class ContrastiveSearch:
    """The search; see the module."""

    def __init__(self, settings: Contrastive, start: Start):
        self.settings, self.start = settings, start
        self.line = start.line(settings)
        self.seen: list[Tensor] = []  # directions of the hidden states so far
        self.candidates: list[int] = []
        self.probabilities = torch.empty(0)
        self.scores = torch.empty(0)

    def first(self) -> list[Feed]:
        return self.start.open(whole=True)

    def step(self, reads: Sequence[Read]) -> tuple[list[Feed], list[Event]]:
        row, events = 0, []
        if not self.candidates:
            self.seen.append(F.normalize(reads[0].hidden.float(), dim=-1))
        else:
            new = F.normalize(torch.stack([read.hidden[-1] for read in reads]).float(), dim=-1)
            row = self._best(new)
            self.seen.append(new[row : row + 1])
            events += self.line.put(self.candidates[row], *self.line.note(self.scores, self.candidates[row]))
        if self.line.done is not None:
            return [], events
        self.scores = reads[row].scores[-1]
        ruled = self.line.scores(self.scores)
        if bool((ruled == FORBIDDEN).all()):
            return [], [*events, self.line.finish("forbidden")]
        best = ruled.softmax(-1).topk(min(self.settings.top_k, int((ruled != FORBIDDEN).sum())))
        self.candidates, self.probabilities = best.indices.tolist(), best.values
        return [Feed([token], row) for token in self.candidates], events

    def _best(self, new: Tensor) -> int:
        """Which of the candidates, whose directions are `new` (k, D), is written."""
        unlike = (new @ torch.cat(self.seen).T).amax(-1)
        alpha = self.settings.alpha
        return int(((1 - alpha) * self.probabilities - alpha * unlike).argmax())

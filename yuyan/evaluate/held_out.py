"""How well a model does what it was trained for, on held-out examples that are always the same.

The questions are made with fixed chance, a function of the seed and the row's number alone, so that every look at a model
sees the same masks, and in groups of fixed size, so that the wrong answers of a contrastive batch are the same too. Every
mark of the objective is a total and a count by example; the interval draws examples with replacement. Examples of one
contrastive group share their wrong answers, which that interval does not know.

B examples.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import nn

from yuyan.config import Config
from yuyan.corpus.batch import Rows
from yuyan.corpus.order import HELD_OUT, generator
from yuyan.errors import DataError, YuyanError
from yuyan.metrics import perplexity, ratio_interval
from yuyan.metrics.likelihood import total
from yuyan.nn.device import device_of, moved
from yuyan.objectives import Objective, collate

ROWS_AT_ONCE = 32
_PERPLEXITY = "perplexity"


class HeldOut(Config):
    """What a report says of a model on held-out examples of its objective."""

    better: ClassVar[str] = "lower"
    measure: str
    """What `value` is, such as masked_token_loss."""
    value: float
    """The mean loss in nats, of what `unit` says."""
    interval: tuple[float, float]
    """95 %, by bootstrap over examples."""
    others: dict[str, float]
    """The other marks, by name: perplexity, accuracy, ..."""
    unit: str
    """What `counted` are: tokens, pairs, texts, spans, words."""
    counted: int
    """How many tokens, pairs or texts were scored."""
    examples: int
    each: tuple[tuple[float, float], ...] = Field((), exclude=True, repr=False)
    """(loss, how many were scored) of every example, for paired comparisons; no part of a report."""

    def plain(self) -> dict[str, Any]:
        """As it stands in a log and in a report; what is not a number is null."""
        return {
            self.measure: number_or_none(self.value), "interval": [number_or_none(x) for x in self.interval],
            **{name: number_or_none(value) for name, value in self.others.items()},
            self.unit: self.counted, "examples": self.examples,
        }  # fmt: skip


def number_or_none(value: float) -> float | None:
    """As JSON can say it."""
    return value if math.isfinite(value) else None


class _Sums(NamedTuple):
    """One entry an example."""

    totals: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        count = int(self.counts.sum())
        return total(self.totals) / count if count else math.nan


def held_out(
    model: nn.Module, objective: Objective, kind: str, rows: Rows, *, seed: int, limit: int | None = None
) -> HeldOut:
    """Measure `model` by `objective`, of a config of `kind`, on the first `limit` of the rows of epoch 0, or on all.

    Raises DataError if nothing in them is scored.
    """
    count = len(rows) if limit is None else min(len(rows), max(1, limit))
    marks = _marks(model, objective, rows, count, seed)
    loss = marks.pop("loss")
    if not loss.counts.sum():
        raise DataError(f"held-out data: nothing in these {count:,} examples is scored by objective {kind}")
    others = {
        name: perplexity(total(mark.totals), float(mark.counts.sum())) if name.endswith(_PERPLEXITY) else mark.mean
        for name, mark in marks.items()
    }
    return HeldOut(
        measure=f"{kind}_loss", value=loss.mean, interval=ratio_interval(loss.totals, loss.counts.astype(np.float64)),
        others=others, unit=objective.counted, counted=int(loss.counts.sum()), examples=count,
        each=tuple(zip(loss.totals.tolist(), loss.counts.astype(float).tolist(), strict=True)),
    )  # fmt: skip


@torch.no_grad()
def _marks(model: nn.Module, objective: Objective, rows: Rows, count: int, seed: int) -> dict[str, _Sums]:
    was_training = model.training
    model.eval()
    found: dict[str, list[_Sums]] = {}
    for numbers in np.array_split(np.arange(count), -(-count // ROWS_AT_ONCE)):
        examples = [
            _asked(objective, row, seed, int(number))
            for row, number in zip(rows.rows(0, numbers), numbers, strict=True)
        ]
        for name, mark in objective.marks(model, moved(collate(examples), device_of(model))).items():
            sums = _Sums(mark.total.double().cpu().numpy(), mark.count.cpu().numpy())
            found.setdefault(name, []).append(sums)
    model.train(was_training)
    return {
        name: _Sums(np.concatenate([s.totals for s in parts]), np.concatenate([s.counts for s in parts]))
        for name, parts in found.items()
    }


def _asked(objective: Objective, row: Any, seed: int, number: int) -> dict[str, np.ndarray]:
    try:
        return objective.example(row, np.random.Generator(generator(seed, 0, number, HELD_OUT)))
    except YuyanError as error:
        raise DataError(f"held-out row {number}: {error}") from error

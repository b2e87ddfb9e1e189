"""How well a task is done on held-out records: the first number is what the best model is chosen by."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from yuyan.evaluate.held_out import HeldOut, number_or_none
from yuyan.metrics.interval import Interval
from yuyan.metrics.score import Scores


class TaskScore(HeldOut):
    """What a report says of a task; `value` is its first measure, `others` the rest."""

    better: ClassVar[str] = "higher"
    intervals: dict[str, tuple[float, float]]
    """95 %, of the others: by bootstrap over records, of shares by Wilson's formula."""
    by_label: dict[str, dict[str, float]]
    confusion: list[list[float]] | None
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """How it was counted, a line each."""
    beside: dict[str, dict[str, float]] = Field(default_factory=dict)
    """What simple rules get on the same records, by their name and the measure."""

    @classmethod
    def of(cls, scores: Scores, examples: int) -> TaskScore:
        """From what a task measured."""
        (name, first), *others = scores.values.items()
        kind = TaskLoss if scores.lower else cls
        return kind(
            measure=name, value=first.value, interval=first.interval,
            others={name: value.value for name, value in others},
            intervals={name: value.interval for name, value in others}, unit=scores.unit, counted=scores.counted,
            examples=examples, each=scores.each, by_label=scores.by_label, labels=scores.labels,
            confusion=None if scores.confusion is None else scores.confusion.tolist(), notes=scores.notes,
            beside=dict(scores.beside),
        )  # fmt: skip

    def whole(self) -> dict[str, Any]:
        """All of it, as a report keeps it."""
        intervals = {key: [number_or_none(x) for x in pair] for key, pair in self.intervals.items()}
        confusion = {} if self.confusion is None else {"labels": list(self.labels), "confusion": self.confusion}
        kept = {
            key: getattr(self, key)
            for key in ("by_label", "notes", "beside")
            if getattr(self, key) or key == "by_label"
        }
        return {**self.plain(), "intervals": intervals, **kept, **confusion}

    def interval_of(self, name: str) -> Interval:
        """The interval of any of its measures."""
        return Interval(*(self.interval if name == self.measure else self.intervals[name]))


class TaskLoss(TaskScore):
    """The same where less is better."""

    better: ClassVar[str] = "lower"

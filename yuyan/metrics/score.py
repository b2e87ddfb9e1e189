"""What the answers of a task came to: numbers with intervals, by label, and which label was taken for which."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yuyan.metrics.interval import Interval

NONE = Interval(float("nan"), float("nan"))


class Value(NamedTuple):
    """A score and its 95 % interval."""

    value: float
    interval: Interval = NONE


class Scores(NamedTuple):
    """The first of `values` is the one that picks the best model; higher is better, unless `lower`."""

    values: dict[str, Value]
    counted: int
    """Of how many of the `unit`."""
    by_label: dict[str, dict[str, float]]
    """Precision, recall, f1 and how many there are, by label."""
    confusion: np.ndarray | None = None
    """(labels, labels): how often the label of the row was answered by that of the column."""
    unit: str = "texts"
    """texts, words or spans."""
    labels: tuple[str, ...] = ()
    """The names of its rows and columns."""
    each: tuple[tuple[float, float], ...] = ()
    """Of every record, numerator and denominator of the first value, for paired comparisons."""
    notes: tuple[str, ...] = ()
    """How it was counted, such as sacreBLEU's signature; a line each."""
    beside: tuple[tuple[str, dict[str, float]], ...] = ()
    """What simple rules get on the same records: their name, and values by measure."""
    lower: bool = False
    """Whether the first value is the better, the lower it is."""

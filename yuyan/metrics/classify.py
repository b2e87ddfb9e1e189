"""What the answers of a classifier are worth: accuracy, precision, recall, F1, AUROC, calibration.

Precision is the share of answers with a label that are right, recall the share of texts with it that are found, F1 their
harmonic mean; micro adds up all labels before dividing, macro takes the mean over the labels that occur (in the answers or
in the truth). Where nothing could be divided the value is 0, as in scikit-learn with zero_division=0.

N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yuyan.metrics.correlation import ranks
from yuyan.metrics.interval import Interval, resampled, share_interval
from yuyan.metrics.score import Scores, Value

Floats = NDArray[np.float64]
BINS = 15
SLOW_DRAWS = 200


def confusion_of(
    truth: NDArray[np.int64], answers: NDArray[np.int64], labels: int, weights: Floats | None = None
) -> Floats:
    """(L, L): how often each label (row) was answered by each (column); `weights` (N,) count an example several times."""
    cells = np.bincount(truth * labels + answers, weights=weights, minlength=labels * labels)
    return cells.reshape(labels, labels).astype(np.float64)


class Counts:
    """Right answers, answers and occurrences of each label, each (L,)."""

    def __init__(self, right: Floats, answered: Floats, there: Floats):
        self.right, self.answered, self.there = right, answered, there

    @classmethod
    def of_confusion(cls, confusion: Floats) -> Counts:
        """From one label a text."""
        return cls(np.diag(confusion), confusion.sum(0), confusion.sum(1))

    @classmethod
    def of_sets(cls, truth: NDArray[np.bool_], answers: NDArray[np.bool_], weights: Floats | None = None) -> Counts:
        """From any number of labels a text, (N, L)."""
        weight = np.ones(len(truth)) if weights is None else weights
        return cls(weight @ (truth & answers), weight @ answers.astype(np.float64), weight @ truth.astype(np.float64))

    @property
    def precision(self) -> Floats:
        """(L,)"""
        return self.right / np.maximum(self.answered, 1e-300) * (self.answered > 0)

    @property
    def recall(self) -> Floats:
        """(L,)"""
        return self.right / np.maximum(self.there, 1e-300) * (self.there > 0)

    @property
    def f1(self) -> Floats:
        """(L,)"""
        both = self.answered + self.there
        return 2 * self.right / np.maximum(both, 1e-300) * (both > 0)

    @property
    def occurring(self) -> NDArray[np.bool_]:
        """(L,): labels that are in the truth or in the answers."""
        found: NDArray[np.bool_] = (self.answered + self.there) > 0
        return found

    def macro(self, values: Floats) -> float:
        """The mean over the labels that occur."""
        return float(values[self.occurring].mean()) if self.occurring.any() else float("nan")

    def micro_f1(self) -> float:
        """Over all labels together."""
        return float(2 * self.right.sum() / max(self.answered.sum() + self.there.sum(), 1e-300))


def auroc(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The share of pairs, one positive and one not, that `scores` put in order (ties count half); NaN without either.

    The area under the receiver operating characteristic (Hanley & McNeil 1982), by ranks.
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    return float((ranks(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


class WeightedAuroc:
    """`auroc` for many weightings of the same scores: they are sorted once."""

    def __init__(self, positive: NDArray[np.bool_], scores: Floats):
        self.order = np.argsort(scores, kind="stable")
        self.positive = positive[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(scores[self.order]) != 0, True))

    def __call__(self, weights: NDArray[np.float64] | NDArray[np.int64]) -> float:
        """With each example (N,) counted so often."""
        weight = weights[self.order].astype(np.float64)
        up = np.cumsum(weight * self.positive)[self.ends]
        below = np.cumsum(weight * ~self.positive)[self.ends]
        groups_up, groups_below = np.diff(up, prepend=0.0), np.diff(below, prepend=0.0)
        pairs = up[-1] * below[-1]
        return float((groups_up * (below - groups_below / 2)).sum() / pairs) if pairs else float("nan")


def calibration_error(right: NDArray[np.bool_], confidence: Floats, bins: int = BINS) -> float:
    """How far the confidence of answers is from the share of them that is right, averaged over bins of equal width.

    The expected calibration error (Naeini et al. 2015; Guo et al. 2017, section 2); a bin holds (low, high].
    """
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / max(1, len(right)))


# ---------------------------------------------------------------- all of it


def score_labels(labels: Sequence[str], truths: Sequence[Sequence[str]], shares: Floats, draws: int) -> Scores:
    """Of one label a text, with probabilities `shares` (N, L). A truth that is none of the labels counts as wrong: it
    cannot be answered.
    """
    names = (*labels, *sorted({truth[0] for truth in truths} - set(labels)))
    numbers = {name: number for number, name in enumerate(names)}
    truth, chosen = np.array([numbers[each[0]] for each in truths]), shares.argmax(1)
    confusion = confusion_of(truth, chosen, len(names))
    right = int(np.trace(confusion))

    def of(name: str, weights: Floats | None = None) -> float:
        counts = Counts.of_confusion(confusion_of(truth, chosen, len(names), weights))
        return counts.macro(getattr(counts, name))

    values = {"accuracy": Value(right / len(truths), share_interval(right, len(truths)))}
    for key, name in (("f1_macro", "f1"), ("precision_macro", "precision"), ("recall_macro", "recall")):
        interval = resampled(len(truths), lambda weights, name=name: of(name, weights), draws=draws)  # type: ignore[misc]
        values[key] = Value(of(name), interval)
    known = truth < len(labels)
    if known.any():
        values["auroc"] = _macro_auroc(truth[known, None] == np.arange(len(labels)), shares[known], draws)
    confidence, correct = shares.max(1), truth == chosen
    values["calibration_error"] = Value(
        calibration_error(correct, confidence), _calibration_interval(correct, confidence, draws)
    )
    each = tuple((float(one), 1.0) for one in correct)
    return Scores(
        values, len(truths), _by_label(names, Counts.of_confusion(confusion)), confusion, labels=names, each=each
    )


def score_sets(labels: Sequence[str], truths: Sequence[Sequence[str]], shares: Floats, draws: int) -> Scores:
    """Of any number of labels a text, each answered where its share (N, L) is over a half; those that are not known count
    as not found.
    """
    names = (*labels, *sorted({label for truth in truths for label in truth} - set(labels)))
    truth = np.array([[name in each for name in names] for each in truths])
    chosen = np.zeros_like(truth)
    chosen[:, : len(labels)] = shares > 0.5
    counts, exact = Counts.of_sets(truth, chosen), int((truth == chosen).all(1).sum())

    def drawn(weights: NDArray[np.int64], name: str) -> float:
        again = Counts.of_sets(truth, chosen, weights.astype(np.float64))
        return again.micro_f1() if name == "f1_micro" else again.macro(again.f1)

    values = {
        name: Value(value, resampled(len(truths), lambda weights, name=name: drawn(weights, name), draws=draws))  # type: ignore[misc]
        for name, value in (("f1_micro", counts.micro_f1()), ("f1_macro", counts.macro(counts.f1)))
    }
    values["precision_macro"] = Value(counts.macro(counts.precision))
    values["recall_macro"] = Value(counts.macro(counts.recall))
    values["exact_accuracy"] = Value(exact / len(truths), share_interval(exact, len(truths)))
    values["auroc"] = _macro_auroc(truth[:, : len(labels)], shares, draws)
    each = tuple(zip(2.0 * (truth & chosen).sum(1), (truth.sum(1) + chosen.sum(1)).astype(float), strict=True))
    return Scores(values, len(truths), _by_label(names, counts), each=each)


def _calibration_interval(correct: NDArray[np.bool_], confidence: Floats, draws: int) -> Interval:
    def drawn(weights: NDArray[np.int64]) -> float:
        chosen = np.repeat(np.arange(len(weights)), weights)
        return calibration_error(correct[chosen], confidence[chosen])

    return resampled(len(correct), drawn, draws=min(draws, SLOW_DRAWS))


def _macro_auroc(truth: NDArray[np.bool_], shares: Floats, draws: int) -> Value:
    """The mean over the labels of how well each is told from all others; of two labels there is one such question."""
    columns = [i for i in range(truth.shape[1]) if truth[:, i].any() and not truth[:, i].all()]
    columns = columns[-1:] if truth.shape[1] == 2 and bool((truth.sum(1) == 1).all()) else columns
    if not columns:
        return Value(float("nan"))
    again = [WeightedAuroc(truth[:, i], shares[:, i]) for i in columns]

    def drawn(weights: NDArray[np.int64]) -> float:
        values = np.array([one(weights) for one in again])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    value = float(np.mean([auroc(truth[:, i], shares[:, i]) for i in columns]))
    return Value(value, resampled(len(truth), drawn, draws=min(draws, SLOW_DRAWS)))


def _by_label(names: Sequence[str], counts: Counts) -> dict[str, dict[str, float]]:
    return {
        name: {
            "precision": float(counts.precision[i]), "recall": float(counts.recall[i]), "f1": float(counts.f1[i]),
            "count": float(counts.there[i]),
        }
        for i, name in enumerate(names)
    }  # fmt: skip

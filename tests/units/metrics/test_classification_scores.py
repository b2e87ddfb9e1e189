"""Classification metrics equal scikit-learn's, and what a bootstrap weighs is what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from yuyan.metrics.classify import (
    Counts,
    WeightedAuroc,
    auroc,
    calibration_error,
    confusion_of,
    score_labels,
    score_sets,
)
from yuyan.metrics.interval import resampled, share_interval

LABELS = ("a", "b", "c")


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 200)
    shares = random.dirichlet(np.ones(3), 200)
    shares[np.arange(200), truth] += 0.3
    return truth, shares / shares.sum(1, keepdims=True)


def test_one_label_a_text(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, shares = case
    chosen = shares.argmax(1)
    found = score_labels(LABELS, [(LABELS[i],) for i in truth], shares, draws=0)
    values = {name: each.value for name, each in found.values.items()}
    precision, recall, f1, _ = reference.precision_recall_fscore_support(truth, chosen, average="macro")
    assert values["accuracy"] == reference.accuracy_score(truth, chosen)
    assert (values["precision_macro"], values["recall_macro"], values["f1_macro"]) == pytest.approx(
        (precision, recall, f1)
    )
    assert values["auroc"] == pytest.approx(reference.roc_auc_score(truth, shares, multi_class="ovr"))
    assert np.array_equal(found.confusion, reference.confusion_matrix(truth, chosen))


def test_several_labels_a_text(case: tuple[np.ndarray, np.ndarray]) -> None:
    _, shares = case
    truth = np.random.default_rng(0).random((200, 3)) < shares + 0.1
    found = score_sets(LABELS, [[LABELS[i] for i in np.flatnonzero(row)] for row in truth], shares, draws=0)
    for name in ("micro", "macro"):
        theirs = reference.f1_score(truth, shares > 0.5, average=name, zero_division=0)
        assert found.values[f"f1_{name}"].value == pytest.approx(theirs)
    assert found.values["exact_accuracy"].value == pytest.approx(reference.accuracy_score(truth, shares > 0.5))
    assert found.values["auroc"].value == pytest.approx(reference.roc_auc_score(truth, shares, average="macro"))


def test_a_label_that_training_did_not_have_counts_as_wrong() -> None:
    found = score_labels(("a", "b"), [("a",), ("z",)], np.array([[0.9, 0.1], [0.9, 0.1]]), draws=0)
    assert found.values["accuracy"].value == 0.5
    assert found.by_label["z"]["recall"] == 0 and found.by_label["a"]["precision"] == 0.5


def test_auroc_with_ties_and_weights() -> None:
    random = np.random.default_rng(1)
    positive, scores = random.random(60) < 0.4, random.integers(0, 6, 60).astype(float)
    weights = random.integers(0, 4, 60)
    assert auroc(positive, scores) == pytest.approx(reference.roc_auc_score(positive, scores))
    drawn = np.repeat(np.arange(60), weights)
    assert WeightedAuroc(positive, scores)(weights) == pytest.approx(auroc(positive[drawn], scores[drawn]))
    assert np.isnan(auroc(np.ones(3, bool), np.ones(3)))


def test_calibration() -> None:
    assert calibration_error(np.array([True] * 8 + [False] * 2), np.full(10, 0.8)) == pytest.approx(0)
    assert calibration_error(np.array([True, False]), np.array([1.0, 1.0])) == pytest.approx(0.5)
    assert calibration_error(np.array([True, False]), np.array([0.99, 0.4])) == pytest.approx((0.01 + 0.4) / 2)


def test_micro_and_weights() -> None:
    truth, chosen = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    counts = Counts.of_confusion(confusion_of(truth, chosen, 4))
    assert counts.micro_f1() == 0.5
    assert counts.macro(counts.f1) == pytest.approx(np.mean([2 / 3, 0.5, 0]))  # the fourth label is nowhere
    weights = np.array([2.0, 0, 1, 3])
    drawn = np.repeat(np.arange(4), weights.astype(int))
    assert np.array_equal(confusion_of(truth, chosen, 4, weights), confusion_of(truth[drawn], chosen[drawn], 4))


def test_intervals_hold_the_value_and_agree() -> None:
    right = np.arange(300) < 240
    low, high = resampled(300, lambda weights: float(weights @ right / weights.sum()))
    wilson = share_interval(240, 300)
    assert low < 0.8 < high
    assert (low, high) == pytest.approx(tuple(wilson), abs=0.015)
    assert np.isnan(resampled(300, lambda weights: 1.0, draws=0).low)

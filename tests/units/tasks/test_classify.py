"""Texts outside of the labels, rare labels, texts in windows; rows of like length together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yuyan.corpus.by_length import ByLength
from yuyan.tasks import Classify
from yuyan.tasks.classify import ClassifyTask, Verdict
from yuyan.tasks.labelled_text import Labelled
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig

RECORDS = [Labelled(f"abc{i}", ("a" if i % 5 else "b",), f"x:{i}") for i in range(20)] + [
    Labelled("zzz", ("oos",), "x:20")
]


def built(length: int | None = None, **keys: object) -> ClassifyTask:
    config = Classify(several=False, **keys).with_labels(RECORDS)  # type: ignore[arg-type]
    return config.build(train_tokenizer([record.text for record in RECORDS], CharConfig()), length)


def test_texts_outside_are_not_learned_but_told_apart() -> None:
    task = built(outside="oos")
    assert task.labels == ("a", "b") and len(task.items(RECORDS).items) == 20
    answers = [Verdict((r.labels[0],), {"a": 0.9, "b": 0.1}, 0.1, False) for r in RECORDS[:-1]]
    answers.append(Verdict(("a",), {"a": 0.5, "b": 0.5}, 0.5, False))
    assert task.scores(answers, RECORDS, draws=0).values["outside_auroc"].value == 1.0
    settled = task.settled(answers, RECORDS)
    assert settled.threshold == 0.5
    verdict = settled.build(task.tokenizer, None)._verdict(np.array([0.5, 0.5]), 0.5)
    assert verdict.labels == ("oos",)


def test_rare_labels_come_as_often_or_count_more() -> None:
    task = built(outside="oos", balance="sampling")
    pieces = task.items(RECORDS)
    drawn = task.drawn(pieces)
    assert drawn is not None
    assert np.bincount([int(pieces.items[i]["labels"]) for i in drawn]).tolist() == [16, 16]
    weights = built(outside="oos", balance="weights")._weights(torch.zeros(1))
    assert weights.tolist() == pytest.approx([20 / 32, 20 / 8])


def test_windows_cover_a_long_text_and_truncation_is_asked_for() -> None:
    long = [Labelled("abcdefghij", ("a",), "x:1")]
    task = built(6, outside="oos", too_long="window")
    pieces = task.items(long)
    assert pieces.too_long == 1 and pieces.owners == [0, 0, 0]
    assert all(len(item["input_ids"]) == 6 for item in pieces.items)
    assert len(built(6, outside="oos", too_long="truncate").items(long).items) == 1
    with pytest.raises(ValueError, match=r"x:1: 12 tokens, and the model reads 6; 1 of 1 records are too long"):
        built(6, outside="oos").items(long)


@pytest.mark.parametrize("count", [1, 7, 64, 300])
def test_rows_of_like_length_come_together_each_once_an_epoch(count: int) -> None:
    sizes = np.random.default_rng(0).integers(1, 90, count).tolist()
    rows, again = (ByLength(list(range(count)), sizes, 8, 90, seed=3) for _ in range(2))
    for epoch in range(4):
        order = rows.order(epoch)
        assert sorted(order.tolist()) == list(range(count))
        assert rows.rows(epoch, np.arange(count)) == again.rows(epoch, np.arange(count)) == order.tolist()
    if count == 300:
        batches = [rows.order(0)[start : start + 8] for start in range(0, count, 8)]
        assert sum(max(sizes[i] for i in batch) * len(batch) for batch in batches) < 1.1 * sum(sizes)
        assert rows.order(0).tolist() != rows.order(1).tolist()

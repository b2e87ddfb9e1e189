"""The label of a token is the token after it."""

from __future__ import annotations

import numpy as np

from yuyan.objectives import NextToken


def test_labels_are_one_to_the_right() -> None:
    row = np.arange(10, 21)
    example = NextToken().example(row, np.random.default_rng(0))
    assert example["input_ids"].tolist() == list(range(10, 20))
    assert example["labels"].tolist() == list(range(11, 21))

"""Perplexity, bits per byte and the bootstrap against what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yuyan.metrics import bits_per_byte, paired_interval, perplexity, ratio_interval


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    assert perplexity(50 * math.log(64), 50) == pytest.approx(64)


def test_one_bit_for_each_bit() -> None:
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)
    assert math.isnan(bits_per_byte(0.0, 0))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random, hits = np.random.default_rng(0), 0
    for trial in range(200):
        sizes = random.integers(50, 150, 60)
        rates = random.normal(2.0, 0.3, 60)
        low, high = ratio_interval(rates * sizes, sizes, seed=trial, draws=300)
        hits += low <= 2.0 <= high
    assert 180 <= hits <= 199


def test_one_document_has_no_interval() -> None:
    assert math.isnan(ratio_interval(np.array([1.0]), np.array([1])).low)


def test_only_the_same_documents_are_paired() -> None:
    one, other = [(20.0, 10), (10.0, 10), (30.0, 20)], [(21.0, 10), (11.0, 10), (32.0, 20)]
    found = paired_interval(one, other)
    assert found is not None and found.low == pytest.approx(0.1) and found.high == pytest.approx(0.1)
    assert paired_interval(one, other[:2]) is None, "fewer documents"
    assert paired_interval(one, [(21.0, 10), (11.0, 20), (32.0, 10)]) is None, "documents of other lengths"
    assert paired_interval([], []) is None

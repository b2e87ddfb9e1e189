"""Perplexity, bits per byte and the bootstrap against what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yuyan.metrics import bits_per_byte, perplexity, ratio_interval


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

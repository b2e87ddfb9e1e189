"""Brown under the split rule of Bengio et al. 2003: the perplexities of our reference run, to three tenths."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from yuyan.models.ngram import NGram

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))
from brown import Words, read_brown

pytestmark = pytest.mark.slow

VALIDATION = {2: 367.6, 3: 350.3, 4: 348.0, 5: 347.4}
TEST = {2: 348.9, 3: 332.6, 4: 330.4, 5: 329.8}


@pytest.fixture(scope="module")
def brown() -> Words:
    try:
        return read_brown()
    except FileNotFoundError as error:
        pytest.skip(f"no Brown corpus: {error}; set YUYAN_DATA to the folder of data sets")


def fit(brown: Words, order: int) -> NGram:
    starts = np.array([0, len(brown.train)])
    return NGram.fit(brown.train, starts, order=order, vocab_size=len(brown.vocabulary))


def test_perplexities_are_those_of_the_reference(brown: Words) -> None:
    assert [len(part) for part in brown] == [800_000, 200_000, 161_192, 17_905]
    before = np.inf
    for order in range(1, 6):
        model = fit(brown, order)
        validation, test = (float(np.exp(-model.log_probs(ids).mean())) for ids in (brown.validation, brown.test))
        assert test < before
        if order > 1:
            assert (validation, test) == pytest.approx((VALIDATION[order], TEST[order]), abs=0.3)
        before = test


def test_a_thousand_contexts_sum_to_one(brown: Words) -> None:
    model, rng = fit(brown, 5), np.random.default_rng(0)
    places = rng.integers(4, len(brown.test), 600)
    contexts = [brown.train[p - 4 : p] for p in places[:300]]  # seen in training
    contexts += [brown.test[p - 4 : p] for p in places[300:600] % len(brown.test) if p >= 4]  # partly
    contexts += list(rng.integers(0, len(brown.vocabulary), (300, 4)))  # not at all
    contexts += [np.concatenate((np.full(4 - k, -1), rng.integers(0, 50, k))) for k in rng.integers(0, 4, 100)]
    assert len(contexts) == 1000
    for start in range(0, 1000, 100):
        sums = np.exp(model.distributions(np.array(contexts[start : start + 100]))).sum(1)
        np.testing.assert_allclose(sums, 1.0, rtol=0, atol=1e-9)

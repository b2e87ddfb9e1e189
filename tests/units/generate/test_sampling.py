"""The rules of choosing against their definitions, and the distribution that comes out."""

from __future__ import annotations

import pytest
import torch

from yuyan.config import build
from yuyan.errors import ConfigError
from yuyan.generate.sampling import Sampling, choose, distribution, keep_top_k, keep_top_p, with_temperature

SCORES = torch.log(torch.tensor([0.5, 0.05, 0.3, 0.15]))


def allowed(scores: torch.Tensor) -> list[int]:
    return scores.isfinite().nonzero().flatten().tolist()


def test_temperature_sharpens() -> None:
    expected = torch.tensor([0.5, 0.05, 0.3, 0.15]) ** 2
    torch.testing.assert_close(with_temperature(SCORES, 0.5).softmax(0), expected / expected.sum())


def test_no_temperature_is_too_low_to_count_with() -> None:
    low = distribution(SCORES, Sampling(temperature=5e-324))
    assert low.tolist() == distribution(SCORES, Sampling(temperature=0)).tolist()


@pytest.mark.parametrize(("k", "left"), [(1, [0]), (2, [0, 2]), (3, [0, 2, 3]), (99, [0, 1, 2, 3])])
def test_top_k(k: int, left: list[int]) -> None:
    assert allowed(keep_top_k(SCORES, k)) == left


@pytest.mark.parametrize(
    ("p", "left"), [(0.01, [0]), (0.5, [0]), (0.51, [0, 2]), (0.8, [0, 2]), (0.9, [0, 2, 3]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_is_the_smallest_set_that_reaches_p(p: float, left: list[int]) -> None:
    assert allowed(keep_top_p(SCORES[None].double(), p)[0]) == left


def test_greedy_takes_the_likeliest() -> None:
    assert choose(SCORES, Sampling(temperature=0), torch.Generator()) == 0


def test_what_is_drawn_follows_the_distribution() -> None:
    generator, sampling = torch.Generator().manual_seed(1), Sampling(temperature=1.0)
    drawn = torch.tensor([choose(SCORES, sampling, generator) for _ in range(4000)])
    observed = torch.bincount(drawn, minlength=4).double()
    expected = SCORES.double().exp() * 4000
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < 11.34  # p = 0.01 with 3 degrees of freedom


def test_a_forbidden_token_is_never_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {choose(SCORES, Sampling(temperature=1.5, top_k=2), generator) for _ in range(300)}
    assert drawn == {0, 2}


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": 0}, {"max_tokens": 0}, {"presence_penalty": -1e39}],
)
def test_values_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        build(Sampling, settings)

"""Dropout by a hash: the right share, nothing in common between places, draws and threads, and the gradient of what it did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from yuyan.nn import words as sharing
from yuyan.nn.drop import Dropout, dropout


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bfloat16)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_left_out_and_the_others_are_larger(rate: float) -> None:
    torch.manual_seed(0)
    out = dropout(ones(400, 500), rate)
    left = out == 0
    assert float(left.double().mean()) == pytest.approx(rate, abs=0.004)
    scale = torch.tensor(1 / (1 - rate)).bfloat16()
    assert bool((out[~left] == scale).all())


def test_no_row_column_or_neighbour_is_special() -> None:
    torch.manual_seed(1)
    left = (dropout(ones(1000, 1000), 0.2) == 0).double()
    for means in (left.mean(0), left.mean(1)):
        assert float(means.std()) == pytest.approx((0.16 / 1000) ** 0.5, rel=0.1)
    for pair in ((left[:, 1:], left[:, :-1]), (left[1:], left[:-1])):
        assert float((pair[0] * pair[1]).mean()) == pytest.approx(0.04, abs=0.001)


def test_draws_differ_and_are_those_of_the_state_of_the_generator() -> None:
    torch.manual_seed(2)
    state = torch.get_rng_state()
    one, other = dropout(ones(30, 40), 0.5), dropout(ones(30, 40), 0.5)
    assert 0.4 < float(((one == 0) == (other == 0)).double().mean()) < 0.6
    torch.set_rng_state(state)
    assert torch.equal(one, dropout(ones(30, 40), 0.5)) and torch.equal(other, dropout(ones(30, 40), 0.5))


def test_the_gradient_is_that_of_the_mask_also_twice() -> None:
    x = torch.randn(17, 33).bfloat16().requires_grad_()
    out = dropout(x, 0.3)
    given = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, x, given)
    scale = torch.tensor(1 / 0.7)
    expected = torch.where(out == 0, 0.0, given.float() * scale).bfloat16()
    assert torch.equal(gradient, expected) and 0 < int((gradient == 0).sum()) < gradient.numel()
    given.requires_grad_()
    (gradient,) = torch.autograd.grad(dropout(x, 0.3), x, given, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), given)
    assert torch.equal(second == 0, gradient == 0)


def test_the_same_however_many_threads_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, drawn = torch.get_num_threads(), []
    monkeypatch.setattr(sharing, "LEAST_NUMBERS", 16)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        drawn.append(dropout(torch.arange(9 * 11).view(9, 11).bfloat16(), 0.4))
    torch.set_num_threads(before)
    assert torch.equal(*drawn)


def test_what_is_no_number_and_what_is_measured() -> None:
    x = torch.full((50, 50), float("nan")).bfloat16()
    out = dropout(x, 0.5)
    assert 0 < int(out.isnan().sum()) < out.numel(), "what stays is seen"
    module = Dropout(0.5).eval()
    assert module(x) is x and dropout(x, 0.0) is x
    assert Dropout(0.5)(ones(0, 4)).shape == (0, 4)
    assert not torch.equal(dropout(torch.ones(50, 50), 0.5), torch.ones(50, 50)), "float32 is dropped too"

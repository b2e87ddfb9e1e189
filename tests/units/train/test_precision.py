"""Master weights: float32 beside bfloat16, gradients summed in float32, small updates kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from yuyan.train import precision
from yuyan.train.precision import MasterWeights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_all_micro_batches_are_summed(dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 3, bias=False)
    weights = MasterWeights(layer, dtype)
    inputs = [torch.randn(2, 4).to(dtype) for _ in range(3)]
    weights.zero_gradients()
    for x in inputs:
        layer(x).sum().backward()
        weights.take_gradients()
    expected = sum(x.float().sum(0) for x in inputs).expand(3, 4)
    master = weights.masters["weight"]
    assert master.grad is not None and master.grad.dtype == torch.float32
    torch.testing.assert_close(master.grad, expected, atol=0.05 if dtype == torch.bfloat16 else 1e-6, rtol=0.01)


@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_are_measured_and_scaled_in_float32(passes: int) -> None:
    """Those of one pass are kept in bfloat16 until then."""
    layer = nn.Linear(300, 200)
    weights = MasterWeights(layer, torch.bfloat16)
    for _ in range(passes):
        layer(torch.randn(5, 300).bfloat16()).square().sum().backward()
        weights.take_gradients()
    gradients = [p.grad.double() for p in weights.masters.values() if p.grad is not None]
    exact = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    assert weights.gradient_norm() == pytest.approx(exact, rel=1e-5)
    weights.scale_gradients(0.3)
    for master, gradient in zip(weights.masters.values(), gradients, strict=True):
        assert master.grad is not None and master.grad.dtype == torch.float32
        torch.testing.assert_close(master.grad, (gradient * 0.3).float())
    assert weights.gradient_norm() == pytest.approx(0.3 * exact, rel=1e-5)


def test_the_norm_of_rounded_gradients_where_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the sum is float32 there too, so that the norm does not depend on how the batch was cut."""
    layer = nn.Linear(300, 200)
    weights = MasterWeights(layer, torch.bfloat16)
    layer(torch.randn(5, 300).bfloat16()).square().sum().backward()
    weights.take_gradients()
    by_kernels = weights.gradient_norm()
    monkeypatch.setattr(precision, "has_words", lambda tensor: False)
    assert weights.gradient_norm() == pytest.approx(by_kernels, rel=1e-5)


def test_the_norm_of_what_is_no_number_is_none() -> None:
    layer = nn.Linear(3, 2)
    weights = MasterWeights(layer, torch.bfloat16)
    (layer(torch.ones(1, 3).bfloat16()).sum() * float("nan")).backward()
    weights.take_gradients()
    assert math.isnan(weights.gradient_norm())


def test_updates_too_small_for_bfloat16_add_up() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    weights = MasterWeights(layer, torch.bfloat16)
    for _ in range(100):
        with torch.no_grad():
            weights.masters["weight"] += 1e-4  # below half a step of bfloat16 at 1
        weights.publish()
    assert layer.weight.dtype == torch.bfloat16
    assert float(layer.weight) == pytest.approx(1.01, abs=0.004)


def test_tied_weights_stay_tied() -> None:
    one, two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    two.weight = one.weight
    weights = MasterWeights(nn.ModuleList([one, two]), torch.bfloat16)
    assert one.weight is two.weight and len(weights.masters) == 1

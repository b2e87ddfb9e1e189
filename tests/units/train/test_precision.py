"""Master weights: float32 beside bfloat16, gradients summed in float32, small updates kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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

"""The blocked kernel is the fused one: values and gradients, ragged lengths, shared heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from yuyan.nn import attend as module
from yuyan.nn.attend import BlockedCausal, attend


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 300])
def test_blocked_equals_fused(length: int) -> None:
    tensors = [torch.randn(2, 3, length, 16, requires_grad=True) for _ in range(3)]
    upstream = torch.randn(2, 3, length, 16)
    ours = BlockedCausal.apply(*tensors, 0.3)
    fused = F.scaled_dot_product_attention(*tensors, is_causal=True, scale=0.3)
    torch.testing.assert_close(ours, fused, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, tensors, upstream), torch.autograd.grad(fused, tensors, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_bfloat16_training_takes_the_blocked_way_and_stays_close(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (torch.randn(2, n, 100, 16).bfloat16().requires_grad_() for n in (4, 2, 2))
    taken = []
    monkeypatch.setattr(
        module.BlockedCausal, "apply", lambda *a, real=BlockedCausal.apply: (taken.append(1), real(*a))[1]
    )
    ours = attend(query, key, value, None, causal=True, scale=None, dropout=0.0)
    assert taken
    exact = F.scaled_dot_product_attention(*(x.float() for x in (query, key, value)), is_causal=True, enable_gqa=True)
    torch.testing.assert_close(ours.float(), exact, atol=0.03, rtol=0.03)


def test_elsewhere_the_fused_kernel_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.BlockedCausal, "apply", lambda *a: pytest.fail("float32 has a fast fused kernel"))
    query = torch.randn(2, 2, 8, 4, requires_grad=True)
    attend(query, query, query, None, causal=True, scale=None, dropout=0.0)
    with torch.no_grad():
        attend(*(query.bfloat16(),) * 3, None, causal=True, scale=None, dropout=0.0)

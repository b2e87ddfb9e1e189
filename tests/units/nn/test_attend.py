"""The blocked kernel is the fused one: values and gradients, ragged lengths, shared heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from yuyan.nn import attend as module
from yuyan.nn.attend import Blocked, attend, blocks_of, reach_of


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 300])
def test_blocked_equals_fused(length: int) -> None:
    tensors = [torch.randn(2, 3, length, 16, requires_grad=True) for _ in range(3)]
    upstream = torch.randn(2, 3, length, 16)
    ours = Blocked.apply(*tensors, None, blocks_of(length, length, True, None, 64), 0.3)
    fused = F.scaled_dot_product_attention(*tensors, is_causal=True, scale=0.3)
    torch.testing.assert_close(ours, fused, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, tensors, upstream), torch.autograd.grad(fused, tensors, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_bfloat16_training_takes_the_blocked_way_and_stays_close(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (torch.randn(2, n, 100, 16).bfloat16().requires_grad_() for n in (4, 2, 2))
    taken = []
    monkeypatch.setattr(module.Blocked, "apply", lambda *a, real=Blocked.apply: (taken.append(1), real(*a))[1])
    ours = attend(query, key, value, None, causal=True, scale=None, dropout=0.0)
    assert taken
    exact = F.scaled_dot_product_attention(*(x.float() for x in (query, key, value)), is_causal=True, enable_gqa=True)
    torch.testing.assert_close(ours.float(), exact, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("causal", [True, False])
def test_dropout_of_the_probabilities(causal: bool) -> None:
    """With the values of the unit matrix the output is the probabilities; what is left of them decides the gradients."""
    torch.manual_seed(4)
    length, rate = 150, 0.25  # three blocks of a causal mask
    query, key = (torch.randn(2, 3, length, 16).bfloat16().requires_grad_() for _ in range(2))
    value = torch.eye(length).expand(2, 3, -1, -1).bfloat16().requires_grad_()
    state = torch.get_rng_state()
    ours = attend(query, key, value, None, causal=causal, scale=0.3, dropout=rate)
    tensors = [x.detach().double().requires_grad_() for x in (query, key, value)]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1) & causal
    shares = (tensors[0] @ tensors[1].mT * 0.3).masked_fill(hidden, float("-inf")).softmax(-1)
    left = (ours != 0) | (shares.detach() < 1e-6)
    seen = ~hidden.expand_as(left)
    assert float((~left)[seen].double().mean()) == pytest.approx(rate, abs=0.01)
    expected = (shares * left / (1 - rate)) @ tensors[2]
    torch.testing.assert_close(ours.double(), expected, atol=2e-3, rtol=0.02)
    upstream = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, (query, key, value), upstream)
    true = torch.autograd.grad(expected, tensors, upstream.double())
    for a, b in zip(mine, true, strict=True):
        assert float((a.double() - b).norm() / b.norm()) < 0.02
    again = attend(query, key, value, None, causal=causal, scale=0.3, dropout=rate)
    assert not torch.equal(ours, again), "each call draws anew"
    torch.set_rng_state(state)
    assert torch.equal(ours, attend(query, key, value, None, causal=causal, scale=0.3, dropout=rate))
    blocks = left[0, 0, :64, :64], left[0, 0, 64:128, :64]
    assert not causal or not torch.equal(*blocks), "and each block"


def masks(rows: int, heads: int, queries: int, keys: int) -> dict[str, torch.Tensor]:
    padding = torch.ones(rows, 1, 1, keys, dtype=torch.bool)
    padding[0, ..., keys // 2 :] = False
    return {
        "padding": padding,
        "pairs": torch.rand(rows, 1, queries, keys) > 0.3,
        "window": ((torch.arange(queries)[:, None] - torch.arange(keys)).abs() < 5).expand(rows, 1, -1, -1),
        "bias": torch.randn(1, heads, queries, keys),
        "bias of each row": torch.randn(rows, heads, queries, keys),
        "slope": torch.randn(1, heads, 1, keys),
    }


@pytest.mark.parametrize("scale", [0.3, 0.25, 1.0])
@pytest.mark.parametrize("name", ["padding", "pairs", "window", "bias", "bias of each row", "slope"])
@pytest.mark.parametrize(("queries", "keys"), [(40, 40), (150, 70), (1, 9), (300, 300)])
def test_blocked_with_a_mask(name: str, queries: int, keys: int, scale: float) -> None:
    mask = masks(2, 3, queries, keys)[name]
    reach = reach_of(mask) if mask.dtype == torch.bool else None
    if name == "window":
        mask = mask | ~mask.any(-1, keepdim=True)  # queries beyond the keys
    mask = mask if mask.dtype == torch.bool else mask.requires_grad_()
    tensors = [torch.randn(2, 3, n, 16, requires_grad=True) for n in (queries, keys, keys)]
    inputs = [*tensors, *([mask] if mask.requires_grad else [])]
    ours = Blocked.apply(*tensors, mask, blocks_of(queries, keys, False, reach, 64), scale)
    plain = F.scaled_dot_product_attention(*tensors, attn_mask=mask, scale=scale)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(plain, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-4)


def test_bfloat16_without_gradients_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Blocked, "apply", lambda *a: pytest.fail("there is nothing to differentiate"))
    query = torch.randn(2, 4, 100, 16).bfloat16()
    with torch.no_grad():
        ours = attend(query, query, query, None, causal=True, scale=None, dropout=0.0)
    exact = F.scaled_dot_product_attention(*(query.float(),) * 3, is_causal=True)
    torch.testing.assert_close(ours.float(), exact, atol=0.03, rtol=0.03)


def test_elsewhere_the_fused_kernel_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_forward", lambda *a: pytest.fail("float32 has a fast fused kernel"))
    query = torch.randn(2, 2, 8, 4, requires_grad=True)
    attend(query, query, query, None, causal=True, scale=None, dropout=0.0)
    long = torch.randn(1, 1, 2049, 4).bfloat16().requires_grad_()
    attend(long, long, long, None, causal=True, scale=None, dropout=0.0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_the_softmax_of_words(causal: bool, scale: float) -> None:
    """Rounded once, zero where nothing is seen; a row of nothing is no number, as PyTorch has it."""
    scores = (torch.randn(5, 7, 19) * 4).bfloat16()
    scores[1, 2, 3] = float("-inf")
    exact = module._softmax(scores.double(), scale, causal)
    ours = module._softmax(scores.clone(), scale, causal)
    torch.testing.assert_close(ours.double(), exact, atol=1e-9, rtol=2**-8)
    assert torch.equal(ours == 0, exact == 0)
    assert module._softmax(torch.full((1, 1, 3), float("-inf")).bfloat16(), 1.0, False).isnan().all()


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_the_gradient_of_the_softmax_of_words(scale: float) -> None:
    """Rounded once."""
    weights, given = torch.randn(5, 7, 19).softmax(-1).bfloat16(), torch.randn(5, 7, 19).bfloat16()
    weights[2, :, 12:] = 0  # nothing is seen there
    exact = module._softmax_gradient(given.double(), weights.double(), scale)
    ours = module._softmax_gradient(given.clone(), weights, scale)
    torch.testing.assert_close(ours.double(), exact, atol=1e-7, rtol=2**-8)
    assert not ours[2, :, 12:].any()


@pytest.mark.parametrize(("causal", "blocks"), [(True, 5), (False, 1)])
def test_a_block_is_whole_where_nothing_is_left_out(causal: bool, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, taken = torch.randn(1, 1, 300, 8).bfloat16(), []
    monkeypatch.setattr(module, "_softmax", lambda *a, real=module._softmax: (taken.append(1), real(*a))[1])
    monkeypatch.setattr(module, "block_size", lambda length: 64)
    attend(query, query, query, None, causal=causal, scale=None, dropout=0.0)
    assert len(taken) == blocks

"""The chunked loss is the plain one: values, gradients, weights a token, ignored labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from yuyan.nn import linear_cross_entropy as module
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy, linear_cross_entropy, naive_linear_cross_entropy


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 17 * 40)


def tensors(bias: bool, dtype: torch.dtype = torch.float32) -> list[torch.Tensor | None]:
    parts = [torch.randn(57, 12), torch.randn(40, 12), torch.randn(40) if bias else None]
    return [None if t is None else t.to(dtype).requires_grad_() for t in parts]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weighting", ["sum", "mean", "unequal"])
def test_equals_the_plain_loss(bias: bool, weighting: str) -> None:
    hidden, weight, offset = tensors(bias)
    labels = torch.randint(0, 40, (57,))
    labels[::5] = IGNORE
    scale = {"sum": torch.ones(57), "mean": torch.full((57,), 1 / 57), "unequal": torch.rand(57)}[weighting]
    results = []
    for function in (linear_cross_entropy, naive_linear_cross_entropy):
        loss = function(hidden, weight, offset, labels)
        inputs = [t for t in (hidden, weight, offset) if t is not None]
        results.append((loss, torch.autograd.grad((loss * scale).sum(), inputs)))
    (ours, ours_gradients), (plain, plain_gradients) = results
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(ours_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (ours[::5] == 0).all()


TRAINED = [CrossEntropy(label_smoothing=0.1), CrossEntropy(z_loss=0.01), CrossEntropy(label_smoothing=0.3, z_loss=0.02)]


@pytest.mark.parametrize("trained", TRAINED, ids=["smoothing", "z", "both"])
@pytest.mark.parametrize("function", [linear_cross_entropy, naive_linear_cross_entropy])
@pytest.mark.parametrize("weighting", ["sum", "unequal"])
def test_what_is_added_is_in_the_gradient_alone(trained: CrossEntropy, function: Any, weighting: str) -> None:
    """(1 - e) nll + e mean over the vocabulary of -log p + z log(sum exp scores)^2, in float64; the value is the nll."""
    hidden, weight, offset = tensors(True)
    labels = torch.randint(0, 40, (57,))
    labels[::5] = IGNORE
    scale = torch.ones(57) if weighting == "sum" else torch.rand(57)
    value = function(hidden, weight, offset, labels, trained)
    ours = torch.autograd.grad((value * scale).sum(), [hidden, weight, offset])
    torch.testing.assert_close(value, naive_linear_cross_entropy(hidden, weight, offset, labels, PLAIN))
    exact = [t.detach().double().requires_grad_() for t in (hidden, weight, offset)]
    scores = exact[0] @ exact[1].T + exact[2]
    log_p = scores - scores.exp().sum(1, keepdim=True).log()
    nll = -log_p[torch.arange(57), labels.clamp(min=0)]
    e, z = trained.label_smoothing, trained.z_loss
    whole = (1 - e) * nll + e * -log_p.mean(1) + z * scores.exp().sum(1).log() ** 2
    wanted = torch.autograd.grad((whole * scale * (labels != IGNORE)).sum(), exact)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, atol=2e-5, rtol=1e-4)


def test_the_formula_written_out() -> None:
    hidden, weight, offset = tensors(True)
    labels = torch.randint(0, 40, (57,))
    scores = (hidden.double() @ weight.double().T + offset.double()).tolist()
    import math

    expected = [
        -(row[y] - math.log(sum(math.exp(s) for s in row))) for row, y in zip(scores, labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        linear_cross_entropy(hidden, weight, offset, labels).double(),
        torch.tensor(expected).double(),
        atol=1e-5,
        rtol=1e-5,
    )


def test_bfloat16_inputs_keep_a_float32_loss() -> None:
    hidden, weight, _ = tensors(False, torch.bfloat16)
    labels = torch.randint(0, 40, (57,))
    loss = linear_cross_entropy(hidden, weight, None, labels)
    assert loss.dtype == torch.float32
    exact = naive_linear_cross_entropy(hidden.float(), weight.float(), None, labels)
    torch.testing.assert_close(loss, exact, atol=0.05, rtol=0.02)
    loss.sum().backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.bfloat16


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring costs one product, though weights could have gradients."""
    (hidden, weight, _), labels = tensors(False), torch.randint(0, 40, (57,))
    monkeypatch.setattr(module, "_by_operations", None)  # what makes them
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, None, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, naive_linear_cross_entropy(hidden, weight, None, labels).detach())


def test_a_factor_is_not_rounded() -> None:
    """0.3 in bfloat16 is 0.30078: of a gradient whose numbers are rounded one by one the norm hardly changes."""
    norms = []
    for factor in (1.0, 0.3):
        torch.manual_seed(0)
        hidden, weight, _ = tensors(False, torch.bfloat16)
        (linear_cross_entropy(hidden, weight, None, torch.arange(57) % 40) * factor).sum().backward()
        norms.append(float(weight.grad.float().norm()))
    assert norms[1] == pytest.approx(0.3 * norms[0], rel=5e-4)


def test_all_labels_ignored() -> None:
    hidden, weight, _ = tensors(False)
    loss = linear_cross_entropy(hidden, weight, None, torch.full((57,), IGNORE))
    loss.sum().backward()
    assert loss.abs().sum() == 0 and hidden.grad.abs().sum() == 0


@pytest.mark.parametrize("trained", [PLAIN, *TRAINED], ids=["plain", "smoothing", "z", "both"])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_pass_in_bfloat16_equals_the_operations(
    trained: CrossEntropy, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same rounded scores: losses to 1e-5, gradients to their rounding, rows that are ignored, weights of tokens."""
    monkeypatch.setattr("yuyan.nn.words.LEAST_NUMBERS", 1)
    scores, labels, factor = torch.randn(31, 40).bfloat16() * 3, torch.randint(0, 40, (31,)), torch.rand(31)
    scores[3, 5], scores[4] = 80.0, -90.0
    labels[::4] = IGNORE
    factor[::4] = 0
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for function in (module._by_operations, module._in_one_pass):
        loss, d_bias = torch.full((31,), -1.0), torch.ones(40)
        found.append((loss, d_bias, function(scores.clone(), labels, factor, trained, loss, d_bias)))
    torch.set_num_threads(before)
    (plain, plain_bias, plain_scores), (ours, bias, d_scores) = found
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias, plain_bias, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(d_scores, plain_scores, atol=1e-6, rtol=2**-7)
    assert (ours[::4] == 0).all() and (d_scores[::4] == 0).all()
    scores[1, 7] = float("nan")
    module._in_one_pass(scores, labels, None, trained, ours, None)
    assert ours[1].isnan() and ours[2:].isfinite().all()


def test_bfloat16_takes_the_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, _ = tensors(False, torch.bfloat16)
    monkeypatch.setattr(module, "_by_operations", lambda *a: pytest.fail("not for this"))
    linear_cross_entropy(hidden, weight, None, torch.randint(0, 40, (57,))).sum().backward()


@pytest.mark.parametrize("rows", [7, 40, 100])
def test_the_gradient_of_the_table_in_parts(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16, some words of the vocabulary at a time: equal to the whole product, summed in float32."""
    monkeypatch.setattr(module, "ROWS", rows)
    pairs = [(torch.randn(16, 40).bfloat16(), torch.randn(16, 8).bfloat16()) for _ in range(3)]
    total = None
    for left, right in pairs:
        total = module._added(total, left, right)
    assert total is not None and total.dtype == torch.float32
    exact = sum(left.double().t() @ right.double() for left, right in pairs)
    torch.testing.assert_close(total.double(), exact, atol=0.1, rtol=2**-8)
    assert module._added(None, *pairs[0]).dtype == torch.bfloat16

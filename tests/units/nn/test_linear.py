"""The product through oneDNN is PyTorch's own: values, gradients, fused activations, and what must not take that way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from yuyan.nn import linear as module
from yuyan.nn.ffn import ACTIVATIONS, FUSED, Mlp
from yuyan.nn.linear import Linear, Packed, linear

needs_onednn = pytest.mark.skipif(not module.AVAILABLE, reason="this processor has no fast way")


def tensors(bias: bool = True) -> list[Tensor]:
    """Large enough for the fast way."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 32, 96), (400, 96), *([(400,)] if bias else [])]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, taken = tensors(bias), []
    real = module._onednn
    monkeypatch.setattr(module, "_onednn", lambda *a: (taken.append(1), real(*a))[1])
    exact = [t.detach().double().requires_grad_() for t in inputs]
    ours, plain = linear(*inputs), F.linear(*exact)
    torch.testing.assert_close(ours.double(), plain, atol=1e-4, rtol=1e-5)
    weight = torch.linspace(-1, 1, ours.numel()).view(ours.shape)
    found = torch.autograd.grad((ours * weight).sum(), inputs)
    for a, b in zip(found, torch.autograd.grad((plain * weight).sum(), exact), strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-4)
    assert len(taken) == 3


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_is_rounded_once(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [t.detach().bfloat16().requires_grad_() for t in tensors(bias)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    weight = torch.randn(2, 32, 400).bfloat16()
    ours, plain = linear(*inputs), F.linear(*exact)
    monkeypatch.setattr(F, "linear", None)
    linear(*inputs)  # not by PyTorch's way
    torch.testing.assert_close(ours.double(), plain, atol=1e-3, rtol=2**-8)
    found = torch.autograd.grad(ours, inputs, weight)
    for a, b in zip(found, torch.autograd.grad(plain, exact, weight.double()), strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.double(), b, atol=1e-2, rtol=2**-7)


@pytest.mark.parametrize("rows", [1, 40])
def test_packed_weights(rows: int) -> None:
    weight, x = torch.randn(400, 96).bfloat16(), torch.randn(rows, 96).bfloat16()
    torch.testing.assert_close(Packed(weight, 32)(x), x @ weight.t(), atol=1e-2, rtol=2**-7)


@needs_onednn
def test_gradients_of_gradients() -> None:
    def second(x: Tensor, weight: Tensor, bias: Tensor, product: object) -> Tensor:
        out = product(x, weight, bias).square().sum()  # type: ignore[operator]
        (first,) = torch.autograd.grad(out, x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    inputs = tensors()
    exact = second(*(t.detach().double().requires_grad_() for t in inputs), F.linear)
    ours = second(*inputs, linear).double()
    torch.testing.assert_close(ours, exact, atol=1e-5 * float(exact.abs().max()), rtol=1e-3)


@needs_onednn
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("name", FUSED)
def test_fused_activations(name: str, dtype: torch.dtype, tolerance: float) -> None:
    x, weight, bias = (t.detach().to(dtype) for t in tensors())
    layer = Linear(96, 400).to(dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    activate = ACTIVATIONS[name]  # type: ignore[index]
    exact = activate(F.linear(x.double(), weight.double(), bias.double()))
    with torch.no_grad():
        torch.testing.assert_close(
            layer.activated(x, activate, FUSED[name]).double(),  # type: ignore[index]
            exact, atol=tolerance, rtol=0.01,
        )  # fmt: skip


def test_an_activation_that_is_differentiated_is_not_fused() -> None:
    ffn = Mlp(intermediate_size=400, activation="gelu_tanh").build(96)
    x = tensors()[0]
    ffn(x).sum().backward()
    plain = F.linear(F.gelu(F.linear(x, ffn.up_proj.weight, ffn.up_proj.bias), approximate="tanh"),
                     ffn.down_proj.weight, ffn.down_proj.bias)  # type: ignore[arg-type]  # fmt: skip
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.autograd.grad(plain.sum(), x)[0], atol=1e-4, rtol=1e-4)


def test_elsewhere_the_plain_product_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products, other types, autocast, and gradients of each example at once."""
    monkeypatch.setattr(module, "_onednn", lambda *a: pytest.fail("not for this"))
    x, weight, bias = tensors()
    linear(x[:1, :2], weight, bias)
    linear(x.double(), weight.double(), bias.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    vmap(grad(lambda row: linear(row, weight, bias).sum()))(x)

"""What is written by hand for speed equals PyTorch's own: values, gradients, and what cannot take the fast way."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from yuyan.models.network import Network
from yuyan.nn import kernels
from yuyan.nn import words as words_module
from yuyan.nn.activation import gelu_tanh, silu_times
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Gated
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.rotary import Rotation, plain_rates, rotate, rotation_tables
from yuyan.nn.stack import Stack
from yuyan.nn.words import column_sums, share, words


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 2, out.numel()).view(out.shape).to(out.dtype)
    return torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_root_mean_square(dtype: torch.dtype, tolerance: float) -> None:
    module = RMSNorm(eps=1e-3).build(16).to(dtype)
    with torch.no_grad():
        module.weight.copy_(torch.rand(16) + 0.5)  # type: ignore[union-attr, operator]
    x = (torch.randn(3, 5, 16) * 2).to(dtype).requires_grad_()
    plain = F.rms_norm(x, (16,), module.weight, 1e-3)  # type: ignore[arg-type]
    torch.testing.assert_close(module(x), plain, atol=tolerance, rtol=tolerance)
    inputs = [x, module.weight]
    for ours, theirs in zip(gradients(module(x), inputs), gradients(plain, inputs), strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(ours, theirs, atol=tolerance * float(theirs.abs().max()), rtol=tolerance)


def test_root_mean_square_of_one_row_and_of_strides() -> None:
    module = RMSNorm().build(8)
    x = torch.randn(4, 8, 6).transpose(1, 2)
    torch.testing.assert_close(module(x), F.rms_norm(x, (8,), None, 1e-6))
    torch.testing.assert_close(module(x[0, 0]), F.rms_norm(x[0, 0], (8,), None, 1e-6))
    assert torch.autograd.gradcheck(module.double(), torch.randn(2, 8, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)]
)
def test_turns(dtype: torch.dtype, tolerance: float) -> None:
    cos, sin = rotation_tables(plain_rates(100.0, 8), 1.3, 7, torch.device("cpu"))
    rotation = Rotation(cos[None, None], sin[None, None])
    x = torch.randn(2, 7, 3, 8).transpose(1, 2).to(dtype).requires_grad_()
    first, second = x.chunk(2, -1)
    c, s = (t.to(dtype)[None, None, :, 4:] for t in (cos, sin))
    plain = torch.cat((first * c - second * s, second * c + first * s), -1)
    torch.testing.assert_close(rotate(x, rotation), plain, atol=tolerance, rtol=tolerance)
    ours, theirs = gradients(rotate(x, rotation), [x])[0], gradients(plain, [x])[0]
    torch.testing.assert_close(ours, theirs, atol=3 * tolerance, rtol=tolerance)


def test_gradients_of_each_example_at_once() -> None:
    """vmap over grad, as private training does it, equals one example after another by the fast way."""
    stack = Stack(num_layers=2, heads=Heads(count=2, qk_norm=RMSNorm()), ffn=Gated(intermediate_size=12))
    model = Network(vocab_size=13, hidden_size=8, decoder=stack).build(1)
    parameters, texts = dict(model.named_parameters()), torch.randint(0, 13, (4, 6))

    def loss(parameters: dict[str, Tensor], ids: Tensor) -> Tensor:
        class Loss(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, ids: Tensor) -> Tensor:
                scores = self.model.score(self.model.decode(ids))
                return F.cross_entropy(scores[0, :-1], ids[0, 1:])

        named = {f"model.{key}": value for key, value in parameters.items()}
        result: Tensor = functional_call(Loss(), named, (ids[None],))
        return result

    together = vmap(grad(loss), in_dims=(None, 0))(parameters, texts)
    for row, text in enumerate(texts):
        model.zero_grad()
        F.cross_entropy(model.score(model.decode(text[None]))[0, :-1], text[1:]).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(together[key][row], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("config", [LayerNorm(), LayerNorm(bias=False), RMSNorm(eps=1e-3)], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_norms_in_one_pass(config: LayerNorm | RMSNorm, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients to their rounding, against float64; and that this way is taken."""
    monkeypatch.setattr("yuyan.nn.words.LEAST_NUMBERS", 1)
    module, exact = config.build(48).bfloat16(), config.build(48).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 1.0)
    exact.load_state_dict(module.state_dict())
    x = (torch.randn(3, 5, 48) * 2 + 1).bfloat16().requires_grad_()
    true = x.detach().double().requires_grad_()
    weight, before = torch.randn(3, 5, 48).bfloat16(), torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(F, "layer_norm", (real := F.layer_norm) and None)
    ours = module(x)
    found = [ours, *torch.autograd.grad(ours, [x, *module.parameters()], weight)]
    monkeypatch.setattr(F, "layer_norm", real)
    torch.set_num_threads(before)
    plain = exact(true)
    for mine, other in zip(
        found, [plain, *torch.autograd.grad(plain, [true, *exact.parameters()], weight.double())], strict=True
    ):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.double(), other, atol=1e-5, rtol=2**-8)
    assert module(torch.full((1, 48), float("nan")).bfloat16()).isnan().all()


@pytest.mark.parametrize("threads", [1, 3])
def test_sums_of_columns(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuyan.nn.words.LEAST_NUMBERS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x = torch.randn(100, 7).bfloat16()
    ours = column_sums(x)
    torch.set_num_threads(before)
    torch.testing.assert_close(ours.double(), x.double().sum(0), atol=1e-6, rtol=2**-8)
    assert ours.dtype == x.dtype and column_sums(x.float()).dtype == torch.float32


def test_gelu_in_one_pass() -> None:
    """Rounded once: nearer to the exact values than PyTorch's, and so are the slopes; also of the slope's own slope."""
    x = (torch.randn(70, 2000) * 3).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    plain = F.gelu(exact, approximate="tanh")
    ours = gelu_tanh(x)
    weight = torch.randn(70, 2000).bfloat16()
    for mine, true in (
        (ours, plain),
        (torch.autograd.grad(ours, x, weight)[0], torch.autograd.grad(plain, exact, weight.double())[0]),
    ):
        torch.testing.assert_close(mine.double(), true, atol=1e-6, rtol=2**-8)
        assert (mine != true.bfloat16()).float().mean() < 0.02
    (first,) = torch.autograd.grad(gelu_tanh(x).sum(), x, create_graph=True)
    assert torch.autograd.grad(first.sum(), x)[0].isfinite().all()
    assert gelu_tanh(torch.full((1, 3), float("nan")).bfloat16()).isnan().all()


def test_a_gate_in_one_pass() -> None:
    """Both factors' gradients too: rounded once, as the exact values are; and a gated layer takes this way in training."""
    gate, x = ((torch.randn(70, 2000) * 3).bfloat16().requires_grad_() for _ in range(2))
    exact = [t.detach().double().requires_grad_() for t in (gate, x)]
    plain, ours = F.silu(exact[0]) * exact[1], silu_times(gate, x)
    weight = torch.randn(70, 2000).bfloat16()
    true = (plain, *torch.autograd.grad(plain, exact, weight.double()))
    for mine, each in zip((ours, *torch.autograd.grad(ours, (gate, x), weight)), true, strict=True):
        torch.testing.assert_close(mine.double(), each, atol=1e-6, rtol=2**-8)
        assert (mine != each.bfloat16()).float().mean() < 0.02
    first = torch.autograd.grad(silu_times(gate, x).sum(), (gate, x), create_graph=True)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad((first[0] * first[1]).sum(), (gate, x)))
    assert silu_times(torch.full((1, 3), float("nan")).bfloat16(), torch.ones(1, 3).bfloat16()).isnan().all()


def test_a_gated_layer_is_the_same_with_and_without_gradients() -> None:
    layer = Gated(intermediate_size=48).build(16).bfloat16()
    x = torch.randn(5, 16).bfloat16()
    made = layer(x)
    assert made.grad_fn is not None
    with torch.no_grad():
        torch.testing.assert_close(made, layer(x), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_shared_among_threads(threads: int) -> None:
    """Every row once, in order, and by no more threads than PyTorch computes with."""
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(threads)
        parts = share(50, 1 << 20, lambda first, last: seen.append(threading.get_ident()) or list(range(first, last)))
    finally:
        torch.set_num_threads(before)
    assert [row for part in parts for row in part] == list(range(50)) and len(parts) == len(seen) == threads
    assert share(50, 10, lambda first, last: (first, last)) == [(0, 50)]


def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert share(2, 1 << 20, lambda first, last: first) == [0, 1]
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    here = threading.get_ident()
    names = share(2, 1 << 20, lambda first, last: (first, threading.get_ident() == here, len(threading.enumerate())))
    assert [name[:2] for name in names] == [(0, True), (1, False)]
    assert words_module._threads.cache_info().currsize >= 2


def test_words_are_rounded_to_even() -> None:
    numbers = torch.cat(
        [torch.randn(1000), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, float("inf"), 3.39e38, 1e-40, -0.0])]
    )
    made = np.array([kernels.down(np.float32(x)) for x in numbers.tolist()], np.uint16)
    assert (made == words(numbers.bfloat16())).all()
    assert np.isnan(kernels.up(kernels.down(np.float32("nan"))))
    places = np.linspace(-80, 80, 1001).astype(np.float32)
    found = np.array([kernels.exp(x) for x in places])
    assert np.abs(found / np.exp(places.astype(np.float64)) - 1).max() < 3e-7

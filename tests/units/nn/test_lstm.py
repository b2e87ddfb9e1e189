"""The LSTM layer that is written by hand equals PyTorch's own: outputs, states and gradients, and only where it is meant."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yuyan.models.classic import Lstm
from yuyan.nn import kernels, lstm
from yuyan.nn.layered import Drops, Layers
from yuyan.nn.words import words


def run(cell: nn.LSTM, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    assert lstm.is_faster(cell, x)
    return Layers(cell, Drops(cell.dropout)).run(x, state)


def results(made: tuple[Tensor, tuple[Tensor, ...]], inputs: list[Tensor]) -> list[Tensor]:
    out, state = made
    weights = [torch.linspace(-1, 2, part.numel()).view(part.shape).to(part.dtype) for part in (out, *state)]
    total = sum((part * w).sum() for part, w in zip((out, *state), weights, strict=True))
    assert isinstance(total, Tensor)
    return [out, *state, *torch.autograd.grad(total, inputs)]


def far(ours: Tensor, exact: Tensor) -> float:
    return float((ours.detach().double() - exact.detach()).norm() / exact.detach().norm().clamp(min=1e-9))


@pytest.mark.parametrize("length", [1, 6])
def test_equals_the_kernel(length: int) -> None:
    """No farther from the same numbers in float64 than PyTorch's own layer in bfloat16, or hardly."""
    cell = nn.LSTM(5, 7, 2, batch_first=True).bfloat16()
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.3)
    exact_cell = nn.LSTM(5, 7, 2, batch_first=True).double()
    exact_cell.load_state_dict(cell.state_dict())
    x = torch.randn(3, length, 5).bfloat16().requires_grad_()
    state = tuple(torch.randn(2, 3, 7).bfloat16().requires_grad_() for _ in range(2))
    inputs = [x, *state, *cell.parameters()]
    out, after = cell(x, state)
    theirs = results((out, after), inputs)
    ours = results(run(cell, x, state), inputs)
    exact_inputs = [t.detach().double().requires_grad_() for t in (x, *state)]
    out, after = exact_cell(exact_inputs[0], tuple(exact_inputs[1:]))
    exact = results((out, after), [*exact_inputs, *exact_cell.parameters()])
    for mine, other, true in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == other.dtype and mine.shape == other.shape
        assert far(mine, true) < max(0.008, 1.3 * far(other, true))


def test_one_token_to_the_last_digit() -> None:
    """The loop over a token's gates and the one backwards: float32 results to 1e-6, rounded ones to half a unit."""
    batch, size = 3, 37
    given, state = (torch.randn(batch, 4 * size).bfloat16() for _ in range(2))
    cell, d_out, d_state = torch.randn(batch, size), *(torch.randn(batch, size).bfloat16() for _ in range(2))
    d_cell, keep = torch.randn(batch, size), torch.tensor([1.0, 0.0, 1.0])
    before = (given.double() + state.double()).requires_grad_()
    first = cell.double().requires_grad_()
    i, f, g, o = before.unflatten(1, (4, size)).unbind(1)
    after = f.sigmoid() * first * keep[:, None] + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * after.tanh()
    total = (hidden * (d_out.double() + d_state.double())).sum() + (after * d_cell).sum()
    d_before, d_first = torch.autograd.grad(total, [before, first])
    gates, cells = torch.zeros(1, batch, 4 * size), torch.stack([cell, torch.zeros(batch, size)])
    outs, made = torch.zeros(2, batch, size).bfloat16(), torch.zeros(1, batch, 4 * size).bfloat16()
    kernels.lstm_forward(
        0, words(given[None]), words(state), keep[None].numpy(), gates.numpy(), cells.numpy(), words(outs)
    )
    torch.testing.assert_close(cells[1].double(), after.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outs[1].double(), hidden.detach(), atol=1e-6, rtol=2**-8)
    d_bias = torch.ones(4 * size)
    kernels.lstm_backward(0, words(d_out[None]), words(d_state), d_cell.numpy(), keep[None].numpy(), gates.numpy(),
                          cells.numpy(), words(made), d_bias.numpy())  # fmt: skip
    torch.testing.assert_close(made[0].double(), d_before, atol=1e-6, rtol=2**-8)
    torch.testing.assert_close(d_cell.double(), d_first, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(d_bias.double(), 1 + d_before.sum(0), atol=1e-5, rtol=1e-5)


def test_what_is_no_number_is_seen() -> None:
    cell = nn.LSTM(4, 4, batch_first=True).bfloat16()
    x = torch.full((1, 3, 4), float("nan")).bfloat16()
    zeros = torch.zeros(1, 1, 4).bfloat16()
    assert run(cell, x, (zeros, zeros))[0].isnan().all()


def test_dropout_between_layers() -> None:
    cell = nn.LSTM(4, 4, 2, batch_first=True, dropout=0.5).bfloat16()
    x, zeros = torch.randn(2, 3, 4).bfloat16(), torch.zeros(2, 2, 4).bfloat16()
    state = (zeros, zeros)
    assert not torch.equal(run(cell, x, state)[0], run(cell, x, state)[0])
    cell.eval()
    torch.testing.assert_close(run(cell, x, state)[0], cell(x)[0], atol=0.01, rtol=0.01)


def test_only_training_in_bfloat16_takes_this_way() -> None:
    cell, x = nn.LSTM(4, 4, batch_first=True), torch.zeros(1, 2, 4)
    assert lstm.is_faster(cell, x.bfloat16())
    assert not lstm.is_faster(cell, x)
    assert not lstm.is_faster(nn.GRU(4, 4), x.bfloat16())
    assert not lstm.is_faster(nn.LSTM(4, 4, bidirectional=True), x.bfloat16())
    with torch.no_grad():
        assert not lstm.is_faster(cell, x.bfloat16())


def test_a_network_takes_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 the loss and its gradients stay near those of float32, by this way and not by the kernel."""
    network = Lstm(hidden_size=16, num_layers=2).network(20).build(seed=0)
    ids = torch.randint(0, 20, (2, 9))
    exact = [*torch.autograd.grad(network.score(network.decode(ids)).square().sum(), list(network.parameters()))]
    network.bfloat16()
    monkeypatch.setattr(nn.LSTM, "forward", None)
    rounded = torch.autograd.grad(network.score(network.decode(ids)).square().sum(), list(network.parameters()))
    for mine, theirs in zip(rounded, exact, strict=True):
        assert float((mine - theirs).norm()) < 0.03 * float(theirs.norm())

"""The LSTM layer that is written by hand equals PyTorch's own: outputs, states and gradients, and only where it is meant."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yuyan.models.classic import Lstm
from yuyan.nn import lstm
from yuyan.nn.lstm import LstmState


def results(made: tuple[Tensor, LstmState], inputs: list[Tensor]) -> list[Tensor]:
    out, state = made
    weights = [torch.linspace(-1, 2, part.numel()).view(part.shape).to(part.dtype) for part in (out, *state)]
    total = sum((part * w).sum() for part, w in zip((out, *state), weights, strict=True))
    assert isinstance(total, Tensor)
    return [out, *state, *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
@pytest.mark.parametrize("length", [1, 6])
def test_equals_the_kernel(dtype: torch.dtype, tolerance: float, length: int) -> None:
    cell = nn.LSTM(5, 7, 2, batch_first=True).to(dtype)
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, length, 5).to(dtype).requires_grad_()
    state = LstmState(*(torch.randn(2, 3, 7).to(dtype).requires_grad_() for _ in range(2)))
    inputs = [x, *state, *cell.parameters()]
    out, after = cell(x, tuple(state))
    ours = results(lstm.run(cell, x, state), inputs)
    for mine, theirs in zip(ours, results((out, LstmState(*after)), inputs), strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, atol=tolerance * max(1.0, float(theirs.abs().max())), rtol=tolerance)


def test_dropout_between_layers() -> None:
    cell = nn.LSTM(4, 4, 2, batch_first=True, dropout=0.5)
    x, state = torch.randn(2, 3, 4), LstmState(torch.zeros(2, 2, 4), torch.zeros(2, 2, 4))
    assert not torch.equal(lstm.run(cell, x, state)[0], lstm.run(cell, x, state)[0])
    cell.eval()
    torch.testing.assert_close(lstm.run(cell, x, state)[0], cell(x)[0])


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

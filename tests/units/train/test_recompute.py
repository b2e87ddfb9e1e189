"""Blocks that are computed again: the same loss and gradients, less memory kept; and the choice of the micro-batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from yuyan.models.presets import Gpt
from yuyan.objectives import Batch, NextToken
from yuyan.train import Learner, micro
from yuyan.train.recompute import recompute_blocks


def batch(rows: int = 3) -> Batch:
    ids = torch.randint(0, 50, (rows, 17), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}


def learned(learner: Learner) -> tuple[Tensor, dict[str, Tensor], int]:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = learner(batch()).total.sum()
    before = sum(kept.values())
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}, before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_same_loss_and_gradients_with_less_kept(dtype: torch.dtype, dropout: float) -> None:
    model = Gpt(hidden_size=32, num_layers=4, num_heads=2, dropout=dropout).build(50, seed=0)
    plain = Learner(model.to(dtype), NextToken()).train()
    again = copy.deepcopy(plain)
    assert recompute_blocks(again) == 4
    assert again.state_dict().keys() == plain.state_dict().keys()
    loss, gradients, kept = learned(plain)
    other, others, less = learned(again)
    assert torch.equal(loss, other)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert less < 0.6 * kept


def test_sizes_halve_down_to_what_fits() -> None:
    assert micro.sizes(12) == [12, 6, 3, 2, 1]
    assert micro.sizes(16, most=5) == [4, 2, 1]
    assert micro.sizes(3, most=0) == [1]


def test_the_fastest_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {8: 8.0, 4: 3.0, 2: 1.52, 1: 1.0}
    monkeypatch.setattr(micro, "median_seconds", lambda learner, batch: spent[len(batch["labels"])])
    learner = Learner(Gpt(hidden_size=8, num_layers=1, num_heads=1).build(50, seed=0), NextToken())
    chosen, seconds = micro.fastest_rows(learner, batch, [8, 4, 2, 1])
    assert chosen == 2  # within three per cent of 4, and smaller
    assert seconds == {8: 1.0, 4: 0.75, 2: 0.76, 1: 1.0}


def test_measuring_leaves_no_trace() -> None:
    learner = Learner(Gpt(hidden_size=8, num_layers=1, num_heads=1, dropout=0.2).build(50, seed=0), NextToken())
    weights, state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    micro.fastest_rows(learner, batch, [2, 1])
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in learner.parameters())
    assert all(torch.equal(weights[name], value) for name, value in learner.state_dict().items())

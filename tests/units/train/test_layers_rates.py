"""Rates that fall from block to block, and blocks that are trained one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yuyan.models.presets import Bert
from yuyan.models.surgery import give_labels
from yuyan.nn.head import LabelHead
from yuyan.tasks import Classify
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig
from yuyan.train import AdamW, Learner, MasterWeights, PlainStep, Plan, State, parameter_kinds
from yuyan.train.optimizer.groups import Rates
from yuyan.train.schedule import Constant

LAYERS = 3


def learner() -> Learner:
    tokenizer = train_tokenizer(["abc"], CharConfig())
    network = Bert(hidden_size=8, num_layers=LAYERS, num_heads=2, dropout=0.0).build(len(tokenizer), 0)
    give_labels(network, LabelHead(labels=("a", "b")), 0)
    return Learner(network, Classify(labels=("a", "b")).build(tokenizer, None))


def state_of(rates: Rates) -> State:
    made = learner()
    weights = MasterWeights(made, torch.float32)
    optimizer = AdamW(lr=1e-2, weight_decay=0.5, rates=rates).build(weights.masters, parameter_kinds(made))
    return State(made, weights, optimizer, batches=None)  # type: ignore[arg-type]


def rate_of(state: State, name: str) -> float:
    master = state.weights.masters[name]
    return next(g["lr"] for g in state.optimizer.param_groups if any(p is master for p in g["params"]))


def test_each_block_learns_more_slowly_than_the_one_above() -> None:
    state = state_of(Rates(layer_decay=0.5))
    names = list(state.weights.masters)
    assert rate_of(state, "model.head.output.weight") == 1e-2
    for layer in range(LAYERS):
        inside = [name for name in names if f"encoder.layers.{layer}." in name]
        assert {rate_of(state, name) for name in inside} == {1e-2 * 0.5 ** (LAYERS - 1 - layer)}
    low = [name for name in names if name.startswith("model.embedding.") or "encoder.position" in name]
    assert len(low) > 3 and {rate_of(state, name) for name in low} == {1e-2 * 0.5**LAYERS}


def test_without_them_there_are_no_more_groups_than_kinds() -> None:
    assert len(state_of(Rates()).optimizer.param_groups) == 4


@pytest.mark.parametrize("step", [0, 25, 45, 70])
def test_blocks_are_trained_one_after_the_other(step: int) -> None:
    """With 100 steps and 0.8 the last block begins at 20, the next at 40 and 60, the embedding at 80."""
    state = state_of(Rates(unfreeze=0.8))
    before = {name: master.detach().clone() for name, master in state.weights.masters.items()}
    state.step = step
    take = PlainStep(Plan(steps=100), Constant(warmup=0.0))
    take.start_clock()
    batch = {"input_ids": torch.from_numpy(np.array([[0, 1, 2], [2, 1, 0]])), "labels": torch.tensor([0, 1])}
    take(state, [batch])
    moved = {name for name, master in state.weights.masters.items() if not torch.equal(before[name], master)}
    for layer in range(LAYERS):
        assert any(f"layers.{layer}." in name for name in moved) == (step >= 20 * (LAYERS - layer))
    assert "model.head.output.weight" in moved and not any("embedding" in name for name in moved)

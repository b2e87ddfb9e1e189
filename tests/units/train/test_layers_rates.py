"""Rates that fall from block to block, and blocks that are trained one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yuyan.models.network import Network
from yuyan.models.presets import Bert
from yuyan.models.surgery import give_labels
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Gated
from yuyan.nn.head import LabelHead
from yuyan.nn.norm import RMSNorm
from yuyan.nn.stack import Stack
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
    give_labels(network, LabelHead(labels=("a", "b"), activation="tanh"), 0)
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
    head = {name for name in before if name.startswith("model.head.")}
    assert len(head) > 3 and head <= moved and not any("embedding" in name for name in moved)


def test_queries_of_an_attention_without_a_scale_learn_as_if_it_had_one() -> None:
    """T5's scores are q k, others' q k / sqrt(K): the same network, and after the same AdamW steps still the same."""
    torch.manual_seed(4)
    plain = Stack(num_layers=1, heads=Heads(count=2, head_size=16), norm=RMSNorm(), ffn=Gated(intermediate_size=16))
    bare = plain.model_copy(update={"heads": Heads(count=2, head_size=16, scale=1.0)})
    one, other = (Network(vocab_size=20, hidden_size=32, decoder=stack).build(0) for stack in (plain, bare))
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(one.state_dict()[name] * (0.25 if "q_proj" in name else 1.0))
    ids = torch.randint(0, 20, (4, 9))
    for model in (one, other):
        optimizer = AdamW(lr=3e-3, weight_decay=0.3, eps=1e-12).build(
            dict(model.named_parameters()), parameter_kinds(model)
        )
        for _ in range(8):
            optimizer.zero_grad()
            model.token_losses(model.decode(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).sum().backward()
            optimizer.step()
    torch.testing.assert_close(other.decode(ids), one.decode(ids), rtol=1e-3, atol=1e-4)
    moved = one.state_dict()["decoder.layers.0.attention.inner.q_proj.weight"]
    torch.testing.assert_close(
        other.state_dict()["decoder.layers.0.attention.inner.q_proj.weight"], moved / 4, rtol=1e-3, atol=1e-5
    )

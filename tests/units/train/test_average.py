"""The average of the weights and the penalties on them, against their formulas; and that a look changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from test_step import batch, toy, values

from yuyan.train import (
    AdamW,
    Average,
    Constant,
    Ema,
    MasterWeights,
    Penalty,
    PlainStep,
    Plan,
    Polynomial,
    Sgd,
    parameter_kinds,
)


def test_it_is_the_formula_and_skips_what_the_step_skips() -> None:
    state = toy(AdamW(lr=0.1))
    config = Ema(decay=0.5)
    state.average = Average(config, state.weights.masters)
    expected, updates = values(state), 0
    step = PlainStep(Plan(steps=10), Constant(warmup=0))
    for weight in (1.0, math.nan, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0):
        update = step(state, [batch(weight)])
        if not update.skipped:
            updates += 1
            d = min(0.5, (1 + updates) / (10 + updates))
            expected = {name: d * old + (1 - d) * values(state)[name] for name, old in expected.items()}
    assert updates == 9 and config.at(1) < config.at(9) == 0.5
    for name, value in expected.items():
        torch.testing.assert_close(state.average.tensors[f"model.{name}"], value)


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_a_polynomial_average_weighs_the_updates_as_the_formula_says(power: float) -> None:
    """Shamir & Zhang 2013: weights of update u count in proportion to (u + power - 1)! / (u - 1)!, for power 0 alike."""
    state = toy(AdamW(lr=0.1))
    state.average = Average(Polynomial(power=power), state.weights.masters)
    step, seen = PlainStep(Plan(steps=6), Constant(warmup=0)), []
    for weight in (1.0, 2.0, 0.5, 1.0, 3.0, 1.0):
        step(state, [batch(weight)])
        seen.append({name: value.clone() for name, value in values(state).items()})
    shares = [math.gamma(u + power) / math.gamma(u) for u in range(1, 7)]
    for name in seen[0]:
        expected = sum(share * each[name] for share, each in zip(shares, seen, strict=True)) / sum(shares)
        torch.testing.assert_close(state.average.tensors[f"model.{name}"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_shown_and_exported_is_the_average_and_training_goes_on_from_the_weights(dtype: torch.dtype) -> None:
    state = toy(AdamW(lr=0.1))
    state.weights = MasterWeights(state.learner, dtype)
    working = dict(state.learner.named_parameters())
    before = {name: p.detach().clone() for name, p in working.items()}
    with state.shown():
        assert all(torch.equal(before[name], p) for name, p in working.items()), "without an average, the weights"
    state.average = Average(Ema(), {name: p + 1 for name, p in state.weights.masters.items()})
    with pytest.raises(KeyError), state.shown():
        assert all(torch.equal(p, state.average.tensors[name].to(dtype)) for name, p in working.items())
        raise KeyError("even then")
    assert all(torch.equal(before[name], p) for name, p in working.items())
    assert state.exported() is state.average.tensors


@pytest.mark.parametrize("penalty", [Penalty(l1=0.3), Penalty(l2=0.2), Penalty(l1=0.1, l2=0.4)])
def test_a_penalty_moves_matrices_only_and_is_in_no_loss_or_norm(penalty: Penalty) -> None:
    """One step of plain descent at rate 1 is the gradient: of the loss, clipped, and of the penalty, which is not."""
    with_it, without = toy(), toy()
    with_it.learner.load_state_dict(without.learner.state_dict())
    before = values(without)
    updates = []
    for state, each in ((without, None), (with_it, penalty)):
        state.optimizer = Sgd(lr=1.0, momentum=0.0).build(state.weights.masters, parameter_kinds(state.learner))
        updates.append(PlainStep(Plan(steps=1), Constant(warmup=0), clip=0.5, penalty=each)(state, [batch()]))
    assert updates[0]._replace(seconds=0) == updates[1]._replace(seconds=0)
    for name, plain in values(without).items():
        w = before[name]
        moved = penalty.l1 * w.sign() + penalty.l2 * w if name == "out.weight" else torch.zeros_like(w)
        torch.testing.assert_close(values(with_it)[name], plain - moved)

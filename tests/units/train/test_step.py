"""The step: what it skips, when it gives up, how it counts time; and the optimizer it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yuyan.errors import InputError
from yuyan.objectives import Loss
from yuyan.train import (
    CLOCKS,
    AdamW,
    Constant,
    Diverged,
    Learner,
    MasterWeights,
    PlainStep,
    Plan,
    State,
    parameter_kinds,
    train,
)


class Sum:
    """A toy objective: the loss of a row is the sum of what the model makes of it, weighed by `weight`."""

    independent = True

    def example(self, row: Any, random: Any) -> dict[str, Any]:
        return {"input_ids": row}

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Loss:
        return Loss(model(batch["input_ids"]).sum((1, 2)) * batch["weight"], batch["count"])


class Toy(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.norm(self.embed(ids)))  # type: ignore[no-any-return]


def toy(optimizer: AdamW = AdamW()) -> State:
    learner = Learner(Toy(), Sum())  # type: ignore[arg-type]
    weights = MasterWeights(learner, torch.float32)
    return State(learner, weights, optimizer.build(weights.masters, parameter_kinds(learner)), batches=None)  # type: ignore[arg-type]


def batch(weight: float = 1.0, count: int = 3) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[1, 2, 3]]), "weight": torch.tensor([weight]), "count": torch.tensor([count])}


def values(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("model."): p.detach().clone() for name, p in state.weights.masters.items()}


def test_a_gradient_that_is_not_finite_changes_nothing_and_ten_in_a_row_end_the_run() -> None:
    state = toy()
    step = PlainStep(Plan(steps=100), Constant(warmup=0))
    step(state, [batch()])
    before = values(state)
    for number in range(9):
        update = step(state, [batch(), batch(math.nan if number % 2 else math.inf)])
        assert update.skipped and not math.isfinite(update.gradient_norm)
    assert state.skipped == 9 and state.step == 10
    assert all(torch.equal(before[name], after) for name, after in values(state).items())
    assert not step(state, [batch()]).skipped, "one good step, and the count begins anew"
    for _ in range(9):
        step(state, [batch(math.nan)])
    with pytest.raises(
        Diverged, match=r"step 21: 10 losses or gradients in a row were not finite; start a new run with a lower"
    ):
        step(state, [batch(math.nan)])


def test_a_batch_in_which_nothing_is_scored_is_an_error() -> None:
    with pytest.raises(InputError, match="step 1: no token of the batch was scored"):
        PlainStep(Plan(steps=1), Constant())(toy(), [batch(count=0)])


def test_clipping_scales_the_whole_gradient() -> None:
    """With plain gradient descent in the place of Adam, the step is as long as the clip."""
    for clip, length in ((0.5, 0.5), (None, None)):
        state = toy()
        state.optimizer = torch.optim.SGD(state.weights.masters.values(), lr=1.0)
        before = values(state)
        update = PlainStep(Plan(steps=1), Constant(warmup=0), clip=clip)(state, [batch(100.0, 1)])
        moved = torch.sqrt(sum(((before[n] - after) ** 2).sum() for n, after in values(state).items()))  # type: ignore[arg-type]
        assert update.gradient_norm > 10
        assert float(moved) == pytest.approx(length or update.gradient_norm, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clip", [0.5, None])
def test_adam_remembers_the_clipped_mean_of_the_gradients(clip: float | None, dtype: torch.dtype) -> None:
    """Its first mean is a tenth of what it was given, however the factor came to it."""
    learner = Learner(Toy(), Sum())  # type: ignore[arg-type]
    weights = MasterWeights(learner, dtype)
    optimizer = AdamW().build(weights.masters, parameter_kinds(learner))
    state = State(learner, weights, optimizer, batches=None)  # type: ignore[arg-type]
    update = PlainStep(Plan(steps=1), Constant(warmup=0), clip=clip)(state, [batch(100.0, 4)])
    means = [memory["exp_avg"].flatten() for memory in optimizer.state.values()]
    assert update.gradient_norm > 2
    assert 10 * float(torch.cat(means).norm()) == pytest.approx(clip or update.gradient_norm, rel=1e-4)


def test_only_matrices_decay() -> None:
    """Without a gradient nothing but decay moves a weight: w (1 - lr * decay)."""
    state = toy(AdamW(lr=0.1, weight_decay=0.5))
    before = values(state)
    PlainStep(Plan(steps=1), Constant(warmup=0))(state, [batch(0.0)])
    for name, after in values(state).items():
        factor = 0.95 if name == "out.weight" else 1.0
        torch.testing.assert_close(after, before[name] * factor)


def test_adam_is_the_published_formula() -> None:
    """Loshchilov & Hutter 2019, algorithm 2, in float64."""
    settings = AdamW(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1)
    state = toy(settings)
    w = state.weights.masters["model.out.weight"].detach().double()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, 5):
        state.weights.zero_gradients()
        state.learner(batch(t)).total.sum().backward()
        g = state.weights.masters["model.out.weight"].grad
        assert g is not None
        m, v = 0.8 * m + 0.2 * g.double(), 0.9 * v + 0.1 * g.double() ** 2
        w = w - 0.01 * (m / (1 - 0.8**t) / ((v / (1 - 0.9**t)).sqrt() + 1e-6) + 0.1 * w)
        state.optimizer.step()
    torch.testing.assert_close(state.weights.masters["model.out.weight"].detach().double(), w, rtol=1e-5, atol=1e-6)


def test_time_between_sessions_is_not_counted() -> None:
    state, now = toy(), [100.0]

    def clock() -> float:
        return now[0]

    def batches(session: int) -> Iterator[list[dict[str, Tensor]]]:
        while True:
            now[0] += 2.0  # each step takes two seconds, the waiting for its batch included
            yield [batch()]

    for session in range(2):
        step = PlainStep(Plan(seconds=9.0), Constant(warmup=0), clock=clock)
        for update in train(state, batches(session), step):
            if update.step == 2:
                break
        now[0] += 1000.0
    assert (state.step, state.seconds) == (5, 10.0), "it ends with the step in which the time is up"


def test_the_rate_follows_the_schedule_and_not_the_last_rate(tmp_path: Path) -> None:
    state = toy(AdamW(lr=0.1))
    step = PlainStep(Plan(steps=10), Constant(warmup=1.0))
    rates = [step(state, [batch()]).learning_rate for _ in range(10)]
    assert rates == pytest.approx([0.1 * (n + 0.5) / 10 for n in range(10)])


def test_the_processor_clock_stands_still_while_the_process_sleeps() -> None:
    for name, moved in (("wall", True), ("cpu", False)):
        before = CLOCKS[name]()
        time.sleep(0.1)
        assert (CLOCKS[name]() - before > 0.09) is moved

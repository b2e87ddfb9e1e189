"""One update: the gradients of every micro-batch are summed, then divided once by everything that was scored.

So the result does not depend on how the batch was cut (up to the order of sums), which a mean of means would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from yuyan.errors import InputError, YuyanError
from yuyan.objectives import Batch
from yuyan.train.penalty import Penalty
from yuyan.train.schedule import Schedule
from yuyan.train.state import State
from yuyan.train.world import World

SKIPS_IN_A_ROW = 10
Clock = Literal["wall", "cpu"]
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.monotonic, "cpu": time.process_time}
"""What the seconds of a plan are counted by; with `cpu` the work of all threads is added up."""


class Update(NamedTuple):
    """What one step did; everything a log line needs and nothing else. `loss` is in nats a token."""

    step: int
    loss: float
    count: int  # type: ignore[assignment]  # shadows tuple.count
    gradient_norm: float
    learning_rate: float
    seconds: float
    tokens: int
    skipped: bool


class Diverged(YuyanError):
    """The loss is not a number any more."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train: so many steps, or so many seconds. Exactly one of the two."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, state: State) -> float:
        """From 0 to 1; the middle of the coming step."""
        if self.steps is not None:
            return min(1.0, (state.step + 0.5) / self.steps)
        assert self.seconds is not None
        return min(1.0, state.seconds / self.seconds)

    def done(self, state: State) -> bool:
        """Whether nothing is left to do."""
        return state.step >= self.steps if self.steps is not None else self.progress(state) >= 1.0


class PlainStep:
    """Forward, backward, clip, step. A gradient that is not finite changes no weight; ten in a row end the run."""

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        *,
        clip: float | None = 1.0,
        penalty: Penalty | None = None,
        clock: Callable[[], float] = time.monotonic,
        world: World | None = None,
    ):
        self.plan, self.schedule, self.clip, self.clock, self.world = plan, schedule, clip, clock, world or World()
        self.penalty = penalty
        self._last: float | None = None
        self._skips = 0

    def __call__(self, state: State, group: list[Batch]) -> Update:
        """Take one update on the micro-batches of `group`. Raises Diverged, or InputError if no token was scored."""
        rate = self._set_rate(state)
        state.weights.zero_gradients()
        total, count = torch.zeros((), dtype=torch.float64), 0
        for batch in group:
            loss = state.learner(batch)
            loss.total.sum().backward()
            state.weights.take_gradients()
            total += loss.total.detach().sum()
            count += int(loss.count.sum())
        everywhere = self.world.sum([float(total), float(count)])
        loss_total, count = everywhere[0], int(everywhere[1])
        if count == 0:
            raise InputError(f"step {state.step + 1}: no token of the batch was scored; check labels and masks")
        norm = self._finish(state, count)
        state.step, state.tokens = state.step + 1, state.tokens + count
        self._count_time(state)
        return Update(
            state.step, loss_total / count, count, norm, rate, state.seconds, state.tokens, not math.isfinite(norm)
        )

    def start_clock(self) -> None:
        """Call before the first step of a session: time between sessions is not counted."""
        self._last = self.clock()

    def _set_rate(self, state: State) -> float:
        factor = self.schedule.factor(self.plan.progress(state))
        for group in state.optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * factor
        return float(state.optimizer.param_groups[0]["lr"])

    def _finish(self, state: State, count: int) -> float:
        state.weights.sum_gradients()
        masters = list(state.weights.masters.values())
        gradients = [p.grad for p in masters if p.grad is not None]
        torch._foreach_div_(gradients, float(count))
        norm = _clip(masters, math.inf if self.clip is None else self.clip)
        if math.isfinite(norm):
            if self.penalty is not None:
                self.penalty.add(state.optimizer.param_groups)
            state.optimizer.step()
            state.weights.publish()
            if state.average is not None:
                state.average.follow(state.weights.masters, state.step + 1 - state.skipped)
            self._skips = 0
        else:
            state.skipped += 1
            self._skips += 1
            if self._skips >= SKIPS_IN_A_ROW:
                raise Diverged(
                    f"step {state.step + 1}: {self._skips} gradients in a row were not finite; "
                    "start a new run with a lower train.optimizer.lr or train.clip"
                )
        return norm

    def _count_time(self, state: State) -> None:
        now = self.clock()
        if self._last is not None:
            state.seconds += now - self._last
        self._last = now


def _clip(masters: list[nn.Parameter], largest: float) -> float:
    """Scale the gradients to a norm of at most `largest`; the norm before that, over all parts of them."""
    norm = nn.utils.clip_grad_norm_(masters, largest)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

"""One update: the gradients of every micro-batch are summed, then divided once by everything that was scored.

So the result does not depend on how the batch was cut (up to the order of sums), which a mean of means would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from yuyan.errors import InputError, YuyanError
from yuyan.objectives import Batch
from yuyan.train.optimizer.groups import Scaling
from yuyan.train.penalty import Penalty
from yuyan.train.schedule import Schedule
from yuyan.train.state import State
from yuyan.train.world import World

SKIPS_IN_A_ROW = 10
TINY = 1e-6  # added to a norm that is divided by
NonFinite = Literal["skip", "stop"]
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


class OutOfMemory(YuyanError):
    """A micro-batch needs more memory than there is."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train: so many steps, or so many seconds. Exactly one of the two."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, state: State) -> float:
        """From 0 to 1: of a plan in steps, the middle of the coming one; of one in seconds, its beginning."""
        if self.steps is not None:
            return min(1.0, (state.step + 0.5) / self.steps)
        assert self.seconds is not None
        return min(1.0, state.seconds / self.seconds)

    def done(self, state: State) -> bool:
        """Whether nothing is left to do."""
        return state.step >= self.steps if self.steps is not None else self.progress(state) >= 1.0


class PlainStep:
    """Forward, backward, clip, step. A gradient or loss that is not finite changes no weight; ten in a row end the run.

    `suspects` are the places, in the batch of all processes, of the rows whose loss was not finite in the last update.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        *,
        clip: float | None = 1.0,
        penalty: Penalty | None = None,
        clock: Callable[[], float] = time.monotonic,
        world: World | None = None,
        non_finite: NonFinite = "skip",
    ):
        self.plan, self.schedule, self.clip, self.clock, self.world = plan, schedule, clip, clock, world or World()
        self.penalty, self.non_finite = penalty, non_finite
        self.suspects: list[int] = []
        self._last: float | None = None

    def __call__(self, state: State, group: list[Batch]) -> Update:
        """Take one update on the micro-batches of `group`. Raises Diverged, or InputError if no token was scored."""
        rate = self._set_rate(state)
        state.weights.zero_gradients()
        totals, counts = list[Tensor](), list[Tensor]()
        for batch in group:
            with memory_errors(state.step + 1, batch, independent=state.learner.objective.independent):
                loss = state.learner(batch)
                loss.total.sum().backward()
            state.weights.take_gradients()
            totals.append(loss.total.detach())
            counts.append(loss.count)  # looked at when all is under way: a GPU works on meanwhile
        loss_total, summed = self.world.sum([sum(float(each.sum()) for each in part) for part in (totals, counts)])
        count = int(summed)
        if count == 0:
            raise InputError(f"step {state.step + 1}: no token of the batch was scored; check labels and masks")
        norm = self._finish(state, count, loss_total, totals)
        state.step, state.tokens = state.step + 1, state.tokens + count
        self._count_time(state)
        return Update(state.step, loss_total / count, count, norm, rate, state.seconds, state.tokens, state.streak > 0)

    def start_clock(self) -> None:
        """Call before the first step of a session: time between sessions is not counted."""
        self._last = self.clock()

    def _set_rate(self, state: State) -> float:
        progress = self.plan.progress(state)
        factor = self.schedule.factor(progress)
        for group in state.optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * factor * (progress >= group.get("starts", 0.0))
        return float(state.optimizer.param_groups[0]["lr"])

    def _finish(self, state: State, count: int, loss_total: float, totals: list[Tensor]) -> float:
        state.weights.sum_gradients()
        norm = state.weights.gradient_norm() / count
        if math.isfinite(norm) and math.isfinite(loss_total):
            factor = 1 / count if self.clip is None else min(1.0, self.clip / (norm + TINY)) / count
            if not self._stepped(state, factor):
                state.weights.publish()
            if state.average is not None:
                state.average.follow(state.weights.masters, state.step + 1 - state.skipped)
            state.streak = 0
        else:
            self._skip(state, totals)
        return norm

    def _stepped(self, state: State, factor: float) -> bool:
        """Step the weights with gradients times `factor`; whether they are published already."""
        optimizer, plain = state.optimizer, self.penalty is None
        if plain and isinstance(optimizer, Scaling) and optimizer.step_scaled(factor, state.weights.copies):
            return True
        state.weights.scale_gradients(factor)
        if self.penalty is not None:
            self.penalty.add(optimizer.param_groups)
        optimizer.step()
        return False

    def _skip(self, state: State, totals: list[Tensor]) -> None:
        """Leave the weights as they are. Raises Diverged when the policy, or the number of such steps in a row, says so."""
        state.skipped, state.streak = state.skipped + 1, state.streak + 1
        if state.carried is not None:
            state.carried.forget()  # it may not be a number any more either
        mine = ~torch.cat([each.flatten() for each in totals]).isfinite()
        places = torch.zeros(len(mine) * self.world.size)
        places[len(mine) * self.world.rank :][: len(mine)] = mine.float()
        self.suspects = [int(place) for place in self.world.add(places).nonzero().flatten()]
        if self.non_finite == "stop":
            raise Diverged(
                f"step {state.step + 1}: the loss or its gradient is not a number (train.non_finite is stop)"
            )
        if state.streak >= SKIPS_IN_A_ROW:
            raise Diverged(
                f"step {state.step + 1}: {state.streak} losses or gradients in a row were not finite; "
                "start a new run with a lower train.optimizer.lr or train.clip"
            )

    def _count_time(self, state: State) -> None:
        now = self.clock()
        if self._last is not None:
            state.seconds += now - self._last
        self._last = now


@contextmanager
def memory_errors(step: int, batch: Batch, *, independent: bool = True) -> Iterator[None]:
    """Turn what Python and PyTorch say when memory is used up into a line with a remedy. Raises OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        rows, tokens = len(next(iter(batch.values()))), max(t.numel() for t in batch.values())
        remedy = (
            f"set train.micro_tokens={tokens // 2}" + ", which changes nothing else" * independent if rows > 1
            else "use a smaller train.context or model.hidden_size"
        )  # fmt: skip
        raise OutOfMemory(f"step {step}: out of memory with {rows} rows, {tokens} tokens, at once; {remedy}") from error

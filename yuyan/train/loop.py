"""Training is a generator of updates. Logging, evaluating, saving and stopping are what the caller does between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from yuyan.objectives import Batch
from yuyan.train.state import State
from yuyan.train.step import PlainStep, Update


def train(state: State, groups: Iterable[list[Batch]], step: PlainStep) -> Iterator[Update]:
    """Take one step for each group of micro-batches, yielding after each, until the step's plan is fulfilled."""
    step.start_clock()
    if step.plan.done(state):
        return
    for group in groups:
        state.learner.train()
        yield step(state, group)
        if step.plan.done(state):
            return

"""A network and what it is asked to do, as one module whose forward is the loss.

This is the thing that is sharded, compiled or differentiated by example: all the methods of a model run inside one
`forward`, and no tool needs to know their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from torch import nn

from yuyan.nn.device import device_of, moved
from yuyan.objectives import Batch, Loss, Objective
from yuyan.objectives.base import LanguageNetwork

T = TypeVar("T")


class Learner(nn.Module):
    """`forward(batch)` is the objective's loss of the model on the batch, which goes to where the model is."""

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective.loss(cast(LanguageNetwork, self.model), moved(batch, device_of(self.model)))

    def inside(self, work: Callable[[], T]) -> T:
        """Do `work` as if in `forward`: with the weights in place where a process holds only parts of them."""
        return work()

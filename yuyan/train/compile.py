"""Blocks compiled by `torch.compile`: what a block does between its products is joined into few passes.

Whether that pays depends on processor and network, so `auto` measures it. Each block is a graph of its own, so all blocks of a
stack share one compilation. Only the passes that make gradients are compiled; looks at the validation data and generation, with
their many shapes, go the plain way. Without a compiler on the machine the run goes on without, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from yuyan.errors import ConfigError
from yuyan.nn.device import device_of
from yuyan.objectives import Batch
from yuyan.train.device import random_kept
from yuyan.train.learner import Learner
from yuyan.train.threads import median_seconds

WORTH = 1.02  # how much faster compiled passes must be to be taken


class _Block:
    """A block's two ways to compute: as it is, and compiled where there will be gradients."""

    def __init__(self, block: nn.Module, backend: str):
        self.block, self.plain = block, block.forward
        self.compiled = torch.compile(block.forward, backend=backend)

    def __call__(self, *inputs: Any) -> Any:
        fast = self.block.training and torch.is_grad_enabled()
        return self.compiled(*inputs) if fast else self.plain(*inputs)


def compile_blocks(blocks: list[nn.Module], backend: str = "inductor") -> Callable[[], None]:
    """From now on the `blocks` are compiled; calling what comes back ends that. Raises ConfigError if there are none."""
    if not blocks:
        raise ConfigError("train.compile: the network has no attention blocks, which are what is compiled")
    before = [block.forward for block in blocks]
    for block in blocks:
        block.forward = _Block(block, backend)

    def undo() -> None:
        for block, forward in zip(blocks, before, strict=True):
            block.forward = forward

    return undo


def try_compiled(
    learner: Learner, blocks: list[nn.Module], batch: Batch, *, measure: bool, backend: str = "inductor"
) -> dict[str, Any]:
    """Compile the `blocks` of a learner; leave it if that fails or, with `measure`, if it gains nothing on `batch`.

    What comes back says what was `chosen` and why. Weights, gradients and random state are left as they were.
    """
    found = dict[str, Any]()
    try:
        with random_kept(device_of(learner)):
            if measure:
                found["seconds_plain"] = round(median_seconds(learner, batch), 5)
            undo = compile_blocks(blocks, backend)
            try:
                seconds = median_seconds(learner, batch)
            except (RuntimeError, OSError) as error:  # no compiler, or one that fails
                undo()
                said = " ".join(str(error).split("\n\n")[0].split())
                return {"chosen": False, "failed": f"{type(error).__name__}: {said}"[:300]}
        found["seconds_compiled"] = round(seconds, 5)
        found["chosen"] = not measure or seconds * WORTH <= found["seconds_plain"]
        if not found["chosen"]:
            undo()
        return found
    finally:
        learner.zero_grad(set_to_none=True)

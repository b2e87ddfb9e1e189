"""Activation checkpointing: keep only what goes into each block, and compute the block again for its gradients.

Of a stack of L blocks, memory then holds L inputs and the inside of one block, for a third more arithmetic (Chen et al.
2016, section 3). Dropout is drawn again from the same random state, so losses and gradients are the same.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from yuyan.nn.stack import Block


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """All attention blocks in `module`."""
    return [part for part in module.modules() if isinstance(part, Block)]


def recompute_blocks(module: nn.Module) -> int:
    """From now on the blocks of `module` are computed again in the backward pass; how many there are."""
    blocks = blocks_of(module)
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(blocks)

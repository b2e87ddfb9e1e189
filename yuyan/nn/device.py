"""Where a module's weights are, and how what it is given comes there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def device_of(module: nn.Module) -> torch.device:
    """Of its weights."""
    return next(module.parameters()).device


def moved(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors of a batch, there; those that are there already as they are."""
    return {key: tensor.to(device, non_blocking=True) for key, tensor in batch.items()}

"""Whether a call is only being traced: compiled, or vectorised over examples."""

from __future__ import annotations

import torch


def under_transform() -> bool:
    """Whether values cannot be looked at, and only PyTorch's own operations can be differentiated."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()

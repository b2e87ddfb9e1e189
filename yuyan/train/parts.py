"""Tensors of which each process may have a part: the own part, the whole, and the own part of a whole.

Of a process by itself the part is the whole, and nothing here costs anything. What is done number by number is done to
the own parts, as plain tensors; what must see a matrix as a whole puts it together.
"""

from __future__ import annotations

from torch import Tensor


def is_part(tensor: Tensor) -> bool:
    """Whether other processes have other parts of it."""
    return hasattr(tensor, "full_tensor")


def own(tensor: Tensor) -> Tensor:
    """The numbers that this process has, in the same memory."""
    found: Tensor = tensor.detach().to_local() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return found


def whole(tensor: Tensor) -> Tensor:
    """All of it, sent together from all processes; all have to ask."""
    found: Tensor = tensor.detach().full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return found


def whole_of(tensor: Tensor, like: Tensor) -> Tensor:
    """All of what this process has `tensor` of, where `like` says which part that is; all have to ask."""
    if not is_part(like):
        return tensor
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    parts = DTensor.from_local(
        tensor, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return parts.full_tensor()


def own_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a whole `tensor`, that every process has, the numbers that lie where the own ones of `like` do."""
    if not is_part(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(like, DTensor)
    replicated = DTensor.from_local(tensor, like.device_mesh, [Replicate()] * like.device_mesh.ndim, run_check=False)
    return replicated.redistribute(placements=like.placements).to_local()

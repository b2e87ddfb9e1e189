"""bfloat16 tensors as arrays of their 16 bits for `yuyan/nn/kernels.py`, whose loops are shared among threads here."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yuyan.nn.transforms import under_transform

T = TypeVar("T")
Words = npt.NDArray[np.uint16]
LEAST_NUMBERS = 1 << 16  # of one thread: fewer are done before another one has woken up


def has_words(tensor: Tensor) -> bool:
    """Whether the loops over words can stand in for PyTorch's operations on `tensor`."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16 and not under_transform()


def words(tensor: Tensor) -> Words:
    """The same memory; `tensor` is bfloat16, on the CPU."""
    array: Any = tensor.detach().view(torch.int16).numpy()
    made: Words = array.view(np.uint16)
    return made


def share(rows: int, numbers: int, work: Callable[[int, int], T]) -> list[T]:
    """`work(first, last)` for all rows, which have so many numbers in all, by as many threads as PyTorch computes with;
    what each part gives, in order."""
    threads = max(1, min(torch.get_num_threads(), numbers // LEAST_NUMBERS, rows))
    bounds = [rows * i // threads for i in range(threads + 1)]
    others = [_threads(threads - 1, os.getpid()).submit(work, *pair) for pair in pairwise(bounds[1:])]
    return [work(bounds[0], bounds[1]), *(other.result() for other in others)]


def add_words(total: Tensor, part: Tensor) -> None:
    """`total += part`, float32 and bfloat16, in one pass: PyTorch makes a float32 copy of `part` first."""
    from yuyan.nn import kernels

    sums, given = total.detach().view(-1, total.shape[-1]).numpy(), words(part.contiguous()).reshape(-1, part.shape[-1])
    share(len(sums), total.numel(), lambda first, last: kernels.add(first, last, sums, given))


def column_sums(x: Tensor) -> Tensor:
    """The sum of all rows of (N, V), float32 inside: for bfloat16 in one pass by what is at hand in the caches."""
    if not has_words(x):
        return x.sum(0)
    from yuyan.nn import kernels

    source = words(x.contiguous())

    def work(first: int, last: int) -> Tensor:
        total = torch.zeros(source.shape[1])
        kernels.column_sums(first, last, source, total.numpy())
        return total

    return torch.stack(share(len(source), x.numel(), work)).sum(0).to(x.dtype)


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Of this process: a forked one has the memory of another's threads, but not the threads."""
    return ThreadPoolExecutor(count, thread_name_prefix="rows")

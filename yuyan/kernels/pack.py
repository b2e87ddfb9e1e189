"""Weights in the layout that `tile` reads, in one piece of memory: float32, bfloat16, or 8 and 4 bits with scales.

A matrix (O, I) becomes blocks of 16 of its O columns, each [step][16 words], where a word has 1 float32, 2 bfloat16, 4
bytes, or 8 nibbles that stand after each other along I. O and I are padded with zeros to multiples of 64 (I of the group).

Weights of b bits are round(w / s) with one scale s for each column and each `group` of inputs, such that the largest
weight of the group is 2^(b-1) - 1 times s; s is a bfloat16, rounded up. They are kept with 2^(b-1) added.

O outputs, I inputs.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["float32", "bfloat16", "int8", "int4"]
KINDS: tuple[Kind, ...] = ("float32", "bfloat16", "int8", "int4")
"""By their numbers in yuyan.kernels.vector."""
DEPTH: dict[Kind, int] = {"float32": 1, "bfloat16": 2, "int8": 4, "int4": 8}
PANEL = 64
"""Columns that one thread computes at once."""
BLOCK = 16
MOST = {"int8": 127, "int4": 7}
"""The largest whole number of a weight."""
HUGE = 1 << 21


class Coding(NamedTuple):
    """How weights are kept; `group` is for whole numbers only."""

    kind: Kind
    group: int = PANEL

    @property
    def whole(self) -> bool:
        """Whether they are whole numbers with scales."""
        return self.kind in MOST


@dataclass(frozen=True)
class Packed:
    """Where a packed matrix lies in its memory, in bytes; `scales` is 0 where there are none."""

    coding: Coding
    outputs: int
    inputs: int
    """Both padded."""
    weights: int = 0
    scales: int = 0

    @property
    def weight_bytes(self) -> int:
        return self.outputs * self.inputs // DEPTH[self.coding.kind] * 4

    @property
    def scale_bytes(self) -> int:
        return self.outputs * (self.inputs // self.coding.group) * 2 if self.coding.whole else 0

    def row(self) -> tuple[int, ...]:
        """As the compiled code reads it."""
        group = self.coding.group if self.coding.whole else self.inputs
        return KINDS.index(self.coding.kind), self.outputs, self.inputs, group, self.weights, self.scales


def padded(size: int, coding: Coding | None = None) -> int:
    """A size with its padding."""
    unit = max(PANEL, coding.group) if coding is not None and coding.whole else PANEL
    return -(-size // unit) * unit


def planned(outputs: int, inputs: int, coding: Coding) -> Packed:
    """A matrix that has no place yet; `inputs` is padded already where its input is wider."""
    return Packed(coding, padded(outputs), padded(inputs, coding))


def memory_of(size: int) -> np.ndarray:
    """Bytes at the beginning of a page, in large pages where the system has them: they are all read for every token."""
    room = mmap.mmap(-1, -(-max(size, 1) // HUGE) * HUGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, dtype=np.uint8)


def give_back() -> None:
    """Let the system have what was freed, where the C library otherwise keeps it (glibc)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def pack(weight: Tensor, plan: Packed, memory: np.ndarray) -> None:
    """Write a matrix (O, I) to its place, some columns at a time, so that no second copy of it is ever there."""
    depth, steps = DEPTH[plan.coding.kind], plan.inputs // DEPTH[plan.coding.kind]
    columns = max(BLOCK, (1 << 22) // plan.inputs // BLOCK * BLOCK)
    for first in range(0, plan.outputs, columns):
        count = min(columns, plan.outputs - first)
        part = torch.zeros(count, plan.inputs)
        real = weight[first : first + count].detach()
        part[: len(real), : weight.shape[1]] = real.float()
        if plan.coding.whole:
            numbers, scales = quantise(part, plan.coding)
            at = plan.scales + first * (plan.inputs // plan.coding.group) * 2
            ordered = scales.view(count // BLOCK, BLOCK, -1).transpose(1, 2).contiguous().view(torch.int16).numpy()
            memory[at : at + ordered.nbytes] = ordered.reshape(-1).view(np.uint8)
            words = _bytes_of(numbers, plan.coding.kind)
        elif plan.coding.kind == "bfloat16":
            words = part.bfloat16().view(torch.int16).numpy()
        else:
            words = part.numpy()
        laid = words.reshape(count // BLOCK, BLOCK, steps, -1).swapaxes(1, 2)
        at = plan.weights + first * plan.inputs // depth * 4
        np.copyto(memory[at : at + words.nbytes].view(words.dtype).reshape(laid.shape), laid)


def quantise(weight: Tensor, coding: Coding) -> tuple[Tensor, Tensor]:
    """(O, I) to whole numbers (O, I), and scales (O, I / group) in bfloat16."""
    most = MOST[coding.kind]
    groups = weight.view(len(weight), -1, coding.group)
    scales = (groups.abs().amax(-1) / most).view(torch.int32)
    scales = ((scales + 0xFFFF) & ~0xFFFF).view(torch.float32)  # up, so that the largest number is not cut
    numbers = (groups / scales[..., None].clamp(min=torch.finfo(torch.float32).tiny)).round()
    return numbers.clamp(-most, most).to(torch.int8).view_as(weight), scales.bfloat16()


def _bytes_of(numbers: Tensor, kind: Kind) -> np.ndarray:
    """Whole numbers (O, I) as unsigned bytes: one each, or two nibbles a byte, of which the high one is 4 further on."""
    if kind == "int8":
        out: np.ndarray = (numbers.to(torch.int16) + 128).to(torch.uint8).numpy()
        return out
    unsigned = (numbers + 8).to(torch.uint8).view(len(numbers), -1, 2, 4)
    return np.ascontiguousarray((unsigned[:, :, 0] | (unsigned[:, :, 1] << 4)).flatten(1).numpy())

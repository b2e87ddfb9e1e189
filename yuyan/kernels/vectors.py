"""What is done to single vectors between products, compiled: norms, activations, biases."""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels import formulas, lanes
from yuyan.kernels.code import LANES

LAYER_NORM, RMS_NORM = range(2)
ACTIVATIONS = tuple(formulas.ACTIVATIONS)


@compiled
def normed(kind: Any, x: Any, size: Any, eps: Any, weight: Any, bias: Any, out: Any) -> Any:
    """One vector normed; `weight` and `bias` may be empty."""
    total, square = np.float32(0), np.float32(0)
    if kind == LAYER_NORM:
        for i in range(size):
            total += x[i]
    mean = total / np.float32(size)
    for i in range(size):
        apart = x[i] - mean
        square += apart * apart
    inverse = np.float32(1) / np.sqrt(square / np.float32(size) + eps)
    for i in range(size):
        out[i] = (x[i] - mean) * inverse
    if weight.shape[0]:
        for i in range(size):
            out[i] *= weight[i]
    if bias.shape[0]:
        for i in range(size):
            out[i] += bias[i]


@compiled
def activated(kind: Any, gated: Any, x: Any, out: Any) -> Any:
    """The activation of some columns; if they are gated, 16 of the gate stand before 16 of what it lets through."""
    chunks, step = out.shape[0] // LANES, 128 if gated else 64
    lanes.activate(kind, x.ctypes.data, step, out.ctypes.data, chunks)
    if gated:
        lanes.times(out.ctypes.data, x.ctypes.data + 64, step, chunks)


@compiled
def part_of(vectors: Any, start: Any, size: Any) -> Any:
    """A vector of a layer, or an empty one."""
    return vectors[0:0] if start < 0 else vectors[start : start + size]


@compiled
def add_bias(out: Any, bias: Any, first: Any, last: Any) -> Any:
    """Add a bias to the columns `first` to `last` of all rows."""
    if bias.shape[0]:
        for m in range(out.shape[0]):
            for i in range(first, last):
                out[m, i] += bias[i]

"""What is done to single vectors between products, compiled: norms, activations, rotations, softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.product import exponential
from yuyan.kernels.vector import bits_of, float_of

LAYER_NORM, RMS_NORM = range(2)
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "relu2", "tanh")


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
def activate(kind: Any, x: Any) -> Any:
    """The activation of a few numbers in place."""
    one, half = np.float32(1), np.float32(0.5)
    if kind == 0:
        for i in range(x.shape[0]):
            x[i] = max(x[i], np.float32(0))
    elif kind == 1:  # with an error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)
        for i in range(x.shape[0]):
            size = abs(x[i]) * np.float32(0.70710678)
            t = one / (one + np.float32(0.3275911) * size)
            series = np.float32(1.061405429) * t - np.float32(1.453152027)
            series = (series * t + np.float32(1.421413741)) * t - np.float32(0.284496736)
            tail = (series * t + np.float32(0.254829592)) * t * exponential(-size * size)
            x[i] = half * x[i] * (one + (one - tail if x[i] >= np.float32(0) else tail - one))
    elif kind == 2:
        for i in range(x.shape[0]):
            inner = np.float32(0.7978845608) * (x[i] + np.float32(0.044715) * x[i] * x[i] * x[i])
            x[i] = x[i] / (one + exponential(np.float32(-2) * inner))
    elif kind == 3:
        for i in range(x.shape[0]):
            x[i] = x[i] / (one + exponential(-x[i]))
    elif kind == 4:
        for i in range(x.shape[0]):
            positive = max(x[i], np.float32(0))
            x[i] = positive * positive
    else:
        for i in range(x.shape[0]):
            x[i] = one - np.float32(2) / (exponential(np.float32(2) * x[i]) + one)


@compiled
def turn(heads: Any, head: Any, size: Any, cos: Any, sin: Any) -> Any:
    """Turn the first `size` coordinates of a head in place, half against half."""
    half = size // 2
    for k in range(half):
        a, b = heads[head + k], heads[head + half + k]
        heads[head + k] = a * cos[k] + b * sin[k]
        heads[head + half + k] = b * cos[half + k] + a * sin[half + k]


@compiled
def softmax(line: Any, first: Any, last: Any, scale: Any) -> Any:
    """e^(scale (s - largest)) of `first` to `last` in place, zero elsewhere; their sum."""
    most = np.int32(-(2**31))
    for i in range(first, last):
        bits = bits_of(line[i])
        most = max(most, bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))  # whole numbers in the order of floats
    top = float_of(most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))) * scale
    total = np.float32(0)
    for i in range(first):
        line[i] = np.float32(0)
    for i in range(first, last):
        line[i] = exponential(line[i] * scale - top)
        total += line[i]
    for i in range(last, line.shape[0]):
        line[i] = np.float32(0)
    return total


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

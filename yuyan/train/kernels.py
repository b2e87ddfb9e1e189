"""Loops over weights and their gradients that pass over memory once, whose gradients are the 16 bits of bfloat16.

A step of Adam reads four numbers for each weight and writes three; what is done to a gradient before that (float32 of
bfloat16, a mean of a sum, clipping) costs nothing while it is at hand. In a table of tokens most rows are of tokens that
the run has not met: their gradients and moments are 0, and they are left alone.

Import this only where it is used: Numba is slow to load (`yuyan/compile.py`).

Shapes: N rows, V numbers of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.nn.kernels import ONE, down, up


@compiled
def squares(first: Any, last: Any, gradient: Any) -> Any:
    """The sum of the squares of words (N, V): of a row in float32, of all in float64."""
    total = 0.0
    for n in range(first, last):
        row, part = gradient[n], np.float32(0)
        for v in range(len(row)):
            each = up(row[v])
            part += each * each
        total += np.float64(part)
    return total


@compiled
def untouched(gradient: Any, mean: Any, square: Any) -> Any:
    """Whether the gradient of a row and both its moments are 0."""
    bits = np.uint16(0)
    for v in range(len(gradient)):
        bits |= gradient[v]
    if np.uint16(bits & np.uint16(0x7FFF)):
        return False
    total = np.float32(0)
    for v in range(len(mean)):
        total += abs(mean[v]) + square[v]
    return total == np.float32(0)


@compiled
def adamw(
    first: Any, last: Any, weight: Any, mean: Any, square: Any, gradient: Any, copy: Any, scale: Any, beta1: Any, beta2: Any,
    length: Any, root: Any, eps: Any, kept: Any,
) -> None:  # fmt: skip
    """weight * kept - length * mean / (sqrt(square) * root + eps), where the moments have taken in gradient * scale; all
    (N, V) float32, but words the gradient and the `copy`, which become the weights rounded."""
    for n in range(first, last):
        w, m, s, g, c = weight[n], mean[n], square[n], gradient[n], copy[n]
        if kept == ONE and untouched(g, m, s):
            continue
        for v in range(len(w)):
            slope = up(g[v]) * scale
            m[v] += (ONE - beta1) * (slope - m[v])
            s[v] = beta2 * s[v] + (ONE - beta2) * slope * slope
            w[v] = w[v] * kept - length * m[v] / (np.sqrt(s[v]) * root + eps)
            c[v] = down(w[v])

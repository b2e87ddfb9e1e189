"""Before and behind the layers, compiled: vectors of tokens from packed weights, and the scores of all tokens.

M rows, D hidden size, V vocabulary, I inputs of a packed matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.pieces import PART, done, pieces_of, share, take, wait
from yuyan.kernels.product import GROUP, KIND, OUTPUTS, lay_out, multiply
from yuyan.kernels.step import FEW, some_rows
from yuyan.kernels.vector import BF16, F32, float_of
from yuyan.kernels.vectors import add_bias

_F32, _BF16 = F32, BF16


@compiled
def score_rows(
    thread: Any, parts: Any, threads: Any, tile: Any, matrix: Any, memory: Any, x: Any, left: Any, own: Any, bias: Any,
    out: Any,
) -> Any:  # fmt: skip
    """`out` (M, V) = x (M, D) times the head, plus its bias; two parts (yuyan.kernels.pieces)."""
    ready = _ready(thread, parts, threads, matrix, x, left, own)
    part, pieces = parts + PART, pieces_of(matrix[OUTPUTS] // 64, threads)
    piece = take(part, pieces)
    while piece >= 0:
        low, high = share(matrix[OUTPUTS], 64, piece, pieces)
        multiply(tile, matrix, memory, x.shape[0], ready, low, high, out.ctypes.data, 4 * out.shape[1])
        add_bias(out, bias, low, min(high, bias.shape[0]))
        done(part)
        piece = take(part, pieces)
    wait(part, pieces)


@compiled
def _ready(thread: Any, part: Any, threads: Any, matrix: Any, x: Any, left: Any, own: Any) -> Any:
    """The rows of x laid out."""
    if x.shape[0] <= FEW:
        mine = (own[1][thread], own[2][thread], own[3][thread])
        lay_out(matrix[KIND], x, 0, x.shape[0], matrix[GROUP], mine)
        return mine
    low, high, pieces = some_rows(part, x.shape[0], threads)
    while high:
        lay_out(matrix[KIND], x, low, high, matrix[GROUP], left)
        done(part)
        low, high, pieces = some_rows(part, x.shape[0], threads)
    wait(part, pieces)
    return left


@compiled
def look_up(matrix: Any, memory: Any, ids: Any, out: Any) -> Any:
    """The columns `ids` of a packed matrix as float32, (M, I): vectors of tokens from the weights that score them."""
    kind, inputs, group = matrix[0], matrix[2], matrix[3]
    for m in range(ids.shape[0]):
        block, lane = ids[m] // 16, ids[m] % 16
        for i in range(inputs):
            if kind == _F32:
                at = matrix[4] + (block * inputs + i) * 64 + 4 * lane
                out[m, i] = float_of(_word(memory, at))
            elif kind == _BF16:
                at = matrix[4] + (block * (inputs // 2) + i // 2) * 64 + 4 * lane + 2 * (i & 1)
                out[m, i] = float_of(_half(memory, at) << np.int32(16))
            else:
                scale = float_of(
                    _half(memory, matrix[5] + (block * (inputs // group) + i // group) * 32 + 2 * lane) << np.int32(16)
                )
                if kind == 2:
                    byte = np.int32(
                        memory[matrix[4] + (block * (inputs // 4) + i // 4) * 64 + 4 * lane + (i & 3)]
                    ) - np.int32(128)
                else:
                    byte = np.int32(memory[matrix[4] + (block * (inputs // 8) + i // 8) * 64 + 4 * lane + (i & 3)])
                    byte = ((byte >> np.int32(4 if i & 4 else 0)) & np.int32(15)) - np.int32(8)
                out[m, i] = np.float32(byte) * scale


@compiled
def _half(memory: Any, at: Any) -> Any:
    return np.int32(memory[at]) | (np.int32(memory[at + 1]) << np.int32(8))


@compiled
def _word(memory: Any, at: Any) -> Any:
    return _half(memory, at) | (_half(memory, at + 2) << np.int32(16))

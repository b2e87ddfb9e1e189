"""Before and behind the layers, compiled: vectors of tokens from packed weights, and the scores of all tokens.

M rows, D hidden size, V vocabulary, I inputs of a packed matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.product import OUTPUTS, lay_out, multiply
from yuyan.kernels.step import add_bias, share, wait
from yuyan.kernels.vector import BF16, F32, float_of

_F32, _BF16 = F32, BF16


@compiled
def score_rows(
    thread: Any, barrier: Any, threads: Any, tile: Any, matrix: Any, memory: Any, x: Any, left: Any, bias: Any, out: Any
) -> Any:
    """`out` (M, V) = x (M, D) times the head, plus its bias."""
    mine, end = share(x.shape[0], 1, thread, threads)
    lay_out(matrix[0], x, mine, end, matrix[3], left)
    wait(barrier, threads)
    low, high = share(matrix[OUTPUTS], 64, thread, threads)
    multiply(tile, matrix, memory, x.shape[0], left, low, high, out.ctypes.data, 4 * out.shape[1])
    add_bias(out, bias, low, min(high, bias.shape[0]))


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

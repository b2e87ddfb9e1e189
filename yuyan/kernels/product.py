"""Products with packed weights in compiled code: rows of float32 are laid out for `tile`, then multiplied.

Rows stand in blocks of at most 48 and of like size, in words [step][row], so that a tile finds the words of its rows side by side. For
whole-number weights each row is made whole numbers too, of 8 bits, with a scale for each group of inputs: so the sums are
exact, and what is lost is the rounding of both sides (Dettmers 2022, section 2, with groups).

M rows, I inputs, O outputs; sizes are padded ones (yuyan.kernels.pack).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels import lanes
from yuyan.kernels.code import LANES
from yuyan.kernels.vector import BF16, F32, I4, ROWS, WIDE, call_tile, float_of

ROW_BLOCK = 48
"""Rows of a block."""
NEAR = 512
"""Numbers of a row that are laid out at once: those of 16 rows stay in the first cache. A multiple of all groups."""

KIND, OUTPUTS, INPUTS, GROUP, WEIGHTS, SCALES = range(6)
"""Of a matrix's row in the plan."""
_F32, _BF16, _I4 = F32, BF16, I4


@compiled
def spread(source: Any, source_row: Any, rows: Any, steps: Any, target: Any, size: Any) -> Any:
    """Words [row][step] to [step][row] of `size` rows; `source` and `target` are addresses, `source_row` is in bytes.

    `steps` is a multiple of 16.
    """
    if size == 1:
        lanes.copy(source, steps, target, 64, steps // LANES)
        return
    for first in range(0, rows, LANES):
        count = min(LANES, rows - first)
        lanes.transpose(source + first * source_row, source_row, count, target + 4 * first, 4 * size, steps // LANES)


@compiled
def lay_out(kind: Any, rows: Any, first: Any, last: Any, group: Any, left: Any) -> Any:
    """Lay out the rows `first` to `last` of `rows` (M, I) as `left` = (words, scales, sums)."""
    words, scales, sums = left
    count, inputs = rows.shape
    blocks = (count + ROW_BLOCK - 1) // ROW_BLOCK
    depth = 1 if kind == _F32 else 2 if kind == _BF16 else 4
    near = np.empty((LANES, NEAR // 2), np.int32)
    m = first
    while m < last:
        block = ((m + 1) * blocks - 1) // count
        began, end = count * block // blocks, count * (block + 1) // blocks
        some, place = min(LANES, end - m, last - m), m - began
        for low in range(0, inputs, NEAR):
            high = min(inputs, low + NEAR)
            source, source_row = rows[m, low:high].ctypes.data, rows.strides[0]
            if kind != _F32:
                for row in range(some):
                    _narrow(kind, rows[m + row, low:high], group, near[row], scales, sums,
                            began * (inputs // group) + place + row + low // group * (end - began), end - began)  # fmt: skip
                source, source_row = near.ctypes.data, near.strides[0]
            target = words.ctypes.data + 4 * (began * (inputs // depth) + place + low // depth * (end - began))
            spread(source, source_row, some, (high - low) // depth, target, end - began)
        m += some


@compiled
def _narrow(kind: Any, x: Any, group: Any, words: Any, scales: Any, sums: Any, note: Any, size: Any) -> Any:
    """Part of a row as words; where those are whole numbers, scales and sums of its groups."""
    if kind == _BF16:
        lanes.narrow(x.ctypes.data, x.shape[0], words.ctypes.data, x.shape[0] // LANES)
        return
    weight = np.int32(8 if kind == _I4 else 128)
    for g in range(x.shape[0] // group):
        source = x.ctypes.data + 4 * g * group
        scale = float_of(lanes.largest(source, group // LANES)) * np.float32(1 / 127)
        inverse = np.float32(0) if scale < np.float32(1e-30) else np.float32(1) / scale
        total = lanes.whole(source, inverse, words.ctypes.data + g * group, group // LANES)
        scales[note + g * size] = scale
        sums[note + g * size] = -weight * total


@compiled
def multiply(
    tile: Any, matrix: Any, memory: Any, count: Any, left: Any, first: Any, last: Any, out: Any, out_row: Any
) -> Any:
    """The outputs `first` to `last` (multiples of 64) of `count` rows in `left`, to `out` (address, bytes of a row).

    `tile` is the address of that function.
    """
    words, scales, sums = left
    kind, inputs, group = matrix[KIND], matrix[INPUTS], matrix[GROUP]
    steps = group if kind == _F32 else group // 2 if kind == _BF16 else group // 8 if kind == _I4 else group // 4
    deep = steps * (inputs // group)
    left_deep = 2 * deep if kind == _I4 else deep
    block = deep * 64
    groups = inputs // group
    scale_block = groups * 32
    columns, row_blocks = 64 if count <= WIDE else 32, (count + ROW_BLOCK - 1) // ROW_BLOCK
    for column in range(first, last, columns):
        b = memory.ctypes.data + matrix[WEIGHTS] + column // 16 * block
        b_scale = memory.ctypes.data + matrix[SCALES] + column // 16 * scale_block
        for row_block in range(row_blocks):  # of like size, so that each has more than `WIDE` rows if all together have
            began = count * row_block // row_blocks
            size = count * (row_block + 1) // row_blocks - began
            tiles = (size + ROWS - 1) // ROWS
            for t in range(tiles):
                row, end = size * t // tiles, size * (t + 1) // tiles
                note = 4 * (began * groups + row)
                call_tile(
                    tile, kind, end - row, words.ctypes.data + 4 * (began * left_deep + row), 4 * size, b, block,
                    out + (began + row) * out_row + 4 * column, out_row, steps, groups,
                    scales.ctypes.data + note, sums.ctypes.data + note, b_scale, scale_block,
                )  # fmt: skip

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
from yuyan.kernels.vector import BF16, F32, I4, ROWS, WIDE, bits_of, call_tile, float_of

ROW_BLOCK = 48
"""Rows of a block."""

KIND, OUTPUTS, INPUTS, GROUP, WEIGHTS, SCALES = range(6)
"""Of a matrix's row in the plan."""
_F32, _BF16, _I4 = F32, BF16, I4


@compiled
def rounded(x: Any) -> Any:
    """The bits of the nearest bfloat16, in the low half."""
    bits = bits_of(x)
    return ((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16)) & np.int32(0xFFFF)


@compiled
def exponential(x: Any) -> Any:
    """e^x in float32, to about 1e-7 of it; without a branch, so that loops become vector code (Cephes' expf)."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    turned = x * np.float32(1.44269504)
    count = np.int32(turned + (np.float32(0.5) if turned >= np.float32(0) else np.float32(-0.5)))
    rest = x - np.float32(count) * np.float32(0.693147181)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    return (series * rest * rest + rest + np.float32(1)) * float_of((count + np.int32(127)) << np.int32(23))


@compiled
def lay_out(kind: Any, rows: Any, first: Any, last: Any, group: Any, left: Any) -> Any:
    """Lay out the rows `first` to `last` of `rows` (M, I) as `left` = (words, scales, sums)."""
    words, scales, sums = left
    count, inputs = rows.shape
    blocks = (count + ROW_BLOCK - 1) // ROW_BLOCK
    for m in range(first, last):
        block = ((m + 1) * blocks - 1) // count
        began = count * block // blocks
        size = count * (block + 1) // blocks - began
        place = m - began
        if kind == _F32:
            start = began * inputs + place
            for i in range(inputs):
                words[start + i * size] = bits_of(rows[m, i])
        elif kind == _BF16:
            start = began * (inputs // 2) + place
            for i in range(inputs // 2):
                words[start + i * size] = rounded(rows[m, 2 * i]) | (rounded(rows[m, 2 * i + 1]) << np.int32(16))
        else:
            start = began * (inputs // 4) + place
            note = began * (inputs // group) + place
            weight = np.int32(8 if kind == _I4 else 128)
            for g in range(inputs // group):
                _whole_numbers(rows, m, g, group, weight, words, start, size, scales, sums, note)


@compiled
def _whole_numbers(
    rows: Any, m: Any, g: Any, group: Any, weight: Any, words: Any, start: Any, size: Any,
    scales: Any, sums: Any, note: Any,
) -> Any:  # fmt: skip
    """One group of one row."""
    most = np.int32(0)
    for i in range(g * group, g * group + group):
        most = max(
            most, bits_of(rows[m, i]) & np.int32(0x7FFFFFFF)
        )  # numbers that are not negative order as their bits
    scale = float_of(most) * np.float32(1 / 127)
    inverse = np.float32(0) if scale < np.float32(1e-30) else np.float32(1) / scale
    total = np.int32(0)
    for i in range(g * group // 4, (g * group + group) // 4):
        word = np.int32(0)
        for part in range(4):
            x = rows[m, 4 * i + part] * inverse
            number = np.int32(x + (np.float32(0.5) if x >= np.float32(0) else np.float32(-0.5)))
            total += number
            word |= (number & np.int32(255)) << np.int32(8 * part)
        words[start + i * size] = word
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

"""Attention of the compiled step, for one row and the heads of one group at a time.

It is two products: the queries of a group with its keys, and the probabilities with its values, so keys and values are
kept in the layout of packed weights, columns and rows of B.

M tokens fed, K head size, S slots for keys; sizes are padded to multiples of 64, and what stands in the padding is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.given import (
    COUNT,
    FIRST,
    GROUPS,
    HEAD,
    HEAD_PAD,
    HEADS,
    K_NORM,
    KEPT,
    PAST,
    Q_NORM,
    QK_EPS,
    QK_NORM,
    ROOM,
    ROTARY,
    SCALE,
    SLOT,
    TILE,
    WINDOW,
)
from yuyan.kernels.product import ROW_BLOCK, rounded
from yuyan.kernels.vector import BF16, ROWS, WIDE, ask_for, bits_of, call_tile
from yuyan.kernels.vectors import RMS_NORM, normed, part_of, softmax, turn

_BF16 = BF16


@compiled
def keep(
    sizes: Any, factors: Any, layer: Any, at: Any, vectors: Any, row: Any, group: Any, work: Any, kept: Any, turns: Any
) -> Any:
    """Norm and turn the queries and keys of one group in place, and keep keys and values where their row has its slot."""
    cos, sin = turns
    heads, groups, size = sizes[HEADS], sizes[GROUPS], sizes[HEAD]
    together = heads // groups
    for m in range(row[FIRST], row[FIRST] + row[COUNT]):
        place = row[PAST] + m - row[FIRST]
        for each in range(together + 1):  # the queries of the group, then its key
            head = group * together + each if each < together else heads + group
            start = head * size
            if sizes[QK_NORM]:
                weight = part_of(vectors, at[Q_NORM] if each < together else at[K_NORM], size)
                own = work[m, start : start + size]
                normed(RMS_NORM, own, size, factors[QK_EPS], weight, vectors[0:0], own)
            if sizes[ROTARY]:
                turn(work[m], start, sizes[ROTARY], cos[place], sin[place])
        start = (heads + group) * size
        _keep_key(sizes, layer, row, group, place, work[m, start : start + size], kept)
        start += groups * size
        _keep_value(sizes, layer, row, group, place, work[m, start : start + size], kept)


@compiled
def _keep_key(sizes: Any, layer: Any, row: Any, group: Any, place: Any, source: Any, kept: Any) -> Any:
    """One key as a column of B."""
    if sizes[KEPT] == _BF16:
        halves = kept[2][layer, row[SLOT], group, place // 16]
        for k in range(sizes[HEAD]):
            halves[k >> 1, 2 * (place & 15) + (k & 1)] = np.int16(rounded(source[k]))
    else:
        whole = kept[0][layer, row[SLOT], group, place // 16]
        for k in range(sizes[HEAD]):
            whole[k, place & 15] = bits_of(source[k])


@compiled
def _keep_value(sizes: Any, layer: Any, row: Any, group: Any, place: Any, source: Any, kept: Any) -> Any:
    """One value as a row of B."""
    if sizes[KEPT] == _BF16:
        halves = kept[3][layer, row[SLOT], group, :, place >> 1]
        for k in range(sizes[HEAD]):
            halves[k >> 4, 2 * (k & 15) + (place & 1)] = np.int16(rounded(source[k]))
    else:
        whole = kept[1][layer, row[SLOT], group, :, place]
        for k in range(sizes[HEAD]):
            whole[k >> 4, k & 15] = bits_of(source[k])


@compiled
def attend(
    thread: Any,
    sizes: Any,
    factors: Any,
    layer: Any,
    row: Any,
    group: Any,
    work: Any,
    wide: Any,
    kept: Any,
    scratch: Any,
) -> Any:
    """The attention of all new tokens of a row, in the heads of one group, to `wide`."""
    size, padded = sizes[HEAD], sizes[HEAD_PAD]
    together = sizes[HEADS] // sizes[GROUPS]
    depth = 2 if sizes[KEPT] == _BF16 else 1
    keys, values = kept[0][layer, row[SLOT], group], kept[1][layer, row[SLOT], group]
    words, scores, out = scratch[0][thread], scratch[1][thread], scratch[2][thread]
    block = max(1, ROW_BLOCK // together)
    for start in range(0, row[COUNT], block):
        count = min(block, row[COUNT] - start)
        ends = row[PAST] + start + count
        first = 0 if sizes[WINDOW] == 0 else max(0, row[PAST] + start + 1 - sizes[WINDOW]) // 64 * 64
        width, deep = (ends - first + 63) // 64 * 64, (ends - first + 15) // 16 * 16
        for low in range(0, count * together, ROW_BLOCK):  # more heads than a block has rows are rare
            high = min(count * together, low + ROW_BLOCK)
            asked = high - low
            for q in range(low, high):
                m, head = row[FIRST] + start + q // together, group * together + q % together
                lay_out_one(depth, work[m, head * size : head * size + size], words, q - low, asked, padded)
            _products(sizes[TILE], sizes[KEPT], asked, words, padded // depth, keys.ctypes.data + first * padded // depth * 4,
                      padded // depth * 64, scores, width, width)  # fmt: skip
            for q in range(low, high):
                seen = row[PAST] + start + q // together + 1
                begin = 0 if sizes[WINDOW] == 0 else max(0, seen - sizes[WINDOW])
                line = scores[(q - low) * width : (q - low + 1) * width]
                out[asked * padded + q - low] = softmax(line, begin - first, seen - first, factors[SCALE])
                lay_out_one(depth, line[:deep], words, q - low, asked, deep)
            _products(sizes[TILE], sizes[KEPT], asked, words, deep // depth, values.ctypes.data + first // depth * 64,
                      sizes[ROOM] // depth * 64, out, padded, padded)  # fmt: skip
            for q in range(low, high):
                m, head = row[FIRST] + start + q // together, group * together + q % together
                inverse = np.float32(1) / out[asked * padded + q - low]
                for k in range(size):
                    wide[m, head * size + k] = out[(q - low) * padded + k] * inverse


@compiled
def ask_for_kept(sizes: Any, layer: Any, row: Any, group: Any, kept: Any) -> Any:
    """Let the keys and values of a row come nearer while another's are used; many rows have theirs in many places."""
    if row[COUNT] > 1 or row[PAST] > 1024:
        return
    depth = 2 if sizes[KEPT] == _BF16 else 1
    steps, used = sizes[HEAD_PAD] // depth, (row[PAST] + 16) // 16 * 16
    start = kept[0][layer, row[SLOT], group].ctypes.data
    for line in range(used // 16 * steps):
        ask_for(start + 64 * line)
    start = kept[1][layer, row[SLOT], group].ctypes.data
    for block in range(sizes[HEAD_PAD] // 16):
        for line in range(used // depth):
            ask_for(start + 64 * (block * (sizes[ROOM] // depth) + line))


@compiled
def lay_out_one(depth: Any, x: Any, words: Any, place: Any, rows: Any, size: Any) -> Any:
    """One of `rows` rows as words [step][row]; from its length up to `size` there are zeros."""
    real = x.shape[0]
    if depth == 1:
        for i in range(real):
            words[place + i * rows] = bits_of(x[i])
    else:
        for i in range(real // 2):
            words[place + i * rows] = rounded(x[2 * i]) | (rounded(x[2 * i + 1]) << np.int32(16))
        if real % 2:
            words[place + real // 2 * rows] = rounded(x[real - 1])
    for i in range((real + depth - 1) // depth, size // depth):
        words[place + i * rows] = np.int32(0)


@compiled
def _products(
    tile: Any, kind: Any, count: Any, words: Any, steps: Any, b: Any, block: Any, out: Any, out_row: Any, columns: Any
) -> Any:
    """`count` rows times the blocks from the address `b`, to `out`."""
    tiles = (count + ROWS - 1) // ROWS
    each = 64 if count <= WIDE else 32
    for column in range(0, columns, each):
        for t in range(tiles):
            first, last = count * t // tiles, count * (t + 1) // tiles
            call_tile(
                tile, kind, last - first, words.ctypes.data + 4 * first, 4 * count, b + column // 16 * block, block,
                out.ctypes.data + 4 * (first * out_row + column), 4 * out_row, steps, 1, 0, 0, 0, 0,
            )  # fmt: skip

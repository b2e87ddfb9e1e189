"""Attention of the compiled step, for one row and the heads of one group at a time.

It is two products: the queries of a group with its keys, and the probabilities with its values, so keys and values are
kept in the layout of packed weights, columns and rows of B.

M tokens fed, K head size, S slots for keys; sizes are padded to multiples of 64, and what stands in the padding is zero.
"""

from __future__ import annotations

from typing import Any

from yuyan.compile import compiled
from yuyan.kernels import lanes
from yuyan.kernels.code import LANES
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
    ROOM,
    ROTARY,
    SLOT,
    TILE,
    WINDOW,
)
from yuyan.kernels.product import ROW_BLOCK, spread
from yuyan.kernels.vector import BF16, ROWS, WIDE, ask_for, call_tile
from yuyan.kernels.vectors import RMS_NORM, normed, part_of

_BF16 = BF16

WORK, WORK_ROW, WIDE_AT, WIDE_ROW, KEYS, VALUES, BYTES, COSINES, SINES, TURN, WORDS, SCORES, MADE, NEAR, SUMS = range(
    15
)
"""Of what `addresses` gives, in bytes: rows of `work` and `wide`, keys and values, of which a slot's group takes BYTES,
cosines and sines of a place, and a thread's own room: words laid out, scores, what is made of values, rows, sums."""


@compiled
def addresses(thread: Any, sizes: Any, layer: Any, room: Any) -> Any:
    """Where everything stands. Numba counts who holds an array whenever one is handed on, which for a head takes longer
    than its attention; numbers are handed on for nothing."""
    work, wide, kept, turns, scratch = room.work, room.wide, room.kept, room.turns, room.scratch
    depth = 2 if sizes[KEPT] == _BF16 else 1
    each = sizes[ROOM] * sizes[HEAD_PAD] // depth * 4
    before = layer * kept[0].shape[1] * sizes[GROUPS] * each
    return (
        work.ctypes.data, work.strides[0], wide.ctypes.data, wide.strides[0],
        kept[0].ctypes.data + before, kept[1].ctypes.data + before, each,
        turns[0].ctypes.data, turns[1].ctypes.data, turns[0].strides[0],
        scratch[0][thread].ctypes.data, scratch[1][thread].ctypes.data, scratch[2][thread].ctypes.data,
        scratch[3][thread].ctypes.data, scratch[4][thread].ctypes.data,
    )  # fmt: skip


@compiled
def norm_heads(sizes: Any, model: Any, layer: Any, row: Any, group: Any, work: Any) -> Any:
    """Norm the queries of a group and its key in place, in models that do so."""
    heads, size, vectors, at = sizes[HEADS], sizes[HEAD], model.vectors, model.places[layer]
    together = heads // sizes[GROUPS]
    for m in range(row[FIRST], row[FIRST] + row[COUNT]):
        for each in range(together + 1):
            start = (group * together + each if each < together else heads + group) * size
            weight = part_of(vectors, at[Q_NORM] if each < together else at[K_NORM], size)
            own = work[m, start : start + size]
            normed(RMS_NORM, own, size, model.factors[QK_EPS], weight, vectors[0:0], own)


@compiled
def keep(sizes: Any, row: Any, group: Any, where: Any) -> Any:
    """Turn the queries and keys of one group in place, and keep keys and values where their row has its slot."""
    heads, groups, size, padded = sizes[HEADS], sizes[GROUPS], sizes[HEAD], sizes[HEAD_PAD]
    together, half, depth = heads // groups, sizes[ROTARY] // 2, 2 if sizes[KEPT] == _BF16 else 1
    behind = (row[SLOT] * groups + group) * where[BYTES]
    keys, values = where[KEYS] + behind, where[VALUES] + behind
    for m in range(row[COUNT]):
        place, here = row[PAST] + m, where[WORK] + (row[FIRST] + m) * where[WORK_ROW]
        key = here + 4 * (heads + group) * size
        if half:
            cosines, sines = where[COSINES] + place * where[TURN], where[SINES] + place * where[TURN]
            for head in range(group * together, group * together + together):
                lanes.turn(here + 4 * head * size, half, cosines, sines)
            lanes.turn(key, half, cosines, sines)
        value, column = key + 4 * groups * size, keys + place // LANES * (padded // depth * 64) + 4 * (place % LANES)
        if depth == 2:
            lanes.narrow(key, size, where[NEAR], padded // LANES)
            lanes.column(where[NEAR], (size + 1) // 2, column)
            lanes.narrow_into(value, size, values + 64 * (place // 2), 32 * sizes[ROOM], 16 * (place % 2))
        else:
            lanes.column(key, size, column)
            lanes.copy(value, size, values + 64 * place, 64 * sizes[ROOM], (size + LANES - 1) // LANES)


@compiled
def attend(sizes: Any, scale: Any, row: Any, group: Any, where: Any) -> Any:
    """The attention of all new tokens of a row, in the heads of one group, to `wide`."""
    together = sizes[HEADS] // sizes[GROUPS]
    block = max(1, ROW_BLOCK // together)
    for start in range(0, row[COUNT], block):
        count = min(block, row[COUNT] - start)
        for low in range(0, count * together, ROW_BLOCK):  # more heads than a block has rows are rare
            high = min(count * together, low + ROW_BLOCK)
            _attend_some(sizes, scale, row, group, where, start, count, low, high)


@compiled
def _attend_some(
    sizes: Any, scale: Any, row: Any, group: Any, where: Any, start: Any, count: Any, low: Any, high: Any
) -> Any:
    """That of the queries `low` to `high` of `count` tokens from `start` on; those of a token stand side by side."""
    size, padded, tile, kind, window = sizes[HEAD], sizes[HEAD_PAD], sizes[TILE], sizes[KEPT], sizes[WINDOW]
    together, depth = sizes[HEADS] // sizes[GROUPS], 2 if kind == _BF16 else 1
    behind = (row[SLOT] * sizes[GROUPS] + group) * where[BYTES]
    keys, values, words, near = where[KEYS] + behind, where[VALUES] + behind, where[WORDS], where[NEAR]
    past, asked = row[PAST] + start, high - low
    first = 0 if window == 0 else max(0, past + 1 - window) // 64 * 64
    width, deep = (past + count - first + 63) // 64 * 64, (past + count - first + 31) // 32 * 32
    origin, row_bytes = where[WORK] + (row[FIRST] + start) * where[WORK_ROW], where[WORK_ROW]
    for q in range(low, high):
        query = origin + q // together * row_bytes + 4 * (group * together + q % together) * size
        if depth == 2:
            lanes.narrow(query, size, near + 4 * (q - low) * padded, padded // LANES)
        else:
            lanes.copy(query, size, near + 4 * (q - low) * padded, 64, padded // LANES)
    spread(near, 4 * padded, asked, padded // depth, words, asked)
    _products(tile, kind, asked, words, padded // depth, keys + first * padded // depth * 4, padded // depth * 64,
              where[SCORES], width, width)  # fmt: skip
    for q in range(low, high):
        seen, line = past + q // together + 1, where[SCORES] + 4 * (q - low) * width
        begin = 0 if window == 0 else max(0, seen - window)
        lanes.softmax(line, begin - first, seen - first, deep // LANES, scale, where[SUMS] + 4 * (q - low))
        if depth == 2:
            lanes.narrow(line, deep, line, deep // LANES)
    spread(where[SCORES], 4 * width, asked, deep // depth, words, asked)
    _products(tile, kind, asked, words, deep // depth, values + first // depth * 64, sizes[ROOM] // depth * 64,
              where[MADE], padded, padded)  # fmt: skip
    origin, row_bytes = where[WIDE_AT] + (row[FIRST] + start) * where[WIDE_ROW], where[WIDE_ROW]
    for q in range(low, high):
        target = origin + q // together * row_bytes + 4 * (group * together + q % together) * size
        lanes.divided(where[MADE] + 4 * (q - low) * padded, size, where[SUMS] + 4 * (q - low), target)


@compiled
def ask_for_kept(sizes: Any, row: Any, group: Any, where: Any) -> Any:
    """Let the keys and values of a row come nearer while another's are used; many rows have theirs in many places."""
    if row[COUNT] > 1 or row[PAST] > 1024:
        return
    behind, depth = (row[SLOT] * sizes[GROUPS] + group) * where[BYTES], 2 if sizes[KEPT] == _BF16 else 1
    steps, used = sizes[HEAD_PAD] // depth, (row[PAST] + 16) // 16 * 16
    for line in range(used // 16 * steps):
        ask_for(where[KEYS] + behind + 64 * line)
    for block in range(sizes[HEAD_PAD] // 16):
        for line in range(used // depth):
            ask_for(where[VALUES] + behind + 64 * (block * (sizes[ROOM] // depth) + line))


@compiled
def _products(
    tile: Any, kind: Any, count: Any, words: Any, steps: Any, b: Any, block: Any, out: Any, out_row: Any, columns: Any
) -> Any:
    """`count` rows times the blocks from the address `b`, to `out`, with `out_row` numbers a row."""
    tiles = (count + ROWS - 1) // ROWS
    each = 64 if count <= WIDE else 32
    for column in range(0, columns, each):
        for t in range(tiles):
            first, last = count * t // tiles, count * (t + 1) // tiles
            call_tile(
                tile, kind, last - first, words + 4 * first, 4 * count, b + column // 16 * block, block,
                out + 4 * (first * out_row + column), 4 * out_row, steps, 1, 0, 0, 0, 0,
            )  # fmt: skip

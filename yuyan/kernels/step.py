"""A decoder's layers as one compiled function: norm, attention with kept keys and values, feed-forward, layer after layer.

Every thread calls `run_layers` with its number, computes its share of each part, and waits at a barrier for the others:
one call a step instead of one a product. Attention is two products as well: the queries of a group with its keys, and
the probabilities with its values, so keys and values are kept in the layout of packed weights, columns and rows of B.

M tokens fed, of R rows; D hidden size, H heads, G key-value heads, K head size, F feed-forward size, S slots for keys.
Sizes are padded to multiples of 64; what stands in the padding is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.product import (
    OUTPUTS,
    ROW_BLOCK,
    lay_out,
    multiply,
    rounded,
)
from yuyan.kernels.vector import (
    BF16,
    F32,
    ROWS,
    WIDE,
    ask_for,
    bits_of,
    call_tile,
    fetch,
    fetch_add,
    give_way,
)
from yuyan.kernels.vectors import RMS_NORM, activate, normed, softmax, turn

(TOKENS, LAYERS, HIDDEN, HEADS, GROUPS, HEAD, HEAD_PAD, ROTARY, ROOM, WINDOW, NORM, ACTIVATION, GATED, KEPT, QK_NORM,
 THREADS, TILE) = range(17)  # fmt: skip
"""Of `sizes`: numbers of this step and of the model. ROOM is S, KEPT the kind of keys and values (F32 or BF16),
TILE the address of that function."""
SIZES = 17
EPS, SCALE, QK_EPS = range(3)
"""Of `factors`."""
QKV, OUT, UP, DOWN = range(4)
"""The matrices of a layer, in their order."""
NORM_1, BIAS_1, NORM_2, BIAS_2, Q_NORM, K_NORM, QKV_BIAS, OUT_BIAS, UP_BIAS, DOWN_BIAS = range(10)
"""Of a layer's vectors: where each begins in `vectors`; -1: there is none."""
VECTORS = 10
FIRST, COUNT, PAST, SLOT = range(4)
"""Of a row: its first token of those fed, how many it has, how many were read before, where its keys are kept."""
_F32, _BF16 = F32, BF16


@compiled
def wait(barrier: Any, threads: Any) -> Any:
    """Until all threads are here; `barrier` (address) counts arrivals."""
    if threads == 1:
        return
    ticket = fetch_add(barrier, 1)
    target = (ticket // threads + 1) * threads
    turns = 0
    while fetch(barrier) < target:
        turns += 1
        if turns > 4000:
            give_way()


@compiled
def share(count: Any, unit: Any, thread: Any, threads: Any) -> Any:
    """The part of 0 to `count` that a thread does, in whole units."""
    units = (count + unit - 1) // unit
    return min(count, units * thread // threads * unit), min(count, units * (thread + 1) // threads * unit)


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


@compiled
def run_layers(
    thread: Any, barrier: Any, sizes: Any, factors: Any, plan: Any, memory: Any, places: Any, vectors: Any,
    rows: Any, row_of: Any, x: Any, work: Any, wide: Any, left: Any, kept: Any, turns: Any, scratch: Any,
) -> Any:  # fmt: skip
    """Run all layers and the last norm on `x` (M, D), the stream, in place.

    plan (4 layers, 6): the matrices in `memory`; places (layers + 1, 10): vectors in `vectors`, at last the last norm; rows (R, 4), row_of (M,);
    work (M, .) and wide (M, .) float32; left: words, scales, sums of laid out rows; kept: keys (layers, slots, G, S/16,
    words, 16) and values (layers, slots, G, K/16, words, 16), int32, and both as int16 halves; turns: cosines and sines
    (S, ROTARY); scratch: of each thread.
    """
    threads, tokens, hidden = sizes[THREADS], sizes[TOKENS], sizes[HIDDEN]
    eps, kind = factors[EPS], plan[0, 0]
    queries, keys = sizes[HEADS] * sizes[HEAD], sizes[GROUPS] * sizes[HEAD]
    mine, end = share(tokens, 1, thread, threads)
    for layer in range(sizes[LAYERS]):
        own, at = plan[4 * layer : 4 * layer + 4], places[layer]
        weight, bias = part_of(vectors, at[NORM_1], hidden), part_of(vectors, at[BIAS_1], hidden)
        for m in range(mine, end):
            normed(sizes[NORM], x[m], hidden, eps, weight, bias, wide[m])
            wide[m, hidden : own[QKV, 2]] = np.float32(0)
        lay_out(kind, wide[:, : own[QKV, 2]], mine, end, own[QKV, 3], left)
        wait(barrier, threads)
        low, high = share(own[QKV, OUTPUTS], 64, thread, threads)
        multiply(sizes[TILE], own[QKV], memory, tokens, left, low, high, work.ctypes.data, 4 * work.shape[1])
        add_bias(work, part_of(vectors, at[QKV_BIAS], queries + 2 * keys), low, min(high, queries + 2 * keys))
        wait(barrier, threads)
        keep(thread, sizes, factors, layer, at, vectors, rows, row_of, work, kept, turns)
        wait(barrier, threads)
        groups = rows.shape[0] * sizes[GROUPS]
        low, high = share(groups, 1, thread, threads)
        for pair in range(low, high):
            row, group = pair // sizes[GROUPS], pair % sizes[GROUPS]
            if pair + 1 < high:
                ask_for_kept(sizes, layer, rows[(pair + 1) // sizes[GROUPS]], (pair + 1) % sizes[GROUPS], kept)
            attend(thread, sizes, factors, layer, rows[row], group, work, wide, kept, scratch)
        wait(barrier, threads)
        for m in range(mine, end):
            wide[m, queries : own[OUT, 2]] = np.float32(0)
        lay_out(kind, wide[:, : own[OUT, 2]], mine, end, own[OUT, 3], left)
        wait(barrier, threads)
        add_product(own[OUT], memory, left, thread, sizes, part_of(vectors, at[OUT_BIAS], hidden), work, x, hidden)
        wait(barrier, threads)
        weight, bias = part_of(vectors, at[NORM_2], hidden), part_of(vectors, at[BIAS_2], hidden)
        for m in range(mine, end):
            normed(sizes[NORM], x[m], hidden, eps, weight, bias, wide[m])
            wide[m, hidden : own[UP, 2]] = np.float32(0)
        lay_out(kind, wide[:, : own[UP, 2]], mine, end, own[UP, 3], left)
        wait(barrier, threads)
        feed_forward(
            own[UP], memory, tokens, left, thread, sizes, part_of(vectors, at[UP_BIAS], own[UP, OUTPUTS]), work, wide
        )
        wait(barrier, threads)
        lay_out(kind, wide[:, : own[DOWN, 2]], mine, end, own[DOWN, 3], left)
        wait(barrier, threads)
        add_product(own[DOWN], memory, left, thread, sizes, part_of(vectors, at[DOWN_BIAS], hidden), work, x, hidden)
        wait(barrier, threads)
    weight, bias = part_of(vectors, places[-1, NORM_1], hidden), part_of(vectors, places[-1, BIAS_1], hidden)
    for m in range(mine, end):
        normed(sizes[NORM], x[m], hidden, eps, weight, bias, x[m])


@compiled
def add_product(
    matrix: Any, memory: Any, left: Any, thread: Any, sizes: Any, bias: Any, work: Any, x: Any, size: Any
) -> Any:
    """x += product + bias, for the columns of this thread."""
    tokens = sizes[TOKENS]
    low, high = share(matrix[OUTPUTS], 64, thread, sizes[THREADS])
    multiply(sizes[TILE], matrix, memory, tokens, left, low, high, work.ctypes.data, 4 * work.shape[1])
    high = min(high, size)
    add_bias(x, bias, low, high)
    for m in range(tokens):
        for i in range(low, high):
            x[m, i] += work[m, i]


@compiled
def feed_forward(
    matrix: Any, memory: Any, tokens: Any, left: Any, thread: Any, sizes: Any, bias: Any, work: Any, wide: Any
) -> Any:
    """The hidden layer, to `wide`; of a gated one 16 columns of the gate stand before 16 of what it lets through."""
    low, high = share(matrix[OUTPUTS], 64, thread, sizes[THREADS])
    multiply(sizes[TILE], matrix, memory, tokens, left, low, high, work.ctypes.data, 4 * work.shape[1])
    add_bias(work, bias, low, high)
    for m in range(tokens):
        if sizes[GATED]:
            for column in range(low, high, 32):
                out = wide[m, column // 2 : column // 2 + 16]
                for i in range(16):
                    out[i] = work[m, column + i]
                activate(sizes[ACTIVATION], out)
                for i in range(16):
                    out[i] *= work[m, column + 16 + i]
        else:
            for i in range(low, high):
                wide[m, i] = work[m, i]
            activate(sizes[ACTIVATION], wide[m, low:high])


@compiled
def keep(
    thread: Any, sizes: Any, factors: Any, layer: Any, at: Any, vectors: Any, rows: Any, row_of: Any, work: Any,
    kept: Any, turns: Any,
) -> Any:  # fmt: skip
    """Norm and turn queries and keys in place, and keep keys and values where their row has its slot."""
    keys, values, key_halves, value_halves = kept
    cos, sin = turns
    heads, groups, size = sizes[HEADS], sizes[GROUPS], sizes[HEAD]
    low, high = share(sizes[TOKENS] * (heads + 2 * groups), 1, thread, sizes[THREADS])
    for item in range(low, high):
        m, head = item // (heads + 2 * groups), item % (heads + 2 * groups)
        row = rows[row_of[m]]
        place, start = row[PAST] + m - row[FIRST], head * size
        if head < heads + groups:
            if sizes[QK_NORM]:
                weight = part_of(vectors, at[Q_NORM] if head < heads else at[K_NORM], size)
                own = work[m, start : start + size]
                normed(RMS_NORM, own, size, factors[QK_EPS], weight, vectors[0:0], own)
            if sizes[ROTARY]:
                turn(work[m], start, sizes[ROTARY], cos[place], sin[place])
        if head < heads:
            continue
        source = work[m, start : start + size]
        group = (head - heads) % groups
        if head < heads + groups:
            if sizes[KEPT] == _BF16:
                halves = key_halves[layer, row[SLOT], group, place // 16]
                for k in range(size):
                    halves[k >> 1, 2 * (place & 15) + (k & 1)] = np.int16(rounded(source[k]))
            else:
                whole = keys[layer, row[SLOT], group, place // 16]
                for k in range(size):
                    whole[k, place & 15] = bits_of(source[k])
        elif sizes[KEPT] == _BF16:
            halves = value_halves[layer, row[SLOT], group, :, place >> 1]
            for k in range(size):
                halves[k >> 4, 2 * (k & 15) + (place & 1)] = np.int16(rounded(source[k]))
        else:
            whole = values[layer, row[SLOT], group, :, place]
            for k in range(size):
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

"""A decoder's layers as one compiled function: norm, attention with kept keys and values, feed-forward, layer after layer.

Every thread calls `run_layers` with its number and takes pieces of each part (yuyan.kernels.pieces): one call a step
instead of one a product. Which thread does what changes no number: a piece is whole columns, or whole rows. Before a
product its rows are laid out; a few rows each thread lays out for itself, which takes less time than waiting for others.

M tokens fed, of R rows; D hidden size, G key-value heads, K head size, S slots for keys, P parts of the work. Sizes are
padded to multiples of 64; what stands in the padding is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.kernels.attention import addresses, ask_for_kept, attend, keep, norm_heads
from yuyan.kernels.given import (
    ACTIVATION,
    BIAS_1,
    BIAS_2,
    DOWN,
    DOWN_BIAS,
    EPS,
    GATED,
    GROUPS,
    HEAD,
    HEADS,
    HIDDEN,
    LAYERS,
    NORM,
    NORM_1,
    NORM_2,
    OUT,
    OUT_BIAS,
    QK_NORM,
    QKV,
    QKV_BIAS,
    SCALE,
    THREADS,
    TILE,
    TOKENS,
    UP,
    UP_BIAS,
)
from yuyan.kernels.pieces import PART, done, pieces_of, share, take, wait
from yuyan.kernels.product import GROUP, INPUTS, KIND, OUTPUTS, lay_out, multiply
from yuyan.kernels.vector import fetch
from yuyan.kernels.vectors import activated, add_bias, normed, part_of

FEW = 16
"""Up to so many rows each thread lays out for itself. Rows side by side share lines of the cache as well: so few are not
to be divided between threads."""
PARTS = 9
"""Of a layer: four products, what is laid out for each, and attention."""


@compiled
def run_layers(thread: Any, parts: Any, sizes: Any, model: Any, room: Any, rows: Any, x: Any) -> Any:
    """Run all layers and the last norm on `x` (M, D), the stream, in place.

    parts: address of P states; model, room: as yuyan.kernels.given says; rows (R, 4).
    """
    for layer in range(sizes[LAYERS]):
        here, at, part = model.plan[4 * layer : 4 * layer + 4], model.places[layer], parts + layer * PARTS * PART
        first, second = norm_of(model, sizes, at[NORM_1], at[BIAS_1]), norm_of(model, sizes, at[NORM_2], at[BIAS_2])
        ready = norm_and_lay_out(thread, part, sizes, first, here[QKV], x, room)
        queries_keys_values(part + PART, sizes, here[QKV], model, ready, at[QKV_BIAS], room)
        attention(thread, part + 2 * PART, sizes, layer, model, rows, room)
        ready = lay_out_wide(thread, part + 3 * PART, sizes, here[OUT], sizes[HEADS] * sizes[HEAD], room)
        add_product(part + 4 * PART, sizes, here[OUT], model, ready, at[OUT_BIAS], room, x)
        ready = norm_and_lay_out(thread, part + 5 * PART, sizes, second, here[UP], x, room)
        feed_forward(part + 6 * PART, sizes, here[UP], model, ready, at[UP_BIAS], room)
        ready = lay_out_wide(thread, part + 7 * PART, sizes, here[DOWN], here[DOWN, INPUTS], room)
        add_product(part + 8 * PART, sizes, here[DOWN], model, ready, at[DOWN_BIAS], room, x)
    at = model.places[-1]
    last_norm(parts + sizes[LAYERS] * PARTS * PART, sizes, norm_of(model, sizes, at[NORM_1], at[BIAS_1]), x)


@compiled
def norm_of(model: Any, sizes: Any, weight_at: Any, bias_at: Any) -> Any:
    """What a norm of the stream is: its eps, weight and bias; the last two may be empty."""
    size = sizes[HIDDEN]
    return model.factors[EPS], part_of(model.vectors, weight_at, size), part_of(model.vectors, bias_at, size)


@compiled
def some_rows(part: Any, count: Any, threads: Any) -> Any:
    """The next piece of so many rows, or (0, 0); and how many pieces there are."""
    pieces = 1 if threads == 1 else (count + FEW - 1) // FEW
    piece = take(part, pieces)
    low, high = share(count, FEW, piece, pieces) if piece >= 0 else (0, 0)
    return low, high, pieces


@compiled
def norm_and_lay_out(thread: Any, part: Any, sizes: Any, norm: Any, matrix: Any, x: Any, room: Any) -> Any:
    """The stream, normed, as the left side of a product."""
    tokens, own = sizes[TOKENS], room.own
    if tokens <= FEW:
        mine = (own[1][thread], own[2][thread], own[3][thread])
        if fetch(part + PART) >= pieces_of(matrix[OUTPUTS] // 64, sizes[THREADS]):
            return mine  # too late to be of use
        _norm_rows(sizes, norm, matrix, x, 0, tokens, own[0][thread, :tokens], mine)
        return mine
    low, high, pieces = some_rows(part, tokens, sizes[THREADS])
    while high:
        _norm_rows(sizes, norm, matrix, x, low, high, room.wide, room.left)
        done(part)
        low, high, pieces = some_rows(part, tokens, sizes[THREADS])
    wait(part, pieces)
    return room.left


@compiled
def _norm_rows(sizes: Any, norm: Any, matrix: Any, x: Any, low: Any, high: Any, wide: Any, left: Any) -> Any:
    hidden, inputs = sizes[HIDDEN], matrix[INPUTS]
    for m in range(low, high):
        normed(sizes[NORM], x[m], hidden, norm[0], norm[1], norm[2], wide[m])
        wide[m, hidden:inputs] = np.float32(0)
    lay_out(matrix[KIND], wide[:, :inputs], low, high, matrix[GROUP], left)


@compiled
def lay_out_wide(thread: Any, part: Any, sizes: Any, matrix: Any, real: Any, room: Any) -> Any:
    """`room.wide`, of which so many columns are real, as the left side of a product."""
    tokens, inputs, wide, own = sizes[TOKENS], matrix[INPUTS], room.wide, room.own
    if tokens <= FEW:
        mine, copy = (own[1][thread], own[2][thread], own[3][thread]), own[0][thread, :tokens]
        if fetch(part + PART) >= pieces_of(matrix[OUTPUTS] // 64, sizes[THREADS]):
            return mine  # too late to be of use
        for m in range(tokens):
            copy[m, :real] = wide[m, :real]
            copy[m, real:inputs] = np.float32(0)
        lay_out(matrix[KIND], copy[:, :inputs], 0, tokens, matrix[GROUP], mine)
        return mine
    low, high, pieces = some_rows(part, tokens, sizes[THREADS])
    while high:
        for m in range(low, high):
            wide[m, real:inputs] = np.float32(0)
        lay_out(matrix[KIND], wide[:, :inputs], low, high, matrix[GROUP], room.left)
        done(part)
        low, high, pieces = some_rows(part, tokens, sizes[THREADS])
    wait(part, pieces)
    return room.left


@compiled
def queries_keys_values(part: Any, sizes: Any, matrix: Any, model: Any, left: Any, bias_at: Any, room: Any) -> Any:
    """The first product, to `room.work`."""
    work, size = room.work, (sizes[HEADS] + 2 * sizes[GROUPS]) * sizes[HEAD]
    bias = part_of(model.vectors, bias_at, size)
    pieces = pieces_of(matrix[OUTPUTS] // 64, sizes[THREADS])
    piece = take(part, pieces)
    while piece >= 0:
        low, high = share(matrix[OUTPUTS], 64, piece, pieces)
        multiply(sizes[TILE], matrix, model.memory, sizes[TOKENS], left, low, high, work.ctypes.data, 4 * work.shape[1])
        add_bias(work, bias, low, min(high, size))
        done(part)
        piece = take(part, pieces)
    wait(part, pieces)


@compiled
def attention(thread: Any, part: Any, sizes: Any, layer: Any, model: Any, rows: Any, room: Any) -> Any:
    """Keys and values of all new tokens are kept, and what they attend to stands in `room.wide`."""
    groups = sizes[GROUPS]
    where = addresses(thread, sizes, layer, room)
    pairs = rows.shape[0] * groups
    pieces = pieces_of(pairs, sizes[THREADS])
    piece = take(part, pieces)
    while piece >= 0:
        low, high = share(pairs, 1, piece, pieces)
        for pair in range(low, high):
            row, group = row_of(rows, pair // groups), pair % groups
            if sizes[QK_NORM]:
                norm_heads(sizes, model, layer, row, group, room.work)
            keep(sizes, row, group, where)
            if pair + 1 < high:
                ask_for_kept(sizes, row_of(rows, (pair + 1) // groups), (pair + 1) % groups, where)
            attend(sizes, model.factors[SCALE], row, group, where)
        done(part)
        piece = take(part, pieces)
    wait(part, pieces)


@compiled
def row_of(rows: Any, number: Any) -> Any:
    """The four numbers of a row."""
    return rows[number, 0], rows[number, 1], rows[number, 2], rows[number, 3]


@compiled
def add_product(part: Any, sizes: Any, matrix: Any, model: Any, left: Any, bias_at: Any, room: Any, x: Any) -> Any:
    """x += product + bias."""
    tokens, work, bias = sizes[TOKENS], room.work, part_of(model.vectors, bias_at, sizes[HIDDEN])
    pieces = pieces_of(matrix[OUTPUTS] // 64, sizes[THREADS])
    piece = take(part, pieces)
    while piece >= 0:
        first, last = share(matrix[OUTPUTS], 64, piece, pieces)
        strip = strip_of(tokens)
        for low in range(first, last, strip):
            high = min(last, low + strip)
            multiply(sizes[TILE], matrix, model.memory, tokens, left, low, high, work.ctypes.data, 4 * work.shape[1])
            high = min(high, sizes[HIDDEN])
            add_bias(x, bias, low, high)
            for m in range(tokens):
                for i in range(low, high):
                    x[m, i] += work[m, i]
        done(part)
        piece = take(part, pieces)
    wait(part, pieces)


@compiled
def feed_forward(part: Any, sizes: Any, matrix: Any, model: Any, left: Any, bias_at: Any, room: Any) -> Any:
    """The hidden layer, to `room.wide`."""
    work, wide, bias = room.work, room.wide, part_of(model.vectors, bias_at, matrix[OUTPUTS])
    pieces = pieces_of(matrix[OUTPUTS] // 64, sizes[THREADS])
    piece = take(part, pieces)
    while piece >= 0:
        first, last = share(matrix[OUTPUTS], 64, piece, pieces)
        strip = strip_of(sizes[TOKENS])
        for low in range(first, last, strip):
            high = min(last, low + strip)
            multiply(
                sizes[TILE], matrix, model.memory, sizes[TOKENS], left, low, high, work.ctypes.data, 4 * work.shape[1]
            )
            add_bias(work, bias, low, high)
            for m in range(sizes[TOKENS]):
                out = wide[m, low // 2 : high // 2] if sizes[GATED] else wide[m, low:high]
                activated(sizes[ACTIVATION], sizes[GATED], work[m, low:high], out)
        done(part)
        piece = take(part, pieces)
    wait(part, pieces)


@compiled
def strip_of(tokens: Any) -> Any:
    """How many columns of so many rows are to be made before something is done with them: as many as stay near."""
    return 64 if tokens > FEW else 1024


@compiled
def last_norm(part: Any, sizes: Any, norm: Any, x: Any) -> Any:
    """The stream, normed in place."""
    low, high, pieces = some_rows(part, sizes[TOKENS], sizes[THREADS])
    while high:
        for m in range(low, high):
            normed(sizes[NORM], x[m], sizes[HIDDEN], norm[0], norm[1], norm[2], x[m])
        done(part)
        low, high, pieces = some_rows(part, sizes[TOKENS], sizes[THREADS])
    wait(part, pieces)

"""Loops over bfloat16 numbers that pass over memory once: each reads, computes in float32 and rounds at the end.

NumPy and Numba know no bfloat16: an array holds its 16 bits as `uint16`, which are the upper half of a float32. PyTorch
computes functions of bfloat16 numbers with exact library calls and one pass for each operation; here a function is a
short polynomial that fills the vector units (largest relative error of `exp` 2e-7), and everything that is done to a
number is done while it is at hand. Rows from `first` to `last` are done by one call, so that several can share the work.

Import this only where it is used: Numba is slow to load (`yuyan/compile.py`).

Shapes: N rows, V vocabulary; T tokens, B batch, D hidden size of an LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled

ONE, HALF = np.float32(1), np.float32(0.5)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)


@compiled
def up(word: Any) -> Any:
    """The float32 of 16 bits."""
    return np.uint32(np.uint32(word) << np.uint32(16)).view(np.float32)


@compiled
def down(number: Any) -> Any:
    """The 16 bits that are nearest to a float32, the even ones of two."""
    bits = np.float32(number).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.uint32(bits + np.uint32(np.uint32(0x7FFF) + odd))
    return np.uint16(np.uint32(rounded >> np.uint32(16)) if number == number else np.uint32(0x7FC0))


@compiled
def exp(x: Any) -> Any:
    """e^x in float32: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes); 0 below -87, e^88 above 88; what is no
    number stays so."""
    nothing = x < np.float32(-87)
    x = np.float32(-87) if nothing else x
    x = np.float32(88) if x > np.float32(88) else x
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    power = np.int32(np.int32(np.int32(n) + np.int32(127)) << np.int32(23))
    return p * np.int32(np.int32(0) if nothing else power).view(np.float32)


@compiled
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return ONE / (ONE + exp(-x))


@compiled
def tanh(x: Any) -> Any:
    """1 - 2 / (1 + e^2x); the error is 1e-7, not relative to small values."""
    return ONE - np.float32(2) / (ONE + exp(x + x))


@compiled
def add(first: Any, last: Any, total: Any, part: Any) -> None:
    """total (N, V) float32 plus words."""
    for n in range(first, last):
        row, given = total[n], part[n]
        for v in range(len(row)):
            row[v] += up(given[v])


@compiled
def column_sums(first: Any, last: Any, x: Any, total: Any) -> None:
    """total (V,) float32 plus the rows of words (N, V)."""
    for n in range(first, last):
        row = x[n]
        for v in range(len(row)):
            total[v] += up(row[v])


@compiled
def norm(first: Any, last: Any, x: Any, weight: Any, bias: Any, eps: Any, centred: Any, out: Any, kept: Any) -> None:
    """(x - mean) / sqrt(variance + eps) * weight + bias of words (N, V), the mean taken as 0 where it is not `centred`;
    `kept` (2, N) float32 are the means and the factors."""
    size = x.shape[1]
    values = np.empty(size, np.float32)
    for n in range(first, last):
        row, made = x[n], out[n]
        total, squares = np.float32(0), np.float32(0)
        for v in range(size):
            values[v] = up(row[v])
            total += values[v]
        mean = total / np.float32(size) if centred else np.float32(0)
        for v in range(size):
            values[v] -= mean
            squares += values[v] * values[v]
        factor = ONE / np.sqrt(squares / np.float32(size) + eps)
        kept[0, n], kept[1, n] = mean, factor
        for v in range(size):
            made[v] = down(values[v] * factor * weight[v] + bias[v])


@compiled
def d_norm(
    first: Any,
    last: Any,
    x: Any,
    d_out: Any,
    weight: Any,
    kept: Any,
    centred: Any,
    out: Any,
    d_weight: Any,
    d_bias: Any,
) -> None:
    """The gradient of `norm`'s x as words; `d_weight` and `d_bias` (V,) float32 are the sums so far."""
    size = x.shape[1]
    normed, slope = np.empty(size, np.float32), np.empty(size, np.float32)
    for n in range(first, last):
        row, given, made = x[n], d_out[n], out[n]
        mean, factor = kept[0, n], kept[1, n]
        for v in range(size):
            normed[v] = (up(row[v]) - mean) * factor
        for v in range(size):
            slope[v] = up(given[v])
        for v in range(size):
            d_weight[v] += slope[v] * normed[v]
        for v in range(size):
            d_bias[v] += slope[v]
        total, along = np.float32(0), np.float32(0)
        for v in range(size):
            slope[v] *= weight[v]
            total += slope[v]
            along += slope[v] * normed[v]
        total = total / np.float32(size) if centred else np.float32(0)
        along /= np.float32(size)
        for v in range(size):
            made[v] = down(factor * (slope[v] - total - normed[v] * along))


@compiled
def gelu_tanh(first: Any, last: Any, x: Any, out: Any) -> None:
    """x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3), of words (N, V): its (1 + tanh u) x / 2."""
    for n in range(first, last):
        row, made = x[n], out[n]
        for v in range(len(row)):
            number = up(row[v])
            twice = number * (np.float32(1.5957691216057308) + np.float32(0.07135481282787) * number * number)
            made[v] = down(number * sigmoid(twice))


@compiled
def d_gelu_tanh(first: Any, last: Any, x: Any, d_out: Any, out: Any) -> None:
    """d_out times the slope of `gelu_tanh`."""
    for n in range(first, last):
        row, d_row, made = x[n], d_out[n], out[n]
        for v in range(len(row)):
            number = up(row[v])
            square = number * number
            s = sigmoid(number * (np.float32(1.5957691216057308) + np.float32(0.07135481282787) * square))
            slope = np.float32(1.5957691216057308) + np.float32(0.21406443848361) * square
            made[v] = down(up(d_row[v]) * (s + number * s * (ONE - s) * slope))


@compiled
def silu_times(first: Any, last: Any, gate: Any, x: Any, out: Any) -> None:
    """gate * sigmoid(gate) * x of words (N, V)."""
    for n in range(first, last):
        opened, row, made = gate[n], x[n], out[n]
        for v in range(len(row)):
            number = up(opened[v])
            made[v] = down(number * sigmoid(number) * up(row[v]))


@compiled
def d_silu_times(first: Any, last: Any, gate: Any, x: Any, d_out: Any, d_gate: Any, d_x: Any) -> None:
    """The gradients of both factors of `silu_times`."""
    size = gate.shape[1]
    share, slope = np.empty(size, np.float32), np.empty(size, np.float32)
    for n in range(first, last):
        opened, row, given, made = gate[n], x[n], d_out[n], d_gate[n]
        for v in range(size):
            number = up(opened[v])
            share[v] = sigmoid(number)
            slope[v] = share[v] * (ONE + number * (ONE - share[v]))
        for v in range(size):
            made[v] = down(up(given[v]) * up(row[v]) * slope[v])
        made = d_x[n]
        for v in range(size):
            made[v] = down(up(given[v]) * up(opened[v]) * share[v])


@compiled
def highest(row: Any) -> Any:
    """The largest of some words, as float32: found among whole numbers that have the order of the numbers they stand for."""
    top = np.int16(-0x8000)
    for v in range(len(row)):
        word = np.int16(row[v])
        top = max(top, np.int16(word ^ np.int16(np.int16(word >> np.int16(15)) & np.int16(0x7FFF))))
    return up(np.uint16(np.int16(top ^ np.int16(np.int16(top >> np.int16(15)) & np.int16(0x7FFF)))))


@compiled
def softmax(first: Any, last: Any, scores: Any, scale: Any, queries: Any, hidden: Any) -> None:
    """exp(scale * scores) over their sum, in the place of words (N, S). Rows are `queries` after each other, again and
    again; the last `hidden - q` keys of query q are not seen, and are 0."""
    size = scores.shape[1]
    shares = np.empty(size, np.float32)
    for n in range(first, last):
        seen = size - max(0, hidden - n % queries)
        row = scores[n, :seen]
        largest = highest(row)
        total = np.float32(0)
        for s in range(seen):
            shares[s] = exp((up(row[s]) - largest) * scale)
            total += shares[s]
        part = ONE / total
        for s in range(seen):
            row[s] = down(shares[s] * part)
        scores[n, seen:] = 0


@compiled
def d_softmax(first: Any, last: Any, weights: Any, d_weights: Any, scale: Any) -> None:
    """The gradient of `softmax`'s scores in the place of that of its `weights`; both words (N, S)."""
    size = weights.shape[1]
    slope = np.empty(size, np.float32)
    for n in range(first, last):
        row, given = weights[n], d_weights[n]
        along = np.float32(0)
        for s in range(size):
            slope[s] = up(given[s])
            along += up(row[s]) * slope[s]
        for s in range(size):
            given[s] = down(up(row[s]) * (slope[s] - along) * scale)


@compiled
def cross_entropy(
    first: Any, last: Any, scores: Any, labels: Any, factors: Any, smoothing: Any, z: Any, loss: Any, d_bias: Any
) -> None:
    """`loss` (N,) float32 = log sum exp(scores) - scores[label], 0 where a label is negative; `scores` (N, V) words
    become its gradient, with what smoothing and z-loss add to that alone, times `factors` (N,). `d_bias` (V,), or (0,),
    is the sum of the gradients so far."""
    size = scores.shape[1]
    shares = np.empty(size, np.float32)
    for n in range(first, last):
        row, label, factor = scores[n], labels[n], factors[n]
        if label < 0:
            loss[n] = 0
            row[:] = 0
            continue
        largest = highest(row)
        total = np.float32(0)
        for v in range(size):
            share = exp(up(row[v]) - largest)
            shares[v] = share
            total += share
        log_sum = largest + np.log(total)
        loss[n] = log_sum - up(row[label])
        scale = factor * (ONE + np.float32(2) * z * log_sum) / total
        spread = factor * smoothing / np.float32(size)
        for v in range(size):
            shares[v] = shares[v] * scale - spread
        shares[label] -= factor * (ONE - smoothing)
        for v in range(size):
            row[v] = down(shares[v])
        for v in range(len(d_bias)):
            d_bias[v] += shares[v]


@compiled
def lstm_forward(t: Any, from_input: Any, from_state: Any, carried: Any, gates: Any, cells: Any, hidden: Any) -> None:
    """One token: `from_input` (T, B, 4D) words and `from_state` (B, 4D) words make `gates[t]` (B, 4D), `cells[t + 1]` (B, D)
    float32 and `hidden[t + 1]` (B, D) words. `carried` (T, B), or (0, 0), is what the cell before is multiplied by."""
    batch, size = cells.shape[1], cells.shape[2]
    before = np.empty(4 * size, np.float32)
    after = np.empty(4 * size, np.float32)
    for b in range(batch):
        x, h, cell = from_input[t, b], from_state[b], cells[t, b]
        for d in range(4 * size):
            before[d] = up(x[d]) + up(h[d])
        for d in range(2 * size):
            after[d] = sigmoid(before[d])
        for d in range(2 * size, 3 * size):
            after[d] = tanh(before[d])
        for d in range(3 * size, 4 * size):
            after[d] = sigmoid(before[d])
        gates[t, b] = after
        keep = carried[t, b] if len(carried) else ONE
        for d in range(size):
            before[d] = after[size + d] * keep * cell[d] + after[d] * after[2 * size + d]
        cells[t + 1, b] = before[:size]
        out = hidden[t + 1, b]
        for d in range(size):
            out[d] = down(after[3 * size + d] * tanh(before[d]))


@compiled
def lstm_backward(
    t: Any, d_out: Any, d_state: Any, d_cell: Any, carried: Any, gates: Any, cells: Any, d_before: Any, d_bias: Any
) -> None:
    """One token, backwards: from `d_out` (T, B, D) words, `d_state` (B, D) words that came from the token after, and `d_cell`
    (B, D) float32, the gradients of the gates before their functions, `d_before[t]` (B, 4D) words; `d_bias` (4D,) float32
    is their sum so far, and `d_cell` becomes that of the cell before."""
    batch, size = d_cell.shape
    slopes, squashed = np.empty(4 * size, np.float32), np.empty(size, np.float32)
    d_h, whole = np.empty(size, np.float32), np.empty(size, np.float32)
    for b in range(batch):  # few arrays in each loop, or the compiler does not see that they are apart
        gate, cell, out, later = gates[t, b], cells[t + 1, b], d_out[t, b], d_state[b]
        keep = carried[t, b] if len(carried) else ONE
        later_keep = carried[t + 1, b] if t + 1 < len(carried) else ONE
        for d in range(size):
            squashed[d] = tanh(cell[d])
        for d in range(size):
            d_h[d] = up(out[d]) + later_keep * up(later[d])
        cell, change = cells[t, b], d_cell[b]
        for d in range(size):
            o = gate[3 * size + d]
            whole[d] = change[d] + d_h[d] * o * (ONE - squashed[d] * squashed[d])
            slopes[3 * size + d] = d_h[d] * squashed[d] * o * (ONE - o)
        for d in range(size):
            i, f, g = gate[d], gate[size + d], gate[2 * size + d]
            slopes[d] = whole[d] * g * i * (ONE - i)
            slopes[size + d] = whole[d] * keep * cell[d] * f * (ONE - f)
            slopes[2 * size + d] = whole[d] * i * (ONE - g * g)
        for d in range(size):
            change[d] = whole[d] * gate[size + d] * keep
        words = d_before[t, b]
        for d in range(4 * size):
            words[d] = down(slopes[d])
        for d in range(4 * size):
            d_bias[d] += slopes[d]


@compiled
def dropped(first: Any, last: Any, x: Any, out: Any, low: Any, high: Any, limit: Any, scale: Any) -> None:
    """out (N, D) = 0 where a hash of the place and of two random words is below `limit`, else x times `scale`."""
    low, high, limit, scale = np.uint32(low), np.uint32(high), np.uint32(limit), np.float32(scale)
    for n in range(first, last):
        given, made = x[n], out[n]
        start = np.uint32(np.uint32(n) * np.uint32(len(given)))
        for v in range(len(given)):
            h = np.uint32(np.uint32(np.uint32(start + np.uint32(v)) * np.uint32(0x9E3779B9)) + low)
            h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
            h = np.uint32(np.uint32(h * np.uint32(0x7FEB352D)) ^ high)
            h = np.uint32(h ^ np.uint32(h >> np.uint32(15)))
            h = np.uint32(h * np.uint32(0x846CA68B))
            h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
            made[v] = down(up(given[v]) * scale) if h >= limit else np.uint16(0)

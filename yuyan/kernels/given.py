"""What is given to the compiled step: the packed model, room to compute in, and which number stands where.

Numbers stand in arrays, of which a step hands on one pointer; a named tuple of as many would be taken apart at each call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Model(NamedTuple):
    """A packed decoder."""

    factors: Array
    plan: Array
    """(4 layers, 6): the matrices in `memory`."""
    memory: Array
    places: Array
    """(layers + 1, 10): vectors in `vectors`, at last the last norm."""
    vectors: Array


class Room(NamedTuple):
    """Where a step puts its numbers, of M tokens, G key-value heads, S slots for keys, head size K."""

    work: Array
    """(M, .) float32, as `wide`."""
    wide: Array
    left: tuple[Array, ...]
    """Words, scales and sums of rows that are laid out."""
    own: tuple[Array, ...]
    """`wide` and `left` of each thread, for a few rows."""
    kept: tuple[Array, ...]
    """Keys (layers, slots, G, S/16, words, 16) and values (layers, slots, G, K/16, words, 16), int32."""
    turns: tuple[Array, ...]
    """Cosines and sines (S, ROTARY)."""
    scratch: tuple[Array, ...]
    """Of each thread, for attention."""


(TOKENS, LAYERS, HIDDEN, HEADS, GROUPS, HEAD, HEAD_PAD, ROTARY, ROOM, WINDOW, NORM, ACTIVATION, GATED, KEPT, QK_NORM,
 THREADS, TILE) = range(17)  # fmt: skip
"""Of `sizes`: numbers of this step and of the model. ROOM is S, KEPT the kind of keys and values (F32 or BF16),
THREADS how many there are at most, TILE the address of that function."""
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

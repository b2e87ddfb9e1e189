"""What is given to the compiled step: which number stands where.

Numba knows no named tuples with names that are worth having, so all is arrays of whole numbers and these are their places.
"""

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

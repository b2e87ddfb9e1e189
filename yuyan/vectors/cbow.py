"""Continuous bag of words (Mikolov et al. 2013a, section 3.1), with or without subwords.

The mean of all pieces of the words around a place predicts the word there. Each piece gets the whole gradient of the
mean, as in the authors' program and in fastText.

Legend: V words, P pieces, D dimensions padded to a multiple of 16, C tokens, S sentences.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.vectors.draw import advance, mixed
from yuyan.vectors.skipgram import max_length, scatter, thin_out
from yuyan.vectors.targets import one_pair


@compiled
def bag_of_words(
    work: Any, corpus: Any, pieces: Any, keep: Any, targets: Any, weights: Any, rates: Any, window: Any
) -> Any:
    """Descend over the sentences of `work`: the arguments and results of `skip_gram`; a pair is a place here."""
    first, last, state = work
    tokens, starts = corpus
    offsets, rows = pieces
    drawing, paths = targets
    source, output = weights
    size = source.shape[1]
    kept = np.empty(max_length(starts, first, last), np.int32)
    hidden, change = np.empty(size, np.float32), np.empty(size, np.float32)
    loss, measured, pairs = 0.0, 0, 0
    for sentence in range(first, last):
        count, state = thin_out(tokens, starts[sentence], starts[sentence + 1], keep, kept, state)
        rate = np.float32(rates[0] + rates[1] * starts[sentence])
        for at in range(count):
            state = advance(state)
            reach = window - np.int64((mixed(state) >> np.uint64(33)) % np.uint64(window))
            start, stop = max(0, at - reach), min(count, at + reach + 1)
            if stop - start < 2:
                continue
            pairs += 1
            measure = (at + sentence) & 15 == 0
            add_up(source, offsets, rows, kept, start, stop, at, hidden)
            state, part = one_pair(hidden, output, kept[at], drawing, paths, state, rate, change, measure)
            for near in range(start, stop):
                if near != at:
                    word = kept[near]
                    scatter(source, rows, offsets[word], offsets[word + 1], change)
            if measure:
                loss += part
                measured += 1
    return loss, measured, pairs


@compiled
def add_up(source: Any, offsets: Any, rows: Any, kept: Any, start: Any, stop: Any, at: Any, out: Any) -> Any:
    """The mean of all pieces of kept[start:stop] without place `at`, into `out` (D,)."""
    out[:] = np.float32(0)
    count = 0
    for near in range(start, stop):
        if near == at:
            continue
        word = kept[near]
        for place in range(offsets[word], offsets[word + 1]):
            row = rows[place]
            count += 1
            for d in range(out.shape[0]):
                out[d] += source[row, d]
    scale = np.float32(1) / np.float32(count)
    for d in range(out.shape[0]):
        out[d] *= scale

"""Skip-gram (Mikolov et al. 2013b), with or without subwords (Bojanowski et al. 2017).

A word predicts each word around it, against words that are drawn or down a tree (`targets.py`). The vector of the word,
the mean of its pieces, is held in a buffer while it meets its whole window: every piece would get the same gradient at each
meeting, which moves their mean by just that, so moving the buffer and adding the difference to the pieces at the end is the
same descent, without gathering the pieces again for each meeting. Without subwords a word has one piece.

Legend: V words, P pieces, D dimensions padded to a multiple of 16, C tokens, S sentences.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yuyan.compile import compiled
from yuyan.vectors.draw import advance, mixed
from yuyan.vectors.targets import one_pair


@compiled
def skip_gram(
    work: Any, corpus: Any, pieces: Any, keep: Any, targets: Any, weights: Any, rates: Any, window: Any
) -> Any:
    """Descend over the sentences of `work`; returns (sum of sampled losses, how many were sampled, pairs).

    work (first sentence, last + 1, state of the random numbers); corpus (tokens (C,) int32, starts (S + 1,) int64);
    pieces (offsets (V + 1,), rows of the input (.,)); keep (V,) float32; targets a `Targets`; weights (input (P, D),
    output (V, D), or V - 1 nodes of a tree); rates (at the first token of all, change by token).
    """
    first, last, state = work
    tokens, starts = corpus
    offsets, rows = pieces
    drawing, paths = targets
    source, output = weights
    size = source.shape[1]
    kept = np.empty(max_length(starts, first, last), np.int32)
    hidden, began, change = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    loss, measured, pairs = 0.0, 0, 0
    for sentence in range(first, last):
        count, state = thin_out(tokens, starts[sentence], starts[sentence + 1], keep, kept, state)
        rate = np.float32(rates[0] + rates[1] * starts[sentence])
        for at in range(count):
            state = advance(state)
            reach = window - np.int64((mixed(state) >> np.uint64(33)) % np.uint64(window))
            word = kept[at]
            low, high = offsets[word], offsets[word + 1]
            gather(source, rows, low, high, hidden)
            began[:] = hidden
            measure = (at + sentence) & 15 == 0
            for near in range(max(0, at - reach), min(count, at + reach + 1)):
                if near == at:
                    continue
                pairs += 1
                state, part = one_pair(hidden, output, kept[near], drawing, paths, state, rate, change, measure)
                for d in range(size):
                    hidden[d] += change[d]
                if measure:
                    loss += part
                    measured += 1
            for d in range(size):
                began[d] = hidden[d] - began[d]
            scatter(source, rows, low, high, began)
    return loss, measured, pairs


@compiled
def max_length(starts: Any, first: Any, last: Any) -> Any:
    """Tokens of the longest of these sentences."""
    longest = 0
    for sentence in range(first, last):
        longest = max(longest, starts[sentence + 1] - starts[sentence])
    return longest


@compiled
def thin_out(tokens: Any, start: Any, stop: Any, keep: Any, kept: Any, state: Any) -> Any:
    """Copy the words that subsampling leaves into `kept`; returns how many and the state."""
    count = 0
    for place in range(start, stop):
        word = tokens[place]
        state = advance(state)
        if np.float32(mixed(state) >> np.uint64(40)) * np.float32(2.0**-24) < keep[word]:
            kept[count] = word
            count += 1
    return count, state


@compiled
def gather(source: Any, rows: Any, low: Any, high: Any, out: Any) -> Any:
    """The mean of rows[low:high] of `source` (P, D) into `out` (D,)."""
    size = out.shape[0]
    row = rows[low]
    for d in range(size):
        out[d] = source[row, d]
    for place in range(low + 1, high):
        row = rows[place]
        for d in range(size):
            out[d] += source[row, d]
    if high - low > 1:
        scale = np.float32(1) / np.float32(high - low)
        for d in range(size):
            out[d] *= scale


@compiled
def scatter(source: Any, rows: Any, low: Any, high: Any, change: Any) -> Any:
    """Add `change` (D,) to each of rows[low:high] of `source` (P, D)."""
    for place in range(low, high):
        row = rows[place]
        for d in range(change.shape[0]):
            source[row, d] += change[d]

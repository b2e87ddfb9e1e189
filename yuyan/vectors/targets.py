"""What a vector should answer for a word, to which rows of the output; and one step towards that.

Negative sampling (Mikolov et al. 2013b, section 2.2): yes to the row of the word, no to the rows of words that are drawn.
Hierarchical softmax (section 2.1): to each node on the word's path, which way to turn; nothing is drawn. Both are rows with
an answer, and the same step.

Legend: V words, D dimensions padded to a multiple of 16.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.compile import compiled
from yuyan.vectors.draw import advance, alias_table, mixed, word_from
from yuyan.vectors.settings import Negatives, Output
from yuyan.vectors.tree import Paths, huffman


class Drawing(NamedTuple):
    """From what words are drawn, and how many."""

    threshold: NDArray[np.uint32]
    """(V,)."""
    other: NDArray[np.int32]
    """(V,)."""
    draws: int
    """Words drawn against each word that was there."""


class Targets(NamedTuple):
    """How a word is predicted; the loops are compiled for one of the two alone."""

    drawing: Drawing
    """Of no words, with a tree."""
    paths: Paths | None
    """None where words are drawn: a look at their paths, one row each, took an eighth of the time of a step."""


def targets_of(counts: NDArray[np.int64], output: Output) -> tuple[Targets, int]:
    """The answers for words that occur `counts` (V,) times, and how many rows the output has."""
    if isinstance(output, Negatives):
        return Targets(Drawing(*alias_table(counts.astype(float) ** output.power), output.count), None), len(counts)
    return Targets(Drawing(*alias_table(np.zeros(0)), 0), huffman(counts)), len(counts) - 1


@compiled
def one_pair(
    hidden: Any, output: Any, word: Any, drawing: Any, paths: Any, state: Any, rate: Any, change: Any, measure: Any
) -> Any:
    """One step on the sum of -log s(o.h) over rows to say yes to and of -log s(-o.h) over those to say no to.

    `change` becomes the step of `hidden` (D,); the rows of `output` move at once. A drawn word that is the word itself is
    left out, as in the authors' program.
    """
    size = hidden.shape[0]
    change[:] = np.float32(0)
    loss = 0.0
    first, rows = place_of(word, drawing, paths)
    for k in range(rows):
        if paths is None:
            row, wanted = np.int64(word), np.float32(1)
            if k:
                state = advance(state)
                row, wanted = word_from(mixed(state), drawing.threshold, drawing.other), np.float32(0)
                if row == word:
                    continue
        else:
            row, wanted = np.int64(paths.nodes[first + k]), paths.turns[first + k]
        score = np.float32(0)
        for d in range(size):
            score += hidden[d] * output[row, d]
        step = rate * (wanted - sigmoid(score))
        if measure:
            loss += softplus(-score if wanted else score)
        for d in range(size):
            old = output[row, d]
            change[d] += step * old
            output[row, d] = old + step * hidden[d]
    return state, loss


@compiled
def place_of(word: Any, drawing: Any, paths: Any) -> Any:
    """Where the path of a word begins, and how many rows it has; 0 and all rows if words are drawn."""
    if paths is None:
        return 0, drawing.draws + 1
    return paths.offsets[word], paths.offsets[word + 1] - paths.offsets[word]


@compiled
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) in float32."""
    return np.float32(1) / (np.float32(1) + np.exp(np.float32(-x)))


@compiled
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return max(x, np.float32(0)) + math.log1p(math.exp(-abs(x)))

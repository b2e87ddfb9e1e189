"""The binary tree of hierarchical softmax: each word is a leaf, frequent ones near the root (Huffman 1952).

A word's probability is the product, over the inner nodes on its path, of the chance of turning to its side there (Morin &
Bengio 2005; Mikolov et al. 2013b, section 2.1): V - 1 vectors instead of V, and one step costs a path instead of V scores.
With Huffman's tree the mean path over a text is as short as a binary tree's can be.

Legend: V words, N nodes of all paths together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Paths(NamedTuple):
    """The way from the root to each word."""

    offsets: NDArray[np.int64]
    """(V + 1,) where each word's path begins in `nodes`."""
    nodes: NDArray[np.int32]
    """(N,) inner nodes, each from 0 to V - 2, the root first."""
    turns: NDArray[np.float32]
    """(N,) 1 where the word lies on the first side of the node, 0 on the second."""


def huffman(counts: NDArray[np.int64]) -> Paths:
    """The paths to words that occur `counts` (V,) times, in any order; of equal weights a word goes before a node."""
    parent, second = _merged(counts)
    words, root = len(counts), len(parent) - 1
    at, below = np.arange(words), np.arange(words)
    steps = []  # from all words up at once: as many rounds as the longest path has nodes
    while len(below := below[at[below] != root]):
        here = at[below]
        steps.append((below, (parent[here] - words).astype(np.int32), second[here]))
        at[below] = parent[here]
    lengths = np.zeros(words, np.int64)
    for reached, _, _ in steps:
        lengths[reached] += 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    nodes, turns = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
    for up, (reached, node, side) in enumerate(steps, 1):
        places = offsets[reached + 1] - up
        nodes[places], turns[places] = node, 1 - side
    return Paths(offsets, nodes, turns)


def _merged(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """(2V - 1,) the parent of each word and node, and which side of it they are; node n is number V + n.

    Nodes are made in the order of their weights, so the two lightest are always at the heads of two queues.
    """
    words = len(counts)
    order = np.argsort(counts, kind="stable")
    light, numbers = counts[order].tolist(), order.tolist()
    made: list[int] = []
    parent, second = [0] * (2 * words - 1), [0] * (2 * words - 1)
    word = node = 0
    for inner in range(words, 2 * words - 1):
        weight = 0
        for side in (0, 1):
            if word < words and (node == len(made) or light[word] <= made[node]):
                child, weight, word = numbers[word], weight + light[word], word + 1
            else:
                child, weight, node = words + node, weight + made[node], node + 1
            parent[child], second[child] = inner, side
        made.append(weight)
    return np.array(parent, np.int64), np.array(second, np.int8)

"""The tree of hierarchical softmax: Huffman's codes, a distribution over the words, and the gradient of its logarithm."""

from __future__ import annotations

import heapq
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from yuyan.vectors.settings import Tree
from yuyan.vectors.targets import one_pair, targets_of
from yuyan.vectors.tree import Paths, huffman

SIZE = 16
COUNTS = {
    "two": [3, 1],
    "text": [50, 20, 20, 9, 7, 1, 1, 1],
    "equal": [4] * 8,
    "any order": [1, 30, 2, 2, 17, 5],
    "each as much as all below": [1, 1, 2, 4, 8, 16, 32],
    "absent": [7, 2, 0, 0, 0],
}
cases = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())


def way(paths: Paths, word: int) -> list[tuple[int, float]]:
    """The nodes to a word and the turn at each."""
    part = slice(paths.offsets[word], paths.offsets[word + 1])
    return list(zip(paths.nodes[part].tolist(), paths.turns[part].tolist(), strict=True))


def naive_cost(counts: list[int]) -> int:
    """Huffman's algorithm with a heap: a merge makes each word below it one turn longer."""
    heap, cost = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost


def least_cost(weights: tuple[int, ...]) -> int:
    """Over all binary trees: any two may be joined first."""
    if len(weights) == 1:
        return 0
    return min(
        weights[a] + weights[b] + least_cost((weights[a] + weights[b], *(w for i, w in enumerate(weights) if i not in (a, b))))
        for a, b in combinations(range(len(weights)), 2)
    )  # fmt: skip


@cases
def test_each_word_is_a_leaf_of_one_binary_tree(counts: list[int]) -> None:
    paths, words = huffman(np.array(counts)), len(counts)
    ways = [way(paths, word) for word in range(words)]
    codes = ["".join(str(int(turn)) for _, turn in each) for each in ways]
    assert all(not b.startswith(a) for a in codes for b in codes if a is not b)  # free of prefixes
    assert sum(2.0 ** -len(code) for code in codes) == 1  # and with no place left
    reached: dict[int, set[str]] = {}
    for each, code in zip(ways, codes, strict=True):
        for depth, (node, _) in enumerate(each):
            reached.setdefault(node, set()).add(code[:depth])
    assert set(reached) == set(range(words - 1)) and all(len(above) == 1 for above in reached.values())


@cases
def test_the_mean_path_is_as_short_as_can_be(counts: list[int]) -> None:
    paths = huffman(np.array(counts))
    cost = int(np.diff(paths.offsets) @ counts)
    assert cost == naive_cost(counts)
    if len(counts) < 7:
        assert cost == least_cost(tuple(counts))


def test_the_mean_path_of_a_large_vocabulary() -> None:
    counts = (1e6 / np.arange(1, 5001) ** 1.1).astype(np.int64)
    paths = huffman(counts)
    assert int(np.diff(paths.offsets) @ counts) == naive_cost(counts.tolist())
    entropy = -float((counts / counts.sum() * np.log2(counts / counts.sum())).sum())
    assert entropy <= np.diff(paths.offsets) @ counts / counts.sum() < entropy + 1  # Shannon's bounds


def test_equal_weights_share_one_depth_and_one_word_has_no_way() -> None:
    assert set(np.diff(huffman(np.full(16, 3)).offsets)) == {4}
    alone = huffman(np.array([5]))
    assert alone.offsets.tolist() == [0, 0] and not len(alone.nodes)


def weights(counts: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    draw = np.random.default_rng(1)
    return draw.normal(0, 1, SIZE).astype(np.float32), draw.normal(0, 1, (len(counts) - 1, SIZE)).astype(np.float32)


def step(counts: list[int], word: int, rate: float) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """What the compiled step does: the change of the hidden vector, the output after it, and the loss before."""
    hidden, output = weights(counts)
    targets, rows = targets_of(np.array(counts), Tree())
    assert rows == len(output)
    change, state = np.full(SIZE, 7, np.float32), np.uint64(3)
    kept, loss = one_pair(hidden, output, word, *targets, state, np.float32(rate), change, True)
    assert kept == state  # nothing is drawn
    return change, output, float(loss)


@cases
def test_the_probabilities_of_all_words_sum_to_one(counts: list[int]) -> None:
    chances = [np.exp(-step(counts, word, 0.0)[2]) for word in range(len(counts))]
    assert sum(chances) == pytest.approx(1, abs=1e-5) and min(chances) > 0


@cases
def test_a_step_follows_the_gradient_of_the_formula(counts: list[int]) -> None:
    """-log p(w | h), p(w | h) the product of s(u.h) at nodes whose first side is taken and s(-u.h) at the others."""
    paths, rate = huffman(np.array(counts)), 0.3
    for word in range(len(counts)):
        hidden, output = (torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in weights(counts))
        chance = torch.ones((), dtype=torch.float64)
        for node, turn in way(paths, word):
            first = 1 / (1 + torch.exp(-output[node] @ hidden))
            chance = chance * (first if turn else 1 - first)
        (-chance.log()).backward()  # type: ignore[no-untyped-call]
        change, moved, loss = step(counts, word, rate)
        assert loss == pytest.approx(-float(chance.detach().log()), rel=1e-5)
        assert hidden.grad is not None and output.grad is not None
        np.testing.assert_allclose(change, -rate * hidden.grad.numpy(), atol=2e-6)
        np.testing.assert_allclose(moved, output.detach().numpy() - rate * output.grad.numpy(), atol=2e-6)

"""Estimating a Unigram vocabulary (Kudo 2018, "Subword regularization", section 3.2), the same one every time.

The `tokenizers` library trains this model too, but its result changes from run to run with the order of a hash table.
Here the estimation is arrays throughout: start from all frequent substrings; repeat EM (forward-backward over all words at
once) and drop the quarter of the pieces whose removal costs the least likelihood; stop at the wanted size.

P places: the words laid out one after the other, each with one free place behind it. `edges[l - 1][p]` is the piece of
length l that begins at place p, or -1. N pieces; the first A are the single characters, which always stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 16  # characters of a piece
SEEDS = 8  # candidates at the start, for each wanted piece
SHRINK = 0.75  # share of the pieces that a pruning keeps
SUB_ITERATIONS = 2  # EM steps between two prunings

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Words(NamedTuple):
    """The words, longest first: where each begins (W,), its length (W,), its frequency at each place (P,)."""

    text: str  # (P + LONGEST,) with a NUL in every free place
    begins: Integers
    lengths: Integers
    weights: Floats


class _Pieces(NamedTuple):
    """Candidates: where each occurs first, its length, how often it occurs (all (N,)), and the edges."""

    places: Integers
    lengths: Integers
    counts: Floats
    edges: list[NDArray[np.int32]]


def estimate_unigram(words: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """At most `size` pieces and their log-probabilities, the likeliest first, from words and how often they occur.

    All single characters are among them, so `size` must be at least their number.
    """
    laid_out = _lay_out(words)
    pieces, alphabet = _candidates(laid_out, SEEDS * size)
    assert alphabet <= size, "the caller checks that the characters fit"
    scores = np.log(pieces.counts * pieces.lengths) - np.log((pieces.counts * pieces.lengths).sum())
    level = 5.0  # nats a character; keeps the sums of a long word within floating-point range
    while True:
        for _ in range(SUB_ITERATIONS):
            expected, level = _expected_counts(laid_out, pieces, scores, level)
            expected[:alphabet] = np.maximum(expected[:alphabet], 0.5)
            stay = _largest(expected, max(size, int((expected >= 0.5).sum())), alphabet)
            pieces, expected = _keep(pieces, stay), np.maximum(expected[stay], 0.5)
            scores = _digamma(expected) - _digamma(expected.sum(keepdims=True))
        if len(scores) <= size:
            break
        cost = expected * (scores - _best_alternative(pieces, scores))
        stay = _largest(cost, max(size, int(SHRINK * len(scores))), alphabet)
        pieces, scores = _keep(pieces, stay), scores[stay]
    texts = [laid_out.text[p : p + n] for p, n in zip(pieces.places.tolist(), pieces.lengths.tolist(), strict=True)]
    return sorted(zip(texts, scores.tolist(), strict=True), key=lambda piece: (-piece[1], piece[0]))


def _lay_out(words: Mapping[str, int]) -> _Words:
    ordered = sorted((word for word in words if word), key=lambda word: (-len(word), word))
    lengths = np.array([len(word) for word in ordered], np.int64)
    begins = np.cumsum(lengths + 1) - lengths - 1
    counts = np.array([words[word] for word in ordered], np.float64)
    return _Words("\0".join(ordered) + "\0" * (LONGEST + 1), begins, lengths, np.repeat(counts, lengths + 1))


def _candidates(words: _Words, most: int) -> tuple[_Pieces, int]:
    """All characters, and of the substrings that occur at least twice the `most` with the largest frequency x length.

    Level by level: a substring of length l is one of length l - 1 and a character, so only positions whose shorter
    substring is frequent are looked at.
    """
    size = len(words.weights)
    points = np.frombuffer(words.text.encode("utf-32-le"), np.uint32).astype(np.int64)
    inside = np.repeat(words.begins + words.lengths, words.lengths + 1) - np.arange(size)  # characters up to the end
    at = np.flatnonzero(inside)
    _, first, char = np.unique(points[at], return_index=True, return_inverse=True)
    alphabet = len(first)
    chars = np.zeros(size + LONGEST, np.int64)
    chars[at] = char
    node, places, lengths = char, [at[first]], [np.ones(alphabet, np.int64)]
    counts, nodes = [np.bincount(char, words.weights[at], alphabet)], [(at, char)]
    total = alphabet
    for length in range(2, LONGEST + 1):
        longer = inside[at] >= length
        at, node = at[longer], node[longer]
        _, first, inverse = np.unique(node * alphabet + chars[at + length - 1], return_index=True, return_inverse=True)
        found = np.bincount(inverse, words.weights[at], len(first))
        frequent = found >= 2
        renumbered = np.cumsum(frequent) - 1
        places.append(at[first[frequent]])
        lengths.append(np.full(int(frequent.sum()), length))
        counts.append(found[frequent])
        stays = frequent[inverse]
        at, node = at[stays], renumbered[inverse[stays]]
        nodes.append((at, node + total))
        total += int(frequent.sum())
    edges = [np.full(size + LONGEST, -1, np.int32) for _ in nodes]
    for edge, (at, node) in zip(edges, nodes, strict=True):
        edge[at] = node
    every = _Pieces(np.concatenate(places), np.concatenate(lengths), np.concatenate(counts), edges)
    stay = _largest(every.counts * every.lengths, max(most, alphabet), alphabet)
    return _keep(every, stay), alphabet


def _largest(values: Floats, count: int, alphabet: int) -> NDArray[np.bool_]:
    """Which `count` pieces have the largest values, all characters among them; of equals the first."""
    order = np.argsort(-np.concatenate([np.full(alphabet, np.inf), values[alphabet:]]), kind="stable")
    stay = np.zeros(len(values), bool)
    stay[order[:count]] = True
    return stay


def _keep(pieces: _Pieces, stay: NDArray[np.bool_]) -> _Pieces:
    if stay.all():
        return pieces
    number = np.where(stay, np.cumsum(stay) - 1, -1).astype(np.int32)
    number = np.append(number, np.int32(-1))  # what -1 becomes
    edges = [number[edge] for edge in pieces.edges]
    return _Pieces(pieces.places[stay], pieces.lengths[stay], pieces.counts[stay], edges)


def _expected_counts(words: _Words, pieces: _Pieces, scores: Floats, level: float) -> tuple[Floats, float]:
    """How often each piece is expected over all ways to cut the words (N,), and the nats a character.

    Probabilities are multiplied by e^level for each character: that cancels out, and no sum under- or overflows.
    """
    chance = np.append(np.exp(scores + level * pieces.lengths), 0.0)  # the last is that of edge -1
    size, longest = len(words.weights) + LONGEST, int(words.lengths[0])
    longer_than = np.searchsorted(-words.lengths, -np.arange(longest + 1), side="left")  # words longer than t
    forward, backward = np.zeros(size), np.zeros(size)
    forward[words.begins] = 1.0
    backward[words.begins + words.lengths] = 1.0
    for t in range(1, longest + 1):
        ends = words.begins[: longer_than[t - 1]] + t
        for length in range(1, min(t, LONGEST) + 1):
            froms = ends - length
            forward[ends] += forward[froms] * chance[pieces.edges[length - 1][froms]]
    for t in range(longest - 1, -1, -1):
        froms = words.begins[: longer_than[t]] + t
        for length in range(1, LONGEST + 1):
            backward[froms] += chance[pieces.edges[length - 1][froms]] * backward[froms + length]
    whole = forward[words.begins + words.lengths]
    per_word = words.weights[words.begins]
    share = np.repeat(per_word / whole, words.lengths + 1)
    expected = np.zeros(len(scores))
    for length, edge in enumerate(pieces.edges, 1):
        at = np.flatnonzero(edge >= 0)
        piece = edge[at]
        expected += np.bincount(piece, forward[at] * chance[piece] * backward[at + length] * share[at], len(scores))
    characters = (per_word * words.lengths).sum()
    return expected, float(level - (per_word * np.log(whole)).sum() / characters)


def _best_alternative(pieces: _Pieces, scores: Floats) -> Floats:
    """The log-probability of the best way to write each piece with others (N,); -inf for a single character."""
    score = np.append(scores, -np.inf)
    best: NDArray[Any] = np.full((LONGEST + 1, len(scores)), -np.inf)
    best[0] = 0.0
    for t in range(1, LONGEST + 1):
        (some,) = np.nonzero(pieces.lengths >= t)
        for length in range(1, t + 1):
            others = some if length < t else some[pieces.lengths[some] > t]  # a piece is not its own alternative
            edge = pieces.edges[length - 1][pieces.places[others] + t - length]
            best[t, others] = np.maximum(best[t, others], best[t - length, others] + score[edge])
    result: Floats = best[pieces.lengths, np.arange(len(scores))]
    return result


def _digamma(x: Floats) -> Floats:
    """The derivative of log gamma for positive x: recurrence up to 10, then the asymptotic series."""
    x = x.astype(np.float64)
    result = np.zeros_like(x)
    while (small := x < 10).any():
        result = np.where(small, result - 1 / x, result)
        x = np.where(small, x + 1, x)
    square = 1 / (x * x)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    return result + np.log(x) - 0.5 / x - series

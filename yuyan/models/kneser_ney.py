"""Interpolated modified Kneser-Ney estimation (Chen & Goodman 1999), vectorised over all n-grams of an order.

A whole order is found by one sort: the n-gram that ends at position t is the n-gram one shorter that ended at t-1 and
the token at t, in one integer (`trie`). Probabilities are stored already interpolated, next to the weight with which a
context passes the rest down; that is the back-off form of exactly the same model.

For an n-gram with count a in a context of total A, and D the discount of that count (0 < D <= min(a, 3)):

    p(w | c) = (a - D(a)) / A + (sum of D over the context's n-grams) / A * p(w | shorter c),   p(w | nothing) = 1 / V

The count is the number of occurrences at the highest order and, below it, the number of different left neighbours.
The beginning of a document counts as one left neighbour where there is no bos token; with one, n-grams that begin with
it have no left neighbour and keep their number of occurrences, as in SRILM and KenLM. The bos token is never
predicted: its unigram probability is 0 and V leaves it out. Every other token of the vocabulary, seen or not, shares
the uniform part.

Shapes: N tokens of the joined documents, V vocabulary size, G_k n-grams of order k (G_0 = 1, G_1 = V).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from yuyan.errors import DataError, InputError
from yuyan.models.trie import (
    NONE,
    Floats,
    Ints,
    Level,
    check_ids,
    join_documents,
    join_keys,
    preceding_nodes,
    sort_keys,
    token_bits,
)  # fmt: skip

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
BLOCK = 1 << 22  # positions or n-grams handled at once: bounds memory


class _Counted(NamedTuple):
    """The n-grams of one order before they have probabilities."""

    offsets: Ints
    tokens: Ints
    suffixes: Ints  # (G_k,): the node of the order below that is the n-gram without its first token
    counts: Ints  # (G_k,): occurrences at the highest order; below, overwritten with left neighbours


def estimate(
    tokens: Ints, starts: Ints, *, order: int, vocab_size: int, bos: int | None, eos: int | None
) -> list[Level]:
    """The levels of orders 1 to `order` from the documents `tokens[starts[i]:starts[i + 1]]` (bare ids).

    Raises InputError (order below 1, ids outside the vocabulary, bos inside a document) and DataError (no tokens).
    """
    if order < 1:
        raise InputError(f"order {order}: an n-gram model has an order of at least 1")
    check_ids(tokens, vocab_size)
    for name, special in (("bos", bos), ("eos", eos)):
        if special is not None and not 0 <= special < vocab_size:
            raise InputError(f"{name} {special}: outside the vocabulary of {vocab_size} tokens")
    stream, begins = join_documents(tokens, starts, bos, eos)
    marks = len(begins) if bos is not None else 0
    if bos is not None and np.count_nonzero(stream == bos) > marks:
        raise InputError(f"token {bos} is bos and stands inside a document; give the documents without it")
    if len(stream) == marks:
        raise DataError("no tokens to count: every document is empty")
    counted = _count(stream, begins, order, vocab_size, bos)
    del stream  # a copy of the whole text
    return _probabilities(counted, vocab_size, bos)


# ---------------------------------------------------------------- counting


def _count(stream: Ints, begins: Ints, order: int, vocab_size: int, bos: int | None) -> list[_Counted]:
    first = _Counted(
        offsets=np.array([0, vocab_size], np.int32), tokens=np.arange(vocab_size, dtype=np.int32),
        suffixes=np.zeros(vocab_size, np.int32), counts=np.bincount(stream, minlength=vocab_size),
    )  # fmt: skip
    levels, nodes = [first], stream
    lengths = np.diff(np.append(begins, len(stream)))
    for shorter in range(1, order):
        below = levels[-1]
        opening = nodes[begins[lengths >= shorter] + shorter - 1]
        level, nodes = _extend(stream, begins, nodes, len(below.tokens), vocab_size)
        below.counts[:] = np.bincount(level.suffixes, minlength=len(below.tokens))
        first_grams, occurrences = np.unique(opening, return_counts=True)
        below.counts[first_grams] += 1 if bos is None else occurrences.astype(np.int32)
        levels.append(level)
    if bos is not None:
        first.counts[bos] = 0
    return levels


def _extend(stream: Ints, begins: Ints, nodes: Ints, parents: int, vocab_size: int) -> tuple[_Counted, Ints]:
    """One order more. `nodes` (N,) holds the node that ends at each position, or -1, and so does the second result."""
    before = preceding_nodes(nodes, begins)
    longer = np.full(len(stream), NONE, np.int32)
    offsets = np.zeros(parents + 1, np.int32)
    pieces: list[tuple[Ints, Ints, Ints]] = []
    known = 0
    for low, high in pairwise(_blocks(before, parents)):
        at = np.flatnonzero((before >= low) & (before < high))
        keys, where = sort_keys(join_keys(before[at] - low, stream[at], vocab_size), high - low, vocab_size)
        where = at[where]
        new = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        longer[where] = np.cumsum(new, dtype=np.int32) + (known - 1)
        firsts = np.flatnonzero(new)
        keys = keys[firsts]
        tokens = (keys & ((1 << token_bits(vocab_size)) - 1)).astype(np.int32)
        keys >>= token_bits(vocab_size)
        offsets[low + 1 : high + 1] = np.bincount(keys, minlength=high - low)
        pieces.append((tokens, nodes[where[firsts]], np.diff(np.append(firsts, len(where))).astype(np.int32)))
        known += len(firsts)
    np.cumsum(offsets, out=offsets)
    return _Counted(offsets, *(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))), longer


def _blocks(before: Ints, parents: int) -> list[int]:
    """Cuts through the parents' numbers, so that about `BLOCK` positions follow the parents between two of them: an
    order is sorted block by block, which gives the same as at once in less memory. One parent is never cut."""
    if len(before) <= BLOCK:
        return [0, parents]
    step = max(1, BLOCK // 1024)
    sample = np.sort(before[::step])
    return [0, *np.unique(sample[sample > 0][:: BLOCK // step]).tolist(), parents]


# ---------------------------------------------------------------- probabilities


def discounts(counts: Ints) -> tuple[float, float, float]:
    """The discounts of the counts 1, 2 and 3 or more, from the counts of counts (Chen & Goodman 1999, equation 17).

    Where no n-gram has the count 1, 2 or 3, or a discount is not positive (tiny corpora; small alphabets, whose short
    n-grams are all frequent), the formula says nothing, and this order gets `FALLBACK_DISCOUNTS`.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > 0 else FALLBACK_DISCOUNTS


def _probabilities(counted: list[_Counted], vocab_size: int, bos: int | None) -> list[Level]:
    """From the shortest order up. Empties `counted` as it goes, so that both never stand in memory whole."""
    lower: Floats = np.full(1, 1.0 / max(1, vocab_size - int(bos is not None)))
    levels: list[Level] = []
    while counted:
        level = counted.pop(0)
        offsets, tokens = level.offsets, level.tokens
        probs, rest = _interpolate(level, lower)
        del level
        lower = probs  # of the order below nothing is needed any more
        if levels:
            levels[-1] = levels[-1]._replace(log_backoffs=np.log(rest, out=rest))
        elif bos is not None:
            probs[bos] = 0.0
        with np.errstate(divide="ignore"):
            logs = np.log(probs, out=None if counted else probs)
        levels.append(Level(offsets, tokens, logs, np.empty(0)))
    return levels


def _interpolate(level: _Counted, lower: Floats) -> tuple[Floats, Floats]:
    """The probability of each n-gram, given those of the order below, and the weight each context passes down."""
    discount = np.array((0.0, *discounts(level.counts)))
    probs, rest = np.empty(len(level.tokens)), np.ones(len(level.offsets) - 1)
    cuts = np.searchsorted(level.offsets, np.arange(BLOCK, len(level.tokens), BLOCK))
    for low, high in pairwise([0, *np.unique(cuts).tolist(), len(rest)]):
        offsets = level.offsets[low : high + 1]
        block = slice(offsets[0], offsets[-1])
        counts, sizes = level.counts[block], np.diff(offsets)
        used = np.flatnonzero(sizes)
        taken = discount[np.minimum(counts, 3)]
        segments = offsets[used] - offsets[0]
        total = np.add.reduceat(counts, segments, dtype=np.int64)
        left = np.add.reduceat(taken, segments) / total
        rest[low + used] = left
        np.subtract(counts, taken, out=taken)
        taken /= np.repeat(total, sizes[used])
        taken += np.repeat(left, sizes[used]) * lower[level.suffixes[block]]
        probs[block] = taken
    return probs, rest

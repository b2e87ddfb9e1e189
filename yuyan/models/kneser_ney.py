"""Interpolated modified Kneser-Ney estimation (Chen & Goodman 1999), vectorised over all n-grams of an order.

The n-grams of order k are the nodes of a trie at depth k, numbered in the order of (parent node, last token), so an
order is a few arrays (`Level`) and a whole order is found by one sort: an n-gram's key is its parent's number and its
last token in one integer, and the parent of the n-gram that ends at position t is the node that ended at t-1.
Probabilities are stored already interpolated, next to the weight with which a context passes the rest down, which is
exactly the back-off form of the same model:  p(w | c) = stored p, or weight(c) * p(w | c without its first token).

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

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.errors import DataError, InputError

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class Level(NamedTuple):
    """All n-grams of one order, sorted by (context, last token)."""

    offsets: Ints
    """(G_{k-1} + 1,): the n-grams that extend node i of the order below are `offsets[i]:offsets[i + 1]`."""
    tokens: Ints
    """(G_k,): the last token of each n-gram."""
    log_probs: Floats
    """(G_k,): natural logarithm of the interpolated probability; -inf for bos alone."""
    log_backoffs: Floats
    """(G_k,): natural logarithm of the weight that the n-gram, as a context, gives to shorter contexts; 0 where it was
    never seen as a context, and empty at the highest order."""


class _Found(NamedTuple):
    """The n-grams of one order before they have probabilities."""

    offsets: Ints
    tokens: Ints
    suffixes: Ints  # (G_k,): the node of the order below that is the n-gram without its first token
    counts: Ints  # (G_k,): occurrences at the highest order, else left neighbours (filled from the order above)


def join_documents(tokens: Ints, starts: Ints, bos: int | None, eos: int | None) -> tuple[Ints, Ints]:
    """The documents `tokens[starts[i]:starts[i + 1]]` as one int32 stream `<bos> document <eos> <bos> ...`, and where
    each begins in it. Without bos and eos the stream is `tokens` itself; empty documents then leave no trace."""
    lengths = np.diff(starts)
    before, after = int(bos is not None), int(eos is not None)
    begins = starts[:-1] + (before + after) * np.arange(len(lengths), dtype=np.int64)
    body = tokens[starts[0] : starts[-1]].astype(np.int32, copy=False)
    if not before and not after:
        return body, (begins[lengths > 0] - starts[0])
    begins = begins - starts[0]
    stream = np.empty(len(body) + (before + after) * len(lengths), np.int32)
    inside = np.ones(len(stream), bool)
    if bos is not None:
        stream[begins] = bos
        inside[begins] = False
    if eos is not None:
        ends = begins + before + lengths
        stream[ends] = eos
        inside[ends] = False
    stream[inside] = body
    return stream, begins


def estimate(
    tokens: Ints, starts: Ints, *, order: int, vocab_size: int, bos: int | None, eos: int | None
) -> list[Level]:
    """Estimate every order up to `order`; the levels are `[order 1, ..., order n]`.

    Raises InputError (order below 1, ids outside the vocabulary, bos inside a document) and DataError (no tokens).
    """
    check_ids(tokens, vocab_size)
    for name, special in (("bos", bos), ("eos", eos)):
        if special is not None and not 0 <= special < vocab_size:
            raise InputError(f"{name} {special}: outside the vocabulary of {vocab_size} tokens")
    if order < 1:
        raise InputError(f"order {order}: an n-gram model has an order of at least 1")
    if bos is not None and bool(np.any(tokens[starts[0] : starts[-1]] == bos)):
        raise InputError(f"token {bos} is bos and stands inside a document; give the documents without it")
    stream, begins = join_documents(tokens, starts, bos, eos)
    if len(stream) == int(bos is not None) * len(begins):
        raise DataError("no tokens to count: every document is empty")
    return _probabilities(_count(stream, begins, order, vocab_size, bos), vocab_size, bos)


def check_ids(ids: Ints, vocab_size: int) -> None:
    """Raises InputError if an id is outside the vocabulary."""
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        worst = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise InputError(f"token id {worst}: outside the vocabulary of {vocab_size} tokens")


# ---------------------------------------------------------------- counting


def _count(stream: Ints, begins: Ints, order: int, vocab_size: int, bos: int | None) -> list[_Found]:
    nodes: Ints = stream
    counts = np.bincount(stream, minlength=vocab_size)
    first = _Found(np.array([0, vocab_size]), np.arange(vocab_size, dtype=np.int32), np.empty(0, np.int32), counts)
    found = [first]
    lengths = np.diff(np.append(begins, len(stream)))
    for depth in range(2, order + 1):
        below = found[-1]
        opening = nodes[begins[lengths >= depth - 1] + depth - 2]
        level, nodes = _extend(stream, begins, nodes, len(below.tokens), vocab_size)
        below.counts[:] = np.bincount(level.suffixes, minlength=len(below.tokens))
        if bos is None:
            below.counts[np.unique(opening)] += 1
        else:
            below.counts[:] += np.bincount(opening, minlength=len(below.tokens))
        found.append(level)
    if bos is not None:
        first.counts[bos] = 0
    return found


def _extend(stream: Ints, begins: Ints, nodes: Ints, parents: int, vocab_size: int) -> tuple[_Found, Ints]:
    """One order more: `nodes` (N,) holds the node that ends at each position, or -1, and so does the second result."""
    token_bits = (vocab_size - 1).bit_length()
    parent = np.empty_like(nodes)
    parent[1:] = nodes[:-1]
    parent[begins] = -1  # no n-gram crosses into another document
    at = np.flatnonzero(parent >= 0)
    keys = parent[at].astype(np.int64) << token_bits | stream[at]
    keys, where = _sort(keys, (parents - 1).bit_length() + token_bits)
    where = at[where]
    new = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    firsts = np.flatnonzero(new)
    longer = np.full(len(stream), -1, np.int32)
    longer[where] = np.cumsum(new, dtype=np.int32) - 1
    keys = keys[firsts]
    offsets = np.zeros(parents + 1, np.int64)
    np.cumsum(np.bincount(keys >> token_bits, minlength=parents), out=offsets[1:])
    return _Found(
        offsets=offsets,
        tokens=(keys & ((1 << token_bits) - 1)).astype(np.int32),
        suffixes=nodes[where[firsts]],
        counts=np.diff(np.append(firsts, len(where))),
    ), longer


def _sort(keys: Ints, key_bits: int) -> tuple[Ints, Ints]:
    """The sorted keys and where each came from; key and place in one integer where they fit, which sorts faster."""
    place_bits = len(keys).bit_length()
    if key_bits + place_bits > 63:
        where = np.argsort(keys)
        return keys[where], where
    packed = keys << place_bits | np.arange(len(keys))
    packed.sort()
    return packed >> place_bits, packed & ((1 << place_bits) - 1)


# ---------------------------------------------------------------- probabilities


def discounts(counts: Ints) -> tuple[float, float, float]:
    """The discounts of the counts 1, 2 and 3 or more, from the counts of counts (Chen & Goodman 1999, equation 17).

    Where a count of counts is 0 or a discount is not positive (tiny corpora, or hardly any rare n-grams), the formula
    says nothing, and all three of this order are `FALLBACK_DISCOUNTS`.
    """
    n1, n2, n3, n4 = (int(n) for n in np.bincount(np.minimum(counts, 5), minlength=6)[1:5])
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > 0 else FALLBACK_DISCOUNTS


def _probabilities(found: Sequence[_Found], vocab_size: int, bos: int | None) -> list[Level]:
    lower = np.full(1, 1.0 / (vocab_size - int(bos is not None)))  # the uniform distribution, as the node above order 1
    levels: list[Level] = []
    backoffs = np.empty(0)
    for depth, level in enumerate(found):
        taken = np.array((0.0, *discounts(level.counts)))[np.minimum(level.counts, 3)]
        sizes = np.diff(level.offsets)
        used = np.flatnonzero(sizes)
        total = np.add.reduceat(level.counts, level.offsets[used]).astype(np.float64)
        rest = np.ones(len(sizes))
        rest[used] = np.add.reduceat(taken, level.offsets[used]) / total
        if depth:
            levels[-1] = levels[-1]._replace(log_backoffs=np.log(rest))
        shorter = lower[level.suffixes] if depth else lower
        probs = (level.counts - taken) / np.repeat(total, sizes[used]) + np.repeat(rest[used], sizes[used]) * shorter
        if depth == 0 and bos is not None:
            probs[bos] = 0.0
        with np.errstate(divide="ignore"):
            levels.append(Level(level.offsets, level.tokens, np.log(probs), backoffs))
        lower = probs
    return levels

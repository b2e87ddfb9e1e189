"""The n-grams of a model as a trie in arrays, and finding many of them at once.

The n-grams of order k are the nodes at depth k, numbered in the order of (parent node, last token). So an n-gram is
found by one integer, its parent's number and its last token side by side, in a sorted array; and since sorting integers
is much faster than searching among them at random, a large batch of questions is sorted first.

Shapes: N tokens of the joined documents, V vocabulary size, G_k n-grams of order k (G_0 = 1, G_1 = V).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.errors import InputError

Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]

NONE = -1
SORTED_FROM = 2048  # questions; below, sorting them costs more than it saves


class Level(NamedTuple):
    """All n-grams of one order, sorted by (context, last token)."""

    offsets: Ints
    """(G_{k-1} + 1,): the n-grams that extend node i of the order below are `offsets[i]:offsets[i + 1]`."""
    tokens: Ints
    """(G_k,): the last token of each n-gram; order 1 has every token of the vocabulary."""
    log_probs: Floats
    """(G_k,): natural logarithm of the probability of the last token after the others; -inf for a token that is never
    predicted."""
    log_backoffs: Floats
    """(G_k,): natural logarithm of the weight that the n-gram, as a context, gives to the distribution after the
    context without its first token; 0 where it was never seen as a context, and empty at the highest order."""


def check_ids(ids: Ints, vocab_size: int) -> None:
    """Raises InputError if an id is outside the vocabulary."""
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        worst = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise InputError(f"token id {worst}: outside the vocabulary of {vocab_size} tokens")


def join_documents(tokens: Ints, starts: Ints, bos: int | None, eos: int | None) -> tuple[Ints, Ints]:
    """The documents `tokens[starts[i]:starts[i + 1]]` as one int32 stream `<bos> document <eos> <bos> ...`, and where
    each begins in it. Without bos and eos empty documents leave no trace. Raises InputError for impossible starts."""
    lengths = np.diff(starts)
    if len(starts) < 2 or starts[0] < 0 or starts[-1] > len(tokens) or bool(np.any(lengths < 0)):
        raise InputError(
            f"starts: expected rising places from 0 to {len(tokens)}, one for each document and one for the last end"
        )
    before, after = int(bos is not None), int(eos is not None)
    body = np.asarray(tokens[starts[0] : starts[-1]], np.int32)
    begins = starts[:-1].astype(np.int64) - starts[0] + (before + after) * np.arange(len(lengths))
    if not before and not after:
        return body, begins[lengths > 0]
    stream = np.empty(len(body) + (before + after) * len(lengths), np.int32)
    inside = np.ones(len(stream), bool)
    for special, place in ((bos, begins), (eos, begins + before + lengths)):
        if special is not None:
            stream[place] = special
            inside[place] = False
    stream[inside] = body
    return stream, begins


def preceding_nodes(nodes: Ints, begins: Ints) -> Ints:
    """The node that ends just before each place in the same document, or -1: `nodes` (N,) holds the node that ends at
    each place, or -1."""
    before = np.empty_like(nodes)
    before[:1] = NONE
    before[1:] = nodes[:-1]
    before[begins] = NONE
    return before


def join_keys(parents: Ints, tokens: Ints, vocab_size: int) -> Ints:
    """One integer for each (parent, token), in the same order."""
    keys: Ints = parents.astype(np.int64)
    keys <<= token_bits(vocab_size)
    keys |= tokens
    return keys


def token_bits(vocab_size: int) -> int:
    """The bits of a key that hold its token."""
    return (vocab_size - 1).bit_length()


def sort_keys(keys: Ints, parents: int, vocab_size: int) -> tuple[Ints, Ints]:
    """The sorted keys of nodes below `parents` nodes, and where each came from.

    Key and place travel in one integer where they fit: sorting plain integers is several times faster than argsort.
    """
    place_bits = len(keys).bit_length()
    if (parents - 1).bit_length() + token_bits(vocab_size) + place_bits > 63:
        where = np.argsort(keys)
        return keys[where], where
    packed = keys << place_bits
    packed |= np.arange(len(keys))
    packed.sort()
    where = packed & ((1 << place_bits) - 1)
    packed >>= place_bits
    return packed, where


class Finder:
    """Finds n-grams in the levels of a model."""

    def __init__(self, levels: Sequence[Level]):
        self.vocab_size = len(levels[0].tokens)
        self._parents = [len(level.offsets) - 1 for level in levels]
        self._keys = [
            join_keys(
                np.repeat(np.arange(len(level.offsets) - 1), np.diff(level.offsets)), level.tokens, self.vocab_size
            )
            for level in levels[1:]
        ]

    def find(self, order: int, parents: Ints, tokens: Ints) -> Ints:
        """The n-grams of `order` that extend each of the `parents` (of the order below) by each token: int32, or -1."""
        if order == 1:
            return tokens.astype(np.int32)
        known, wanted = self._keys[order - 2], join_keys(parents, tokens, self.vocab_size)
        if not len(known):
            return np.full(len(wanted), NONE, np.int32)
        where = None
        if len(wanted) >= SORTED_FROM:
            wanted, where = sort_keys(wanted, self._parents[order - 1], self.vocab_size)
        place = np.searchsorted(known, wanted)
        place[place == len(known)] = 0
        found = np.where(known[place] == wanted, place, NONE).astype(np.int32)
        if where is None:
            return found
        result = np.empty_like(found)
        result[where] = found
        return result


def faults(levels: Sequence[Level], vocab_size: int) -> str | None:
    """What is wrong with levels that were read from a file, in a few words, or None."""
    parents = 1
    for order, level in enumerate(levels, 1):
        size = len(level.tokens)
        inner = order < len(levels)
        if any(array.ndim != 1 for array in level):
            return f"order {order}: not flat arrays"
        if any(a.dtype.kind != "i" for a in level[:2]) or any(a.dtype != np.float64 for a in level[2:]):
            return f"order {order}: numbers of another type"
        if len(level.offsets) != parents + 1 or len(level.log_probs) != size or len(level.log_backoffs) != size * inner:
            return f"order {order}: arrays that do not fit each other"
        if order == 1 and not np.array_equal(level.tokens, np.arange(vocab_size)):
            return f"order 1: not the {vocab_size} tokens of the vocabulary"
        sizes = np.diff(level.offsets)
        if level.offsets[0] != 0 or level.offsets[-1] != size or bool(np.any(sizes < 0)):
            return f"order {order}: offsets that do not rise from 0 to {size}"
        if size and (int(level.tokens.min()) < 0 or int(level.tokens.max()) >= vocab_size):
            return f"order {order}: a token outside the vocabulary of {vocab_size}"
        keys = join_keys(np.repeat(np.arange(parents), sizes), level.tokens, vocab_size)
        if bool(np.any(keys[1:] <= keys[:-1])):
            return f"order {order}: n-grams out of order"
        if not bool(np.all(level.log_probs <= 1e-9)) or not bool(np.all(np.isfinite(level.log_backoffs))):
            return f"order {order}: a probability above 1, or not a number"
        parents = size
    return None

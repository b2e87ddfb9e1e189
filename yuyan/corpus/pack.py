"""Rows of equal length cut from documents, without waste, in an order that is a function of (seed, epoch, index).

`Packed`: each epoch puts the documents in a fresh order and joins them, `<s> document </s> <s> document </s> ...`, into a
ring of N tokens. From a random place on, the ring is cut into rows of `length` + 1 tokens, each overlapping the next by
one, so that a row gives `length` inputs and, one to the right, `length` labels; the rows too come in a random order.
Walking once around the ring makes every token an input once and a label once. When `length` does not divide N, the last
row goes on a little on the second lap: the few tokens after the starting place are then read twice in this epoch.

With weights, an epoch joins each document as often as its weight says (`yuyan.corpus.weight`). Its ring is then a little
longer or shorter than N, its rows are as many as always: the few tokens before the end may be left out, or read twice.

It never holds the tokens of an epoch: a row is gathered from the memory-mapped shards when somebody asks for it.

n rows, L length, D documents.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yuyan.corpus.order import DOCUMENTS, OFFSET, ROWS, number_below, permutation
from yuyan.corpus.shard import Shards
from yuyan.corpus.weight import Weights, drawn
from yuyan.errors import ConfigError, InputError
from yuyan.tokens.special import Special

Ids = NDArray[np.int64]
Documents = Literal["joined", "apart"]
"""Whether the documents of a row are one text to a network, or each is read by itself."""


class RowsOfDocuments(NamedTuple):
    """Both (n, L + 1): tokens, and which document of the row each belongs to (0, 1, ...)."""

    input_ids: Ids
    document_ids: Ids


class PackedRow(NamedTuple):
    """A row with the document that each of its tokens belongs to, (L + 1,) both."""

    input_ids: Ids
    document_ids: Ids


class _Epoch(NamedTuple):
    """The order of one epoch. `begins` (D,) is where each document begins on the ring of `tokens`."""

    number: int
    tokens: int
    documents: Ids
    begins: Ids
    rows: Ids
    start: int


class _Stretches(NamedTuple):
    """What rows consist of, flattened: stretches of documents, row after row."""

    documents: Ids
    begins: Ids  # of the document, on the ring (or the second lap)
    froms: Ids  # of the stretch, on the ring
    sizes: Ids
    at: Ids  # of the stretch, in the flattened rows


class Packed:
    """Rows of `length` + 1 tokens from the documents of `shards`, see above. `len()` is the rows of an epoch.

    `weights` (D,), if any, are how often each document is read in an epoch, on average. Raises InputError when the
    shards hold fewer tokens than one row.
    """

    def __init__(
        self,
        shards: Shards,
        length: int,
        *,
        seed: int,
        bos: int | None,
        eos: int | None,
        weights: Weights | None = None,
    ):
        if length < 1:
            raise ConfigError(f"length: a row has at least 1 token; got {length}")
        self.shards, self.length, self.seed, self.bos, self.eos, self.weights = shards, length, seed, bos, eos, weights
        self._before, self._after = int(bos is not None), int(eos is not None)
        self._offsets = shards.offsets
        self._sizes = np.diff(shards.offsets) + self._before + self._after
        self.tokens = int(self._sizes.sum())
        """Tokens of one epoch, with control tokens."""
        if self.tokens < length + 1:
            raise _too_few(self.tokens, length, str(shards.folder))
        self._epochs: dict[int, _Epoch] = {}

    @property
    def batch(self) -> int | None:
        """The rows of an update that the order is made for: none, but for `Continued`."""
        return None

    def __len__(self) -> int:
        return -(-self.tokens // self.length)

    def row(self, epoch: int, index: int) -> Ids:
        """Row `index` of `epoch`, (L + 1,)."""
        row: Ids = self.rows(epoch, [index])[0]
        return row

    def rows(self, epoch: int, indices: ArrayLike) -> Ids:
        """Several rows of an epoch, (n, L + 1). Raises IndexError for an index that is none."""
        stretches, count = self._stretches(epoch, indices)
        return self._gather(stretches, count)

    def rows_with_documents(self, epoch: int, indices: ArrayLike) -> RowsOfDocuments:
        """Several rows, with what a mask needs that keeps the documents of a row apart."""
        stretches, count = self._stretches(epoch, indices)
        width = self.length + 1
        first = np.searchsorted(stretches.at, np.arange(count) * width)  # the first stretch of each row
        per_row = np.diff(np.append(first, len(stretches.at)))
        number = np.arange(len(stretches.at)) - np.repeat(first, per_row)
        document_ids = np.repeat(number, stretches.sizes).reshape(count, width)
        return RowsOfDocuments(self._gather(stretches, count), document_ids)

    # ------------------------------------------------------------ the order

    def _epoch(self, number: int) -> _Epoch:
        """The order of an epoch; those of the last two are kept, as a batch may cross from one to the next."""
        found = self._epochs.get(number)
        if found is None:
            if self.weights is None:
                documents = permutation(len(self.shards), self.seed, number, DOCUMENTS)
            else:
                documents = drawn(self.weights, self.seed, number)
            until = np.cumsum(self._sizes[documents])
            tokens, begins = int(until[-1]), until - self._sizes[documents]
            rows = self._row_order(number)
            found = _Epoch(number, tokens, documents, begins, rows, number_below(tokens, self.seed, number, OFFSET))
            kept = dict(list(self._epochs.items())[-1:])
            self._epochs = kept | {number: found}  # one assignment: safe beside a reader in another thread
        return found

    def _row_order(self, number: int) -> Ids:
        """Which row of the ring each row of the epoch is."""
        return permutation(len(self), self.seed, number, ROWS)

    def _stretches(self, epoch: int, indices: ArrayLike) -> tuple[_Stretches, int]:
        """Which stretches of which documents the rows consist of."""
        order = self._epoch(epoch)
        chosen = _checked(indices, len(self))
        froms = (order.start + order.rows[chosen] * self.length) % order.tokens
        untils = froms + self.length + 1
        first = np.searchsorted(order.begins, froms, side="right") - 1
        laps, rest = np.divmod(untils - 1, order.tokens)
        last = np.searchsorted(order.begins, rest, side="right") - 1 + laps * len(order.begins)
        counts = last - first + 1
        number = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        lap, place = np.divmod(number, len(order.begins))
        documents = order.documents[place]
        begins = order.begins[place] + lap * order.tokens
        starts = np.maximum(begins, np.repeat(froms, counts))
        sizes = np.minimum(begins + self._sizes[documents], np.repeat(untils, counts)) - starts
        some = sizes > 0  # a document without text and control tokens has no place on the ring
        if not some.all():
            documents, begins, starts, sizes = documents[some], begins[some], starts[some], sizes[some]
        return _Stretches(documents, begins, starts, sizes, np.cumsum(sizes) - sizes), len(chosen)

    def _gather(self, stretches: _Stretches, count: int) -> Ids:
        documents, begins, froms, sizes, at = stretches
        # Token t of the flattened rows, in a stretch, is token t + shift of the shards; control tokens are put in after.
        shift = froms - begins - self._before + self._offsets[documents] - at
        source = np.repeat(shift, sizes)
        source += np.arange(len(source))
        ids = np.take(self.shards.flat, source, mode="clip").astype(np.int64)
        if self.bos is not None:
            ids[at[froms == begins]] = self.bos
        if self.eos is not None:
            ends = froms + sizes == begins + self._sizes[documents]
            ids[(at + sizes - 1)[ends]] = self.eos
        return ids.reshape(count, self.length + 1)


class Apart:
    """The rows of `packed`, told to which document each token belongs, so that a network can read each by itself."""

    def __init__(self, packed: Packed):
        self.packed, self.length = packed, packed.length

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def batch(self) -> int | None:
        """As the packed rows say."""
        return self.packed.batch

    def rows(self, epoch: int, indices: ArrayLike) -> list[PackedRow]:
        """Several rows of an epoch. Raises IndexError for an index that is none."""
        found = self.packed.rows_with_documents(epoch, indices)
        return [PackedRow(*row) for row in zip(found.input_ids, found.document_ids, strict=True)]


def arranged(rows: Packed, documents: Documents) -> Packed | Apart:
    """The rows, as a network is to read their documents."""
    return Apart(rows) if documents == "apart" else rows


def packed_rows(
    shards: Shards, special: Special, length: int, seed: int, *, whole: bool, weights: Weights | None = None
) -> Packed:
    """Rows of documents between the begin and end marks that a tokenizer has; unless they must be `whole`, shorter ones of
    a text too short for one. Raises InputError if there are fewer tokens than a row.
    """
    bos = special.cls if special.bos is None else special.bos
    eos = special.sep if special.eos is None else special.eos
    if not whole:
        marks = (bos is not None) + (eos is not None)
        length = max(1, min(length, shards.tokens + marks * len(shards) - 1))
    return Packed(shards, length, seed=seed, bos=bos, eos=eos, weights=weights)


def _checked(indices: ArrayLike, count: int) -> Ids:
    chosen = np.asarray(indices, dtype=np.int64)
    if chosen.ndim != 1:
        raise ValueError(f"indices are one-dimensional, not {chosen.shape}")
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= count):
        raise IndexError(f"row {chosen.min() if chosen.min() < 0 else chosen.max()} of {count}")
    return chosen


def _too_few(tokens: int, length: int, place: str) -> InputError:
    remedy = f"a length of at most {tokens - 1} would fit" if tokens > 1 else "there is nothing to predict"
    return InputError(
        f"{place}: {tokens:,} tokens, and one row of length {length:,} needs {length + 1:,}: {remedy}, or give more text"
    )

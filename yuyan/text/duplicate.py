"""Texts that are there already: exactly (but for case, width and white space), or nearly.

Near duplicates are found by locality-sensitive hashing of MinHash signatures (bands of rows: two documents are compared
if all rows of one band agree) and then verified: a document is dropped only if the true Jaccard similarity of its n-grams
with a kept earlier document reaches the threshold. So a false candidate costs time, never a text. Short texts have too
few n-grams for that and are dropped only when they are equal.

Only hashes are held: 16 bytes a document for equality, 8 a band for likeness, and those on disk, one band at a time.

Legend: D documents, B bands, R rows a band. Source: Broder 1997; Leskovec, Rajaraman and Ullman 2014, chapter 3.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rensa import RMinHash

from yuyan.config import Config
from yuyan.text.characters import Hashes, ngrams, units_of

_PERMUTATIONS = 120
_SEED = 20_240_229
_CACHE_BYTES = 48 << 20


class ExactDuplicates(Config):
    """Removal of documents that are there already."""

    fold: bool = True
    """Ignore case, width (full or half) and white space when comparing."""


class NearDuplicates(Config):
    """Removal of documents that are nearly there already."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the n-grams at which a document counts as a near duplicate."""
    ngram: int = Field(default=5, ge=1, le=50)
    """Units (words, or characters of Chinese and Japanese) in an n-gram."""
    shortest: int = Field(default=50, ge=1)
    """Documents of fewer units are compared for equality only."""


# ---------------------------------------------------------------- signatures


def equality_hash(text: str, config: ExactDuplicates) -> bytes:
    """Sixteen bytes that are equal for texts that count as equal."""
    if config.fold:
        text = text if text.isascii() else unicodedata.normalize("NFKC", text)
        text = "".join(text.casefold().split())
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands and rows: the longest bands with which a pair at the threshold is found with 99 % probability.

    P(found) = 1 - (1 - s^R)^B for similarity s.
    """
    for rows in range(12, 1, -1):
        bands = _PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= 0.99:
            return bands, rows
    return _PERMUTATIONS, 1


def band_hashes(texts: Sequence[str], config: NearDuplicates) -> tuple[Hashes, NDArray[np.bool_]]:
    """One hash a band for each text (D, B), and which texts are long enough to have any (D,)."""
    bands, rows = bands_for(config.threshold)
    result = np.zeros((len(texts), bands), dtype=np.uint64)
    units = units_of(texts)
    long = np.diff(units.starts) >= max(config.shortest, config.ngram)
    if not long.any():
        return result, long
    grams, starts = ngrams(units, config.ngram)
    # only long texts have rows in the matrix: the grams of the others are cut out
    lengths = np.diff(starts)
    kept = np.repeat(long, lengths)
    offsets = np.concatenate((np.zeros(1, np.uint64), np.cumsum(lengths[long]).astype(np.uint64)))
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams[kept], offsets, bands * rows, _SEED)
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, bands, rows)
    mixed = np.zeros(signatures.shape[:2], dtype=np.uint64)
    for row in range(rows):
        mixed = (mixed ^ signatures[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    result[long] = mixed
    return result, long


def gram_set(text: str, n: int) -> Hashes:
    """The distinct n-grams of a text, sorted."""
    return np.unique(ngrams(units_of([text]), n)[0])


def jaccard(left: Hashes, right: Hashes) -> float:
    """|A and B| / |A or B| of two sorted arrays without repeats."""
    both = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - both
    return both / union if union else 0.0


# ---------------------------------------------------------------- finding


def repeats(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row of (D, 2) the first row that equals it, or -1 if it is the first."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    order = np.lexsort((np.arange(len(hashes)), hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = order[np.maximum.accumulate(np.where(new, np.arange(len(hashes)), 0))]
    result = np.full(len(hashes), -1, dtype=np.int64)
    result[order[~new]] = first[~new]
    return result


class Near(NamedTuple):
    """A near duplicate: a document, the kept one it is like, and how much."""

    document: int
    like: int
    similarity: float


def candidate_groups(columns: Iterable[Hashes], documents: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
    """For each band the documents that share its hash with another: (pairs, 2) of group and document numbers.

    `columns` yields one (D,) array a band, for the `documents` (their numbers, ascending) that have signatures.
    """
    for column in columns:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        same = np.zeros(len(order) + 1, dtype=bool)
        same[1:-1] = ordered[1:] == ordered[:-1]
        grouped = same[:-1] | same[1:]
        if not grouped.any():
            continue
        group = np.cumsum(~same[:-1])[grouped]
        yield np.column_stack((group, documents[order[grouped]])).astype(np.int32)


class Comparison:
    """Decides which documents of the candidate groups are near duplicates, in the order of the documents.

    `text_of` fetches a text by its number; the n-grams of recent ones are kept within a fixed number of bytes.
    """

    compared_at_most = 64
    """Comparisons of one document: more candidates than this share a form letter, not a text."""
    kept_at_most = 256
    """Documents remembered for one group of candidates."""

    def __init__(self, config: NearDuplicates, text_of: Callable[[int], str]):
        self.config, self.text_of = config, text_of
        self.pairs = self.left_out = 0
        self._grams: OrderedDict[int, Hashes] = OrderedDict()
        self._bytes = 0

    def run(self, groups: Sequence[NDArray[np.int32]]) -> Iterator[Near]:
        """The near duplicates among `groups`: one (pairs, 2) array of (group, document) for each band."""
        if not groups:
            return
        bands = np.repeat(np.arange(len(groups), dtype=np.int32), [len(pairs) for pairs in groups])
        together = np.column_stack((np.concatenate(groups), bands))
        together = together[np.lexsort((together[:, 2], together[:, 1]))]
        keepers: dict[tuple[int, int], list[int]] = {}
        starts = np.flatnonzero(np.diff(together[:, 1], prepend=-1))
        for start, end in zip(starts, np.append(starts[1:], len(together)), strict=True):
            document = int(together[start, 1])
            keys = [(int(row[2]), int(row[0])) for row in together[start:end]]
            near = self._nearest(document, keys, keepers)
            if near is not None:
                yield near
            else:
                for key in keys:
                    kept = keepers.setdefault(key, [])
                    if len(kept) < self.kept_at_most:
                        kept.append(document)

    def _nearest(
        self, document: int, keys: list[tuple[int, int]], keepers: dict[tuple[int, int], list[int]]
    ) -> Near | None:
        """The first kept document that is like this one. Those that share most bands are tried first."""
        shared: dict[int, int] = {}
        for key in keys:
            for keeper in keepers.get(key, ()):
                shared[keeper] = shared.get(keeper, 0) + 1
        likely = sorted(shared, key=lambda keeper: (-shared[keeper], keeper))
        self.left_out += max(0, len(likely) - self.compared_at_most)
        for keeper in likely[: self.compared_at_most]:
            self.pairs += 1
            similarity = jaccard(self._gram_set(document), self._gram_set(keeper))
            if similarity >= self.config.threshold:
                return Near(document, keeper, similarity)
        return None

    def _gram_set(self, document: int) -> Hashes:
        if document in self._grams:
            self._grams.move_to_end(document)
            return self._grams[document]
        grams = gram_set(self.text_of(document), self.config.ngram)
        self._grams[document] = grams
        self._bytes += grams.nbytes
        while self._bytes > _CACHE_BYTES and len(self._grams) > 2:
            _, old = self._grams.popitem(last=False)
            self._bytes -= old.nbytes
        return grams

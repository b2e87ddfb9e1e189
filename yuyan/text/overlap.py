"""How much of the validation and test text stands, word for word, in the training text.

Compared are n-grams of units: 13 words, or 50 characters of Chinese and Japanese. Only the n-grams of the small parts
are held (one in so many if they are large); the training text streams past them.

Source: the 13-gram rule of Brown 2020 (GPT-3, appendix C); 50 characters is the length used by Lee 2022 for exact
substrings, in characters for scripts without spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from yuyan.text.characters import Hashes, Units, ngrams, units_of
from yuyan.text.document import Document
from yuyan.text.report import SAMPLES, OverlapReport, Sample, excerpt

WORDS, CHARACTERS = 13, 50
NGRAMS = f"{WORDS} words, or {CHARACTERS} characters of scripts without spaces"
_HELD = 2_000_000
_FILTER_BITS = 24


class Overlap:
    """The n-grams of one part, and which of them the training text has."""

    def __init__(self, documents: Iterable[Document], characters: int):
        """`characters`: about how many the documents have together; decides how many n-grams are held."""
        self.sampled = 1
        while characters // self.sampled > _HELD:
            self.sampled *= 2
        hashes: list[Hashes] = []
        owners: list[NDArray[np.int64]] = []
        self.ids: list[str] = []
        self.excerpts: list[str] = []
        self.comparable: list[bool] = []
        for batch in batches(documents):
            grams, owner, long = _grams([document.text for document in batch], self.sampled)
            hashes.append(grams)
            owners.append(owner + len(self.ids))
            self.ids += [document.id for document in batch]
            self.excerpts += [excerpt(document.text[:200]) for document in batch]
            self.comparable += long.tolist()
        together = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        self.owners = np.concatenate(owners) if owners else np.zeros(0, np.int64)
        self.distinct, self.which = np.unique(together, return_inverse=True)
        self.seen = np.zeros(len(self.distinct), dtype=bool)
        self._held = np.ones(len(self.ids), dtype=bool)
        self._filter = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._filter[self.distinct >> np.uint64(64 - _FILTER_BITS)] = True

    def look(self, texts: Sequence[str]) -> None:
        """Training text streams past."""
        if not len(self.distinct):
            return
        grams, _, _ = _grams(texts, self.sampled)
        grams = grams[self._filter[grams >> np.uint64(64 - _FILTER_BITS)]]
        at = np.minimum(np.searchsorted(self.distinct, grams), len(self.distinct) - 1)
        self.seen[at[self.distinct[at] == grams]] = True

    def shares(self) -> NDArray[np.float64]:
        """Of each document the share of n-grams that the training text has (D,); 0 for those left out."""
        every, hits = self._counts()
        return np.where(self._held, hits / np.maximum(every, 1), 0.0)

    def leave_out(self, documents: NDArray[np.int64]) -> None:
        """These are not part of it any more."""
        self._held[documents] = False

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """n-grams of each document, and those that the training text has."""
        count = len(self.ids)
        every = np.bincount(self.owners, minlength=count)
        return every, np.bincount(self.owners[self.seen[self.which]], minlength=count)

    def report(self) -> OverlapReport:
        """What was found."""
        every, hits = self._counts()
        every, hits, share = every * self._held, hits * self._held, self.shares()
        comparable = int((np.array(self.comparable, dtype=bool) & self._held).sum())
        worst = [int(i) for i in np.argsort(-share, kind="stable")[:SAMPLES] if hits[i]]
        return OverlapReport(
            documents=comparable, too_short=int(self._held.sum()) - comparable, touched=int((hits > 0).sum()),
            mostly=int((share > 0.5).sum()), share=float(round(hits.sum() / max(1, every.sum()), 6)), sampled=self.sampled,
            samples=[
                Sample(id=self.ids[i], reason=f"{100 * share[i]:.0f} % of it", excerpt=self.excerpts[i]) for i in worst
            ],
        )  # fmt: skip


def batches(documents: Iterable[Document], characters: int = 1 << 18) -> Iterator[list[Document]]:
    """Documents in lists of about so many characters."""
    held: list[Document] = []
    length = 0
    for document in documents:
        held.append(document)
        length += len(document.text)
        if length >= characters:
            yield held
            held, length = [], 0
    if held:
        yield held


def _grams(texts: Sequence[str], sampled: int) -> tuple[Hashes, NDArray[np.int64], NDArray[np.bool_]]:
    """n-grams of each text (G,), the text each belongs to (G,), and which texts are long enough for any (D,).

    A text is compared by characters if most of its units are characters.
    """
    units = units_of(texts)
    lengths = np.diff(units.starts)
    wide = 2 * units.solo > lengths
    hashes, owners = [], []
    for chosen, n in ((~wide, WORDS), (wide, CHARACTERS)):
        if not chosen.any():
            continue
        grams, owner = _of(units, chosen, n)
        if sampled > 1:
            kept = grams % np.uint64(sampled) == 0
            grams, owner = grams[kept], owner[kept]
        hashes.append(grams)
        owners.append(owner)
    long = lengths >= np.where(wide, CHARACTERS, WORDS)
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), long
    return np.concatenate(hashes), np.concatenate(owners), long


def _of(units: Units, chosen: NDArray[np.bool_], n: int) -> tuple[Hashes, NDArray[np.int64]]:
    grams, starts = ngrams(units, n)
    lengths = np.diff(starts)
    kept = np.repeat(chosen, lengths)
    return grams[kept], np.repeat(np.arange(len(lengths)), lengths)[kept]

"""Whether texts to measure on stand in the training data: exactly, but for case and spaces, or in long stretches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from yuyan.console import say, warn
from yuyan.text.document import Document
from yuyan.text.overlap import NGRAMS, Overlap

MOSTLY = 0.5
"""The share of a text's n-grams that makes it a copy."""


class Seen(NamedTuple):
    """Of each text whether it is in the training data (N,), and the place of the first that is."""

    copies: list[bool]
    first: str
    exact: int


def key_of(text: str) -> bytes:
    """The same for texts that differ in case and white space only."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def seen_in(training: Iterable[str], records: Sequence[Any]) -> Seen:
    """Which of the records' texts are in the training texts."""
    documents = [Document(record.where, record.text, {}) for record in records]
    overlap = Overlap(documents, sum(len(document.text) for document in documents))
    keys: set[bytes] = set()
    batch: list[str] = []
    for text in training:
        keys.add(key_of(text))
        batch.append(text)
        if len(batch) == 1000:
            overlap.look(batch)
            batch = []
    overlap.look(batch)
    exact = [key_of(record.text) in keys for record in records]
    copies = [same or share > MOSTLY for same, share in zip(exact, overlap.shares().tolist(), strict=True)]
    first = next((record.where for record, copy in zip(records, copies, strict=True) if copy), "")
    return Seen(copies, first, sum(exact))


def say_overlap(training: Sequence[Any], records: Sequence[Any], name: str) -> Seen:
    """Look, and say what was found."""
    seen = seen_in((record.text for record in training), records)
    count = sum(seen.copies)
    if count:
        warn(
            f"{name}: {count:,} of {len(records):,} texts ({100 * count / len(records):.1f} %) stand in the training data, "
            f"{seen.exact:,} of them word for word; the first is {seen.first}"
        )
    else:
        say(f"{name}: none of {len(records):,} texts stands in the training data (whole, or mostly by {NGRAMS})")
    return seen

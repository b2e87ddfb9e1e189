"""Training, validation and test: which document goes where.

`random` looks at nothing but the document's text and the seed, so that the order of files does not matter and a
document stays where it is when others are added. `ordered` keeps the order and cuts by characters, inside a document if
need be: the first part trains, the last tests, as is usual for one long text.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from yuyan.config import Config, Seed
from yuyan.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


class RandomSplit(Config):
    """Each document goes to a part by a hash of its text."""

    kind: Literal["random"] = "random"
    validation: float = Field(default=0.05, ge=0, lt=1)
    """Share of the documents for validation."""
    test: float = Field(default=0.05, ge=0, lt=1)
    """Share of the documents for the test."""
    seed: Seed = 0
    """Another seed, another division."""
    overlap: float | None = Field(default=0.2, ge=0, le=1)
    """A held-out document that stands in the training text to a larger share than this goes to training; null lets it
    stay."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        _check_shares(self.validation, self.test)
        return self


class OrderedSplit(Config):
    """The text in its order: first training, then validation, then test, cut at exact characters."""

    kind: Literal["ordered"] = "ordered"
    validation: float = Field(default=0.05, ge=0, lt=1)
    """Share of the characters for validation."""
    test: float = Field(default=0.05, ge=0, lt=1)
    """Share of the characters for the test; with 0 the validation part is the end of the text."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        _check_shares(self.validation, self.test)
        return self


class NoSplit(Config):
    """Everything trains."""

    kind: Literal["none"] = "none"


SplitConfig = Annotated[RandomSplit | OrderedSplit | NoSplit, Field(discriminator="kind")]


def _check_shares(validation: float, test: float) -> None:
    if validation + test >= 1:
        raise ValueError("validation and test leave nothing to train on")


class Part(NamedTuple):
    """The documents of one part by number, ascending. Of the first the characters before `start` are left out, of the last
    those from `end` on (None: none)."""

    documents: NDArray[np.int64]
    start: int = 0
    end: int | None = None


def split_hash(text: str, seed: int) -> int:
    """A number from 0 to 2^64 - 1 that depends on the text and the seed alone."""
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, key=f"split {seed}".encode()
    ).digest()
    return int.from_bytes(digest, "big")


def split_random(hashes: NDArray[np.uint64], config: RandomSplit) -> dict[str, Part]:
    """Documents by the hash of their texts: the lowest are validation, the next test.

    A part that was asked for has at least one document. Raises DataError if there are too few for that.
    """
    wanted = [name for name, share in ((VALIDATION, config.validation), (TEST, config.test)) if share > 0]
    if len(hashes) < len(wanted) + 1:
        raise DataError(_too_few(len(hashes), len(wanted) + 1))
    order = np.argsort(hashes, kind="stable")
    bound = 2.0**64
    ranked = hashes[order].astype(np.float64) / bound
    validation = int(np.searchsorted(ranked, config.validation, side="left"))
    test = int(np.searchsorted(ranked, config.validation + config.test, side="left")) - validation
    validation = max(validation, 1) if config.validation > 0 else 0
    test = max(test, 1) if config.test > 0 else 0
    if validation + test >= len(hashes):  # chance gave all to one side of a very small corpus
        validation, test = min(validation, 1), min(test, 1)
    numbers = {
        VALIDATION: order[:validation],
        TEST: order[validation : validation + test],
        TRAIN: order[validation + test :],
    }
    return {name: Part(np.sort(numbers[name])) for name in (TRAIN, *wanted)}


def split_ordered(lengths: NDArray[np.int64], config: OrderedSplit) -> dict[str, Part]:
    """Contiguous parts by characters: with n in all, training ends at floor(n (1 - validation - test)).

    Raises DataError if a part would be empty.
    """
    total = int(lengths.sum())
    validation, test = Decimal(str(config.validation)), Decimal(str(config.test))
    bounds = [0, int(total * (1 - validation - test)), int(total * (1 - test)), total]
    parts: dict[str, Part] = {}
    ends = np.cumsum(lengths)
    for name, share, low, high in zip(SPLITS, (1, validation, test), bounds[:-1], bounds[1:], strict=True):
        if share == 0:
            continue
        if low >= high:
            raise DataError(f"the text is too short to split: {total} characters leave none for {name}; give more text")
        parts[name] = _range(ends, lengths, low, high)
    return parts


def _range(ends: NDArray[np.int64], lengths: NDArray[np.int64], low: int, high: int) -> Part:
    """The documents, whole or in part, between two characters of the whole text."""
    first = int(np.searchsorted(ends, low, side="right"))
    last = int(np.searchsorted(ends, high, side="left"))
    begins = ends - lengths
    end = high - int(begins[last])
    numbers = np.arange(first, last + 1, dtype=np.int64)
    numbers = numbers[lengths[numbers] > 0]
    return Part(numbers, low - int(begins[first]), None if end == lengths[last] else end)


def _too_few(found: int, needed: int) -> str:
    count = "only one document is" if found == 1 else f"only {found} documents are" if found else "no document is"
    return (
        f"cannot split: {count} left, and {needed} are needed. Cut the text into smaller documents "
        "(data.documents=section or line), cut it in its order (data.split.kind=ordered), "
        "or name files of their own with data.validation and data.test"
    )

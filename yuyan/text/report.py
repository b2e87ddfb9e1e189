"""What was found, kept and dropped: the data report, as plain data that is stored beside the data.

It holds no times and no paths of this machine, so that the same input gives the same report everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from yuyan.errors import DataError

SAMPLES = 5
EXCERPT = 160


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(_Record):
    """A short excerpt of what a step dropped or changed, and why."""

    id: str
    reason: str
    excerpt: str


class SourceReport(_Record):
    """One file, or one member of an archive, that was read."""

    name: str
    format: str
    packing: str
    encoding: str
    encoding_found: str
    """given, byte order mark, valid, detected or guessed"""
    text_column: str | None
    """The column, and how it was chosen; null for plain text."""
    bytes: int
    """Of the text after unpacking."""
    characters: int
    """Zero where they were not counted before reading."""
    documents: int


class StepReport(_Record):
    """What one step of the cleaning did."""

    name: str
    documents_in: int
    documents_out: int
    dropped: int
    changed: int
    characters_dropped: int
    """Of dropped documents and of removed lines."""
    reasons: dict[str, int]
    """How often each reason was met: documents, or for `lines` lines."""
    samples: list[Sample]


class LanguageReport(_Record):
    """How much of the kept text is in a language."""

    documents: int
    characters: int


class SplitReport(_Record):
    """One part of the data."""

    documents: int
    characters: int
    bytes: int
    """Of the texts in UTF-8."""


class OverlapReport(_Record):
    """How much of one part stands in the training text too."""

    documents: int
    """Of the part, long enough to be compared."""
    too_short: int
    touched: int
    """Documents that share at least one n-gram with the training text."""
    mostly: int
    """Documents more than half of whose n-grams stand in the training text."""
    share: float
    """Share of the part's n-grams that stand in the training text."""
    sampled: int
    """One n-gram in so many was compared."""
    samples: list[Sample]


class DataReport(_Record):
    """Everything about how files became training, validation and test documents."""

    sources: list[SourceReport]
    skipped: dict[str, int]
    """Files that were met and not read, by reason."""
    skipped_samples: list[str]
    documents_are: str
    """A sentence: what counts as a document and how long texts were cut."""
    documents_read: int
    characters_read: int
    records_empty: int
    records_bad: int
    bad_samples: list[str]
    steps: list[StepReport]
    documents_kept: int
    characters_kept: int
    bytes_kept: int
    lengths: dict[str, int]
    """Characters a kept document: p5, p50, p95, max."""
    languages: dict[str, LanguageReport]
    split: str
    """A sentence: how the parts were made."""
    splits: dict[str, SplitReport]
    overlap: dict[str, OverlapReport]
    overlap_ngrams: str
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


def read_report(path: Path) -> DataReport:
    """A stored report. Raises DataError if it is none."""
    try:
        return DataReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise DataError(f"{path}: no data report; prepare the data again") from None


# ---------------------------------------------------------------- counting


def excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * EXCERPT].split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


@dataclass
class Tally:
    """The counts of one step. Tallies of batches add up, in order."""

    seen: int = 0
    dropped: int = 0
    changed: int = 0
    characters_dropped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[str, str, str]] = field(default_factory=list)

    def drop(self, ident: str, reason: str, text: str) -> None:
        """A document is dropped."""
        self.dropped += 1
        self.characters_dropped += len(text)
        self.note(ident, reason, text)

    def note(self, ident: str, reason: str, text: str, count: int = 1) -> None:
        """Something happened for a reason; the first few are kept as samples, each reason in its turn."""
        self.reasons[reason] = self.reasons.get(reason, 0) + count
        if len(self.samples) < SAMPLES * 8 and self.reasons[reason] <= SAMPLES:
            self.samples.append((ident, reason, excerpt(text)))

    def sample(self, ident: str, reason: str, text: str) -> None:
        """Keep a sample without counting it."""
        self.samples.append((ident, reason, excerpt(text)))

    def add(self, other: dict[str, Any]) -> None:
        """Add the plain form of another tally."""
        self.seen += other["seen"]
        self.dropped += other["dropped"]
        self.changed += other["changed"]
        self.characters_dropped += other["characters_dropped"]
        for reason, count in other["reasons"].items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        for ident, reason, text in other["samples"]:
            if len(self.samples) < SAMPLES * 8 and sum(1 for each in self.samples if each[1] == reason) < SAMPLES:
                self.samples.append((ident, reason, text))

    def report(self, name: str) -> StepReport:
        """The tally as part of the report, with five samples: of every reason one, before a second of any."""
        turns: dict[str, int] = {}
        ordered = []
        for sample in self.samples:
            turns[sample[1]] = turns.get(sample[1], 0) + 1
            ordered.append((turns[sample[1]], sample))
        chosen = [sample for _, sample in sorted(ordered, key=lambda item: item[0])[:SAMPLES]]
        return StepReport(
            name=name, documents_in=self.seen, documents_out=self.seen - self.dropped, dropped=self.dropped,
            changed=self.changed, characters_dropped=self.characters_dropped,
            reasons=dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            samples=[Sample(id=ident, reason=reason, excerpt=text) for ident, reason, text in chosen],
        )  # fmt: skip


def length_percentiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Of document lengths in characters."""
    if not len(lengths):
        return {}
    p5, p50, p95 = np.percentile(lengths, (5, 50, 95), method="nearest")
    return {"p5": int(p5), "p50": int(p50), "p95": int(p95), "max": int(lengths.max())}

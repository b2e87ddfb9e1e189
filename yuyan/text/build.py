"""The two halves of preparing data: cleaning documents onto disk, then deciding about them as a whole.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuyan.console import Task, progress
from yuyan.errors import DataError
from yuyan.text.document import Document
from yuyan.text.duplicate import Comparison, NearDuplicates, candidate_groups, repeats
from yuyan.text.overlap import batches
from yuyan.text.parallel import clean_all
from yuyan.text.read import Cutting, Reading
from yuyan.text.report import (
    Tally,
)
from yuyan.text.settings import CleanConfig, DataConfig
from yuyan.text.spill import Spill
from yuyan.text.split import RandomSplit
from yuyan.text.survey import Survey

BATCH = 1 << 18
"""Characters of a batch."""
SMALL = 4 << 20
"""Bytes of a corpus below which more processes would start later than one is done."""


@dataclass
class Material:
    """One set of sources after cleaning, and what was met on the way."""

    found: Survey
    reading: Reading
    cutting: Cutting
    spill: Spill
    keep: NDArray[np.bool_]
    """(D,) not dropped as duplicates."""


def clean_into(
    folder: Path, found: Survey, reading: Reading, cutting: Cutting, config: DataConfig, processes: int, *, drop: bool
) -> Material:
    """Read and clean everything that was found, onto disk; with `drop`, without what the rules drop."""
    size = sum(each.text_bytes for each in found.sources)
    clean = config.clean or CleanConfig.nothing()
    spill = Spill(folder)
    with progress("reading and cleaning", total=size) as task:
        documents = _shown(reading.run(found, cutting), task)
        workers = 1 if size < SMALL else processes
        seed = config.split.seed if isinstance(config.split, RandomSplit) else 0
        for cleaned in clean_all(batches(documents, BATCH), clean, seed=seed, drop=drop, processes=workers):
            spill.add(cleaned)
    spill.close_input()
    material = Material(found, reading, cutting, spill, np.ones(len(spill), dtype=bool))
    if not len(spill):
        raise DataError(_nothing_left(material))
    if drop:
        _drop_duplicates(material, clean)
    return material


def _shown(documents: Iterator[Document], task: Task) -> Iterator[Document]:
    """Progress by the bytes of the texts."""
    for document in documents:
        yield document
        task.advance(len(document.text) if document.text.isascii() else len(document.text.encode("utf-8", "replace")))


def _nothing_left(material: Material) -> str:
    names = ", ".join(each.source.name for each in material.found.sources[:3])
    dropped = {name: tally.dropped for name, tally in material.spill.tallies.items() if tally.dropped}
    if not dropped:
        return f"{names}: no training text: every record is empty"
    said = ", ".join(f"{count:,} by {name}" for name, count in dropped.items())
    steps = " ".join(f"data.clean.{name}=null" for name in dropped)
    return f"{names}: nothing is left after cleaning: dropped were {said}; look with `yuyan data`, or switch off with {steps}"


# ---------------------------------------------------------------- duplicates


def _drop_duplicates(material: Material, clean: CleanConfig) -> None:
    spill, keep = material.spill, material.keep
    if clean.exact_duplicates is not None:
        tally = spill.tallies["exact_duplicates"] = Tally(seen=int(keep.sum()))
        first = repeats(spill.equality)
        keep[first >= 0] = False
        tally.dropped = int((first >= 0).sum())
        tally.characters_dropped = int(spill.characters[first >= 0].sum())
        if tally.dropped:
            tally.reasons["equal to an earlier document"] = tally.dropped
        for number in np.flatnonzero(first >= 0)[:5]:
            document, original = spill.document(int(number)), spill.document(int(first[number]))
            tally.sample(document.id, f"equal to {original.id}", document.text)
    if clean.near_duplicates is not None:
        with progress("comparing near duplicates"):
            _drop_near(material, clean.near_duplicates)
    if len(keep) > 1 and keep.sum() == 1:
        name = material.found.sources[0].source.name
        raise DataError(
            f"{name}: all {len(keep):,} documents are the same text; one is left, and that cannot be split. "
            "Give more text, or keep duplicates with data.clean.exact_duplicates=null data.clean.near_duplicates=null"
        )


def _drop_near(material: Material, config: NearDuplicates) -> None:
    spill, keep = material.spill, material.keep
    tally = spill.tallies["near_duplicates"] = Tally(seen=int(keep.sum()))
    still = keep[spill.long]
    comparison = Comparison(config, lambda number: spill.document(number).text)
    groups = list(candidate_groups(spill.band_columns(still), spill.long[still]))
    for near in comparison.run(groups):
        keep[near.document] = False
        tally.dropped += 1
        tally.characters_dropped += int(spill.characters[near.document])
        if tally.dropped <= 5:
            document, original = spill.document(near.document), spill.document(near.like)
            tally.sample(document.id, f"{100 * near.similarity:.0f} % like {original.id}", document.text)
    if tally.dropped:
        tally.reasons["like an earlier document"] = tally.dropped
    if comparison.left_out:
        tally.reasons["comparisons not made (too many alike)"] = comparison.left_out

"""Dividing cleaned documents, keeping the held-out parts honest, and writing each part.

A held-out document that stands to a large share in the training text (a chapter that is quoted whole elsewhere, a
variant too short or too different for the duplicate rules) measures memory, not modelling. Under a random split such
documents go to training, whatever part they fell into; their text is not lost and the score is not flattered.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuyan.console import progress
from yuyan.text.document import Document, to_line
from yuyan.text.overlap import Overlap, batches
from yuyan.text.report import SplitReport
from yuyan.text.spill import Spill
from yuyan.text.split import TRAIN, Part


@dataclass(frozen=True)
class Portion:
    """The documents of one part: `numbers` (D,) in `spill`, ascending; of the first the characters before `start` are
    left out, of the last those from `end` on."""

    spill: Spill
    numbers: NDArray[np.int64]
    start: int = 0
    end: int | None = None

    @classmethod
    def of(cls, spill: Spill, chosen: NDArray[np.int64], part: Part) -> Portion:
        """A part of the `chosen` documents of `spill`."""
        return cls(spill, chosen[part.documents], part.start, part.end)

    @property
    def characters(self) -> int:
        """About how many: cut documents count whole."""
        return int(self.spill.characters[self.numbers].sum())

    def documents(self) -> Iterator[Document]:
        """The documents, cut where they must be."""
        for index in range(len(self.numbers)):
            yield self._document(index)

    def _cut(self, index: int) -> tuple[int, int | None]:
        return (self.start if index == 0 else 0), (self.end if index == len(self.numbers) - 1 else None)

    def _document(self, index: int) -> Document:
        document = self.spill.document(int(self.numbers[index]))
        start, end = self._cut(index)
        if not start and end is None:
            return document
        ident = f"{document.id}[{start}:{'' if end is None else end}]"
        return Document(ident, document.text[start:end], document.meta)

    def write(self, path: Path) -> SplitReport:
        """Copy the lines; only a document that is cut is opened."""
        characters = size = 0
        with path.open("wb") as file:
            for index, number in enumerate(map(int, self.numbers)):
                if self._cut(index) == (0, None):
                    file.write(self.spill.line(number))
                    characters, size = (
                        characters + int(self.spill.characters[number]),
                        size + int(self.spill.bytes[number]),
                    )
                else:
                    document = self._document(index)
                    file.write(to_line(document).encode())
                    characters, size = characters + len(document.text), size + len(document.text.encode())
        return SplitReport(documents=len(self.numbers), characters=characters, bytes=size)


def measure_overlap(portions: Mapping[str, Portion]) -> dict[str, Overlap]:
    """What each held-out part shares with the training text, which streams past once."""
    overlaps = {name: Overlap(each.documents(), each.characters) for name, each in portions.items() if name != TRAIN}
    if not overlaps:
        return {}
    train = portions[TRAIN]
    with progress("measuring overlap", total=len(train.numbers)) as task:
        for batch in batches(train.documents()):
            for overlap in overlaps.values():
                overlap.look([document.text for document in batch])
            task.advance(len(batch))
    return overlaps


def move_to_training(
    portions: dict[str, Portion], overlaps: dict[str, Overlap], limit: float
) -> tuple[dict[str, Portion], int]:
    """Move held-out documents more of whose n-grams than `limit` stand in the training text; returns how many went.

    What moves becomes training text and may touch others, so it is done until nothing moves. No part loses more than half
    of its documents: a text that repeats itself that much cannot be divided by documents at all, and the report says so.
    """
    moved: list[NDArray[np.int64]] = []
    room = {name: len(portions[name].numbers) // 2 for name in overlaps}
    while True:
        went = 0
        for name, overlap in overlaps.items():
            shares = overlap.shares()
            worst = np.argsort(-shares, kind="stable")[: room[name]]
            worst = worst[shares[worst] > limit]
            if not len(worst):
                continue
            room[name] -= len(worst)
            went += len(worst)
            overlap.leave_out(worst)
            numbers = portions[name].numbers[worst]
            moved.append(numbers)
            texts = [portions[name].spill.document(int(number)).text for number in numbers]
            for other in overlaps.values():
                other.look(texts)
        if not went:
            break
    if not moved:
        return portions, 0
    gone = np.concatenate(moved)
    result = {name: replace(each, numbers=np.setdiff1d(each.numbers, gone)) for name, each in portions.items()}
    result[TRAIN] = replace(result[TRAIN], numbers=np.union1d(portions[TRAIN].numbers, gone))
    return result, len(gone)

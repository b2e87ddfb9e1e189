"""Cleaned documents on disk while the global steps decide about them: their lines in one file, numbers in memory.

Held per document are some 70 bytes; the band hashes of long documents lie on disk, one file a band. A text is fetched
again by its number.

Legend: D documents, B bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from yuyan.text.clean import Cleaned
from yuyan.text.document import Document, from_line
from yuyan.text.report import Tally


class Spill:
    """Documents in the order in which they came."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tallies: dict[str, Tally] = {}
        self.languages: list[str] = []
        self._codes: dict[str, int] = {}
        self._parts: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("ends", "characters", "bytes", "equality", "split", "language", "long")
        }
        self._size = self._count = 0
        self._lines: IO[bytes] = (folder / "lines").open("w+b")
        self._bands: list[IO[bytes]] = []

    def add(self, cleaned: Cleaned) -> None:
        """Take in a cleaned batch."""
        for name, plain in cleaned.tallies.items():
            self.tallies.setdefault(name, Tally()).add(plain)
        self._lines.write(cleaned.lines)
        self._parts["ends"].append(cleaned.line_ends + self._size)
        self._size += len(cleaned.lines)
        for name in ("characters", "bytes", "equality", "split"):
            self._parts[name].append(getattr(cleaned, name))
        for code in cleaned.languages:
            if code not in self._codes:
                self._codes[code] = len(self.languages)
                self.languages.append(code)
        codes = [self._codes[code] for code in cleaned.languages]
        self._parts["language"].append(np.array(codes, dtype=np.int16))
        self._parts["long"].append(np.flatnonzero(cleaned.long) + self._count)
        self._count += len(cleaned.languages)
        self._add_bands(cleaned)

    def _add_bands(self, cleaned: Cleaned) -> None:
        if not cleaned.long.any():
            return
        columns = np.ascontiguousarray(cleaned.bands[cleaned.long].T)
        if not self._bands:
            self._bands = [(self.folder / f"band-{band}").open("w+b") for band in range(len(columns))]
        for file, column in zip(self._bands, columns, strict=True):
            file.write(column.tobytes())

    def close_input(self) -> None:
        """All batches are in: the numbers become arrays."""
        self._lines.flush()
        arrays: dict[str, NDArray[Any]] = {
            name: np.concatenate(parts) if parts else np.zeros((0, 2) if name == "equality" else 0)
            for name, parts in self._parts.items()
        }
        self._parts.clear()
        self.ends = arrays["ends"].astype(np.int64)
        self.starts = np.concatenate((np.zeros(1, np.int64), self.ends[:-1])) if len(self.ends) else self.ends
        self.characters = arrays["characters"].astype(np.int64)
        self.bytes = arrays["bytes"].astype(np.int64)
        self.equality = arrays["equality"].astype(np.uint64)
        self.split = arrays["split"].astype(np.uint64)
        self.language = arrays["language"].astype(np.int16)
        self.long = arrays["long"].astype(np.int64)

    def __len__(self) -> int:
        return self._count

    def band_columns(self, keep: NDArray[np.bool_]) -> Iterator[NDArray[np.uint64]]:
        """One band's hashes at a time, of the long documents that `keep` (of all long ones) chooses."""
        for file in self._bands:
            file.flush()
            file.seek(0)
            yield np.fromfile(file, dtype=np.uint64)[keep]

    def line(self, number: int) -> bytes:
        """The JSON line of a document."""
        start = int(self.starts[number])
        self._lines.seek(start)
        return self._lines.read(int(self.ends[number]) - start)

    def document(self, number: int) -> Document:
        """A document by its number."""
        return from_line(self.line(number))

    def close(self) -> None:
        """Let go of the files and delete them."""
        for file in (self._lines, *self._bands):
            file.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

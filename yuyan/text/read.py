"""From sources to documents, one at a time, in the order of the files.

What counts as a document is decided once for the corpus (`Cutting`), before reading, and said in the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from yuyan.console import warn
from yuyan.errors import DataError
from yuyan.text.column import Column, Row, Trouble, lines
from yuyan.text.document import Document
from yuyan.text.encoding import decode
from yuyan.text.json_records import (
    UnreadableJson,
    json_column,
    json_line_column,
    json_line_rows,
    json_rows,
    json_values,
)
from yuyan.text.section import Section, cut
from yuyan.text.settings import DataConfig
from yuyan.text.source import Skipped, blocks
from yuyan.text.split import TEST, TRAIN, VALIDATION
from yuyan.text.survey import Survey, Surveyed, survey
from yuyan.text.table import csv_rows, csv_shape, parquet_column, parquet_rows

SECTION_BYTES = 4000
LONGEST = 4_000_000
"""Characters of the longest document: what is longer is cut, so that memory stays bounded."""

MOST_SAID = 5
"""Warnings of files that cannot be read."""


class Cutting(NamedTuple):
    """What a document is: `file`, `line`, or `section` of about `size` characters."""

    kind: Literal["file", "line", "section"]
    size: int
    said: str


@dataclass
class Reading:
    """Reads surveyed sources, and counts what it meets."""

    config: DataConfig
    trouble: Trouble = field(default_factory=Trouble)
    columns: dict[str, str] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    """How often a section ended at which kind of place."""
    overlong: int = 0
    unreadable: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trouble.skip_bad = self.config.skip_bad_records

    def run(self, found: Survey, cutting: Cutting) -> Iterator[Document]:
        """Every document, in order. Raises DataError naming file and line."""
        for surveyed in found.sources:
            name = surveyed.source.name
            self.documents[name] = self.characters[name] = 0
            for document in self._one(surveyed, cutting):
                self.documents[name] += 1
                self.characters[name] += len(document.text)
                yield document

    def _one(self, surveyed: Surveyed, cutting: Cutting) -> Iterator[Document]:
        source = surveyed.source
        if source.format != "text":
            return self._records(surveyed, cutting)
        texts = decoded(surveyed, self.config)
        if cutting.kind == "line":
            return self._lines(texts, source.name)
        return self._pieces(texts, source.name, cutting, source.name)

    def _lines(self, texts: Iterable[str], name: str) -> Iterator[Document]:
        for number, line in enumerate(lines(texts, name), 1):
            if text := line.strip("\r\n"):
                yield Document(f"{name}:{number}", text, {"source": name})

    def _pieces(self, texts: Iterable[str], ident: str, cutting: Cutting, name: str) -> Iterator[Document]:
        """A text whole, or in sections; in pieces of the greatest length if it is too long to be held."""
        sections = cutting.kind == "section"
        pieces = cut(texts, cutting.size if sections else LONGEST)
        first: Section | None = None
        for number, piece in enumerate(pieces, 1):
            if first is None:
                first = piece
                if piece.ends_at == "end":  # it is the whole text
                    yield Document(ident, piece.text, {"source": name})
                    return
            self.ends[piece.ends_at] = self.ends.get(piece.ends_at, 0) + 1
            self.overlong += not sections
            yield Document(f"{ident}#{number}", piece.text, {"source": name})

    def _records(self, surveyed: Surveyed, cutting: Cutting) -> Iterator[Document]:
        name = surveyed.source.name
        try:
            rows = self._rows(surveyed)
            first = next(rows, None)
        except DataError as error:
            if surveyed.source.found and surveyed.source.format == "json" and name not in self.columns:
                self._pass_over(name, error)
                return
            raise
        while first is not None:
            ident = f"{name}:{first.number}"
            if self.config.documents == "section" or len(first.text) > LONGEST:
                yield from self._pieces([first.text], ident, cutting, name)
            else:
                yield Document(ident, first.text, {"source": name})
            first = next(rows, None)

    def _pass_over(self, name: str, error: DataError) -> None:
        """A JSON document that was met in a folder: the settings of some tool, unless it cannot be read at all."""
        unreadable = isinstance(error, UnreadableJson)
        self.skipped.append(Skipped(name, "JSON that cannot be read" if unreadable else "JSON without texts"))
        self.trouble.samples.append(str(error))
        self.unreadable += unreadable
        if unreadable and self.unreadable <= MOST_SAID:
            rest = ", and further such files without a word" if self.unreadable == MOST_SAID else ""
            warn(f"{error}; the file is passed over{rest}")

    def _rows(self, surveyed: Surveyed) -> Iterator[Row]:
        source, wanted = surveyed.source, self.config.text_column
        name = source.name
        column: Column | None
        if source.format == "parquet":
            column = parquet_column(source, wanted)
            self._chosen(name, column)
            return parquet_rows(source, column, self.trouble)
        if source.format == "json":
            values: list[Any] = json_values(decoded(surveyed, self.config), name, surveyed.source.part)
            column = json_column(values, name, wanted)
            self._chosen(name, column)
            return json_rows(values, name, column, self.trouble)
        if source.format == "jsonl":
            column = json_line_column(decoded(surveyed, self.config), name, wanted)
            self._chosen(name, column)
            return json_line_rows(decoded(surveyed, self.config), name, column, self.trouble)
        start = start_of(decoded(surveyed, self.config))
        delimiter, column, width = csv_shape(start, name, wanted, source.format == "tsv")
        self._chosen(name, column)
        return csv_rows(decoded(surveyed, self.config), name, delimiter, column, width, self.trouble)

    def _chosen(self, name: str, column: Column | None) -> None:
        if column is not None:
            self.columns[name] = f"{column.name} ({column.how}{'' if column.header else '; no header'})"


def start_of(texts: Iterable[str], length: int = 1 << 18) -> str:
    """The first characters of a stream."""
    held: list[str] = []
    for text in texts:
        held.append(text)
        if sum(map(len, held)) >= length:
            break
    return "".join(held)[:length]


def decoded(surveyed: Surveyed, config: DataConfig) -> Iterator[str]:
    """The characters of a source."""
    return decode(
        blocks(surveyed.source), surveyed.encoding.name, surveyed.source.name,
        replace=config.undecodable == "replace", skip=surveyed.skip,
    )  # fmt: skip


def choose_cutting(sources: Sequence[Surveyed], config: DataConfig) -> Cutting:
    """What a document is in this corpus."""
    texts = [each for each in sources if each.source.format == "text"]
    size = _section_size(texts, config)
    if config.documents == "section":
        return Cutting("section", size, f"sections of about {size:,} characters")
    if config.documents == "line":
        return Cutting("line", 0, "lines" if texts else "records")
    if config.documents == "file":
        return Cutting("file", 0, "files" if texts else "records")
    if not texts:
        return Cutting("file", 0, "records")
    characters = sum(each.characters for each in texts)
    few = len(texts) < 20 or (len(texts) < 100 and characters > 20_000 * len(texts))
    rest = "" if len(texts) == len(sources) else ", and records"
    if few and characters > size * 3 // 2:
        said = f"sections of about {size:,} characters, because there {_are(len(texts))}{rest}"
        return Cutting("section", size, said)
    return Cutting("file", 0, f"files{rest}")


def _are(count: int) -> str:
    return "is only one text file" if count == 1 else f"are only {count} text files"


def _section_size(texts: Sequence[Surveyed], config: DataConfig) -> int:
    """Characters of a section: 4,000 bytes, or what makes about 200 sections of a small corpus, but at least 400 bytes."""
    if config.section_characters is not None:
        return config.section_characters
    size = sum(each.text_bytes for each in texts)
    characters = sum(each.characters for each in texts)
    wanted = min(SECTION_BYTES, max(SECTION_BYTES // 10, size // 200))
    about = wanted * characters // size if size and characters else wanted
    return round(about, -2) if about >= 1000 else max(1, about)


def look(paths: Sequence[Path], config: DataConfig) -> Survey:
    """What is under `paths`, as the config reads it. Raises DataError."""
    return survey(list(paths), config.encoding, replace=config.undecodable == "replace")


def look_at_parts(config: DataConfig) -> dict[str, Survey]:
    """What there is to train on, and the files for validation and test where they are given. Raises DataError."""
    given = {TRAIN: config.sources, VALIDATION: config.validation, TEST: config.test}
    return {part: look(paths, config) for part, paths in given.items() if paths or part == TRAIN}


def read_documents(paths: Sequence[Path], config: DataConfig | None = None) -> Iterator[Document]:
    """The documents in `paths`, as they are, in order; nothing is cleaned. Raises DataError."""
    config = config or DataConfig()
    found = look(paths, config)
    yield from Reading(config).run(found, choose_cutting(found.sources, config))


__all__ = ["Cutting", "Reading", "choose_cutting", "look", "look_at_parts", "read_documents"]

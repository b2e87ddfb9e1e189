"""A document is a text with a name: the unit that is cleaned, compared, split and packed.

On disk a document is one JSON line `{"id": ..., "text": ..., "source": ..., ...}`; whatever is not `id` or `text` is its
`meta`. Texts are plain text: nothing in them is ever taken for a control token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yuyan.errors import DataError
from yuyan.store import write_atomically


@dataclass(frozen=True, slots=True)
class Document:
    """A text, what to call it, and what is known about it (source file, language)."""

    id: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


def to_line(document: Document) -> str:
    """The document as one JSON line, with its newline."""
    return json.dumps({"id": document.id, "text": document.text, **document.meta}, ensure_ascii=False) + "\n"


def from_line(line: str | bytes) -> Document:
    """The document that `to_line` wrote. Raises ValueError or KeyError on anything else."""
    row = json.loads(line)
    return Document(row.pop("id"), row.pop("text"), row)


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as JSON lines, all or nothing; returns how many. Raises StorageError."""
    count = 0
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for count, document in enumerate(documents, 1):  # noqa: B007
            file.write(to_line(document))
    return count


def read_written(path: Path) -> Iterator[Document]:
    """The documents of a file that `write_documents` or `prepare` wrote. Raises DataError naming file and line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield from_line(line)
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise DataError(f"{path}:{number}: not a document of ours; prepare the data again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None

"""Records: which column of them is the text, and what happens to a record that cannot be used.

The text column is the one the user names, else one with a usual name, else the one with clearly the longest texts; which
it was and why goes into the report. A bad record is an error that names file and line and says how to mend it; with
`data.skip_bad_records` it is counted instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from yuyan.config import did_you_mean
from yuyan.errors import DataError

USUAL = (
    "text", "content", "contents", "document", "body", "article", "review", "sentence", "passage", "paragraph",
    "paragraphs", "story", "message", "comment", "abstract", "utterance", "raw_content", "原文", "正文", "内容", "文本",
    "全文", "評論", "评论", "內容", "文章", "句子",
)  # fmt: skip
"""Names under which texts are usually found, in order of preference."""
RECORD = 32 << 20
"""Longest record, in characters."""
SAMPLE = 100


class Column(NamedTuple):
    """Where the text is. `position` counts from 0 in tables; `header`: the first row holds names."""

    name: str
    position: int
    how: str
    header: bool = True


class Row(NamedTuple):
    """A text and the line (JSON lines, CSV) or the record (JSON, parquet) it comes from."""

    text: str
    number: int


@dataclass
class Trouble:
    """What went wrong with records while reading, and whether that stops us."""

    skip_bad: bool = False
    bad: int = 0
    samples: list[str] = field(default_factory=list)
    empty: int = 0
    surrogates: int = 0

    def report(self, message: str) -> None:
        """A record cannot be used: raise DataError, or count it."""
        if not self.skip_bad:
            raise DataError(
                f"{message}; mend it, or pass over such records with data.skip_bad_records=true (all commands but train: --set data.skip_bad_records=true)"
            )
        self.bad += 1
        if len(self.samples) < 5:
            self.samples.append(message)


# ---------------------------------------------------------------- lines


def lines(texts: Iterable[str], name: str, limit: int = RECORD) -> Iterator[str]:
    """A stream cut after each newline (and only there: U+2028 or a form feed ends no line). Of a stream that begins with
    returns and no newline, as old Macs wrote it, the returns are the newlines."""
    held: list[str] = []
    length = number = 0
    returns: bool | None = None
    for text in texts:
        if returns is None:
            returns = "\r" in text[:-1] and "\n" not in text
        pieces = (text.replace("\r", "\n") if returns else text).split("\n")
        for piece in pieces[:-1]:
            number += 1
            yield "".join((*held, piece, "\n")) if held else piece + "\n"
            held, length = [], 0
        if pieces[-1]:
            held.append(pieces[-1])
            length += len(pieces[-1])
        if length > limit:
            raise DataError(
                f"{name}:{number + 1}: a record of more than {limit >> 20} million characters; "
                "cut it into smaller ones, or if this is plain text, name the file .txt"
            )
    if held:
        yield "".join(held)


# ---------------------------------------------------------------- choosing the column


def choose_column(
    rows: Sequence[dict[str, Any]], wanted: str | None, name: str, key: str = "data.text_column"
) -> Column:
    """The column of the texts among the first `rows` of `name`, which `key` may name. Raises DataError listing what there
    is."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    listed = ", ".join(keys[:12]) + (", ..." if len(keys) > 12 else "")
    if wanted is not None:
        if wanted not in keys:
            raise DataError(f"{name}: no column {wanted!r}{did_you_mean(wanted, keys)} ({key}); it has: {listed}")
        return Column(wanted, keys.index(wanted), "given")
    texts = {key: [row[key] for row in rows if _istext_of(row.get(key))] for key in keys}
    names = {key.strip().lower(): key for key in reversed(keys) if texts[key]}
    for usual in USUAL:
        if usual in names:
            key = names[usual]
            return Column(key, keys.index(key), "by its name")
    means = sorted(((sum(map(_length, found)) / len(rows), key) for key, found in texts.items() if found), reverse=True)
    if means and means[0][0] >= 8 and (len(means) == 1 or means[0][0] >= 2 * means[1][0]):
        return Column(means[0][1], keys.index(means[0][1]), "by the length of its texts")
    raise DataError(f"{name}: which column is the text? Say it with {key}=NAME; it has: {listed or 'none'}")


def _istext_of(value: object) -> TypeGuard[str | list[str]]:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    )


def _length(value: str | list[str]) -> int:
    return len(value) if isinstance(value, str) else sum(map(len, value))


def text_of(value: object, where: str, column: str, trouble: Trouble) -> str | None:
    """The text in a cell; a list of lines is joined. None if there is none."""
    if value is None or value == "" or value == []:
        trouble.empty += 1
        return None
    if not _istext_of(value):
        trouble.report(f"{where}: {column!r} is {kind_of(value)}, not text")
        return None
    text = value if isinstance(value, str) else "\n".join(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # \ud83d alone in JSON: half a character, which cannot be stored
        trouble.surrogates += 1
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not text.strip():
        trouble.empty += 1
        return None
    return text


def kind_of(value: object) -> str:
    names = {
        bool: "true or false", dict: "an object", list: "a list", int: "a number", float: "a number", str: "a text",
        type(None): "null",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)

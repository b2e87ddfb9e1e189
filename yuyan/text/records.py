"""Records with several named parts: a prompt and its answer, a query and its document. One JSON object a line.

A part is a text; a list of texts where the record may have several of a kind; where it is asked for, a list of token ids.
Anything else is an error that names file, line and part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text.column import Trouble, kind_of
from yuyan.text.json_records import json_lines
from yuyan.text.read import decoded
from yuyan.text.settings import DataConfig
from yuyan.text.survey import Survey

Record = dict[str, Any]
"""By the names of a `Shape`: texts, lists of texts, lists of ids."""


@dataclass(frozen=True)
class Shape:
    """Which parts a record has."""

    texts: tuple[str, ...]
    """Parts that each record has."""
    lists: tuple[str, ...] = ()
    """Parts that are a list of texts, and may be missing."""
    ids: tuple[str, ...] = ()
    """Those of `texts` that may also be given as token ids."""
    filled: tuple[str, ...] = ()
    """Those of `texts` that must not be empty."""


def read_records(found: Survey, shape: Shape, fields: Mapping[str, str], config: DataConfig) -> Iterator[Record]:
    """The records of every source; `fields` says what a part is called in the files where that is another name.

    Raises DataError for the first record that cannot be used, unless `config.skip_bad_records`.
    """
    trouble = Trouble(config.skip_bad_records)
    for surveyed in found.sources:
        name = surveyed.source.name
        if surveyed.source.format != "jsonl":
            raise DataError(f"{name}: records are one JSON object a line; convert it to .jsonl")
        for number, value in json_lines(decoded(surveyed, config), name, trouble):
            if (record := _record(value, f"{name}:{number}", shape, fields, trouble)) is not None:
                yield record


def _record(value: object, where: str, shape: Shape, fields: Mapping[str, str], trouble: Trouble) -> Record | None:
    if not isinstance(value, dict):
        trouble.report(f"{where}: {kind_of(value)}, where an object with {', '.join(shape.texts)} was expected")
        return None
    record: Record = {}
    for part in (*shape.texts, *shape.lists):
        name = fields.get(part, part)
        if part in shape.lists and value.get(name) is None:
            continue
        wrong = _wrong(value, name, part, shape)
        if wrong:
            trouble.report(f"{where}: {wrong}")
            return None
        record[part] = value[name]
    return record


def _wrong(value: Mapping[str, Any], name: str, part: str, shape: Shape) -> str | None:
    """What is wrong with a part of a record, if anything is."""
    if name not in value:
        hint = did_you_mean(name, value)
        has = ", ".join(map(str, list(value)[:8])) or "nothing"
        return (
            f"no {name!r} in this record{hint if 'did you mean' in hint else ''}; it has: {has} (data.records.fields)"
        )
    given = value[name]
    if part in shape.lists:
        if isinstance(given, list) and all(isinstance(text, str) and text for text in given):
            return next(filter(None, (_lone_surrogate(text, name) for text in given)), None)
        return f"{name!r} is {kind_of(given)}, where a list of texts that are not empty was expected"
    if part in shape.ids and isinstance(given, list):
        if given and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in given):
            return None
        return f"{name!r}: a list of token ids was expected, whole numbers from 0; frames of numbers cannot be read"
    if not isinstance(given, str):
        return f"{name!r} is {kind_of(given)}, where a text was expected"
    if part in shape.filled and not given.strip():
        return f"{name!r} is empty"
    return _lone_surrogate(given, name)


def _lone_surrogate(text: str, name: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{name!r}: character {error.start + 1} is half of a pair (\\u{ord(text[error.start]):04x})"
    return None


def to_json_line(record: Record) -> str:
    """A record as one line, with its newline: the same record, the same line."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n"

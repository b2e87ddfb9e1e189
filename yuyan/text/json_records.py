"""JSON lines (one object or text a line) and JSON documents (a list of objects or texts)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text.column import RECORD, SAMPLE, Column, Row, Trouble, choose_column, kind_of, lines, text_of

WHOLE = 4 * RECORD
"""Longest JSON document, in characters: SQuAD 2.0's training data has 42 million."""


class BrokenJson(ValueError):
    """Text that is no JSON; `line` counts from 1, 0 is not known."""

    def __init__(self, message: str, line: int):
        self.line = line
        super().__init__(message)


class UnreadableJson(DataError):
    """A document that is no JSON, or more than can be held: not one that merely has no texts."""


def parse_json(text: str) -> Any:
    """One JSON value, behind a byte order mark or not. Raises BrokenJson with a message for the user."""
    try:
        return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_distinct)
    except BrokenJson:
        raise
    except json.JSONDecodeError as error:
        cut_off = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        said = "it ends too early" if cut_off else error.msg
        raise BrokenJson(f"broken JSON at column {error.colno}: {said}", error.lineno) from None
    except RecursionError:
        raise BrokenJson("JSON nested too deeply", 1) from None
    except ValueError as error:  # a number of more digits than Python converts
        raise BrokenJson(f"broken JSON: {error}", 1) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises BrokenJson for a key that is there twice: one of the two values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise BrokenJson(f"broken JSON: the key {counts.most_common(1)[0][0]!r} is there twice", 0)
    return found


def json_lines(texts: Iterable[str], name: str, trouble: Trouble) -> Iterator[tuple[int, Any]]:
    """The number and the value of each line that is not empty; a broken one is reported."""
    for number, line in enumerate(lines(texts, name), 1):
        if not line.strip(" \t\r\n\ufeff\x00"):
            continue
        try:
            value = parse_json(line.rstrip())
        except BrokenJson as error:
            trouble.report(f"{name}:{number}: {error}")
            continue
        yield number, value


def json_line_rows(texts: Iterable[str], name: str, column: Column | None, trouble: Trouble) -> Iterator[Row]:
    """One JSON object (or bare text) a line. `column` None: the lines are texts."""
    for number, value in json_lines(texts, name, trouble):
        if (text := _from_value(value, f"{name}:{number}", column, trouble)) is not None:
            yield Row(text, number)


def _from_value(value: object, where: str, column: Column | None, trouble: Trouble) -> str | None:
    if column is None:
        return text_of(value, where, "the record", trouble)
    if not isinstance(value, dict):
        trouble.report(f"{where}: {kind_of(value)}, where an object with {column.name!r} was expected")
        return None
    if column.name not in value:
        listed = ", ".join(map(str, list(value)[:8]))
        trouble.report(f"{where}: no {column.name!r} in this record; it has: {listed or 'nothing'}")
        return None
    return text_of(value[column.name], where, column.name, trouble)


def json_line_column(texts: Iterable[str], name: str, wanted: str | None) -> Column | None:
    """The text column of JSON lines, from the first records that can be read; None if the lines are bare texts."""
    rows: list[dict[str, Any]] = []
    bare, broken = 0, list[str]()
    for number, line in enumerate(lines(texts, name), 1):
        if len(rows) + bare >= SAMPLE or len(broken) >= SAMPLE:
            break
        try:
            value = parse_json(line) if line.strip() else None
        except BrokenJson as error:
            broken.append(f"{name}:{number}: {error}")
            if number == 1 and line.lstrip().startswith("["):
                raise DataError(
                    f"{name}:1: one JSON list over many lines, not one record a line; name it .json"
                ) from error
            continue
        if isinstance(value, dict):
            rows.append(value)
        elif isinstance(value, str):
            bare += 1
    if not rows and bare:
        return None
    if not rows:
        first = f"; {broken[0]}" if broken else ""
        raise DataError(f"{name}: no line of it is a JSON object; one object a line was expected{first}")
    return choose_column(rows, wanted, name)


def json_values(texts: Iterable[str], name: str, part: str | None = None, *, rows: bool = False) -> list[Any]:
    """The records of one JSON document: a list, or the first list of objects or texts in an object, or its `part`.

    With `rows` a record may also be a list of cells; of several lists of such one has to be named.
    """
    held: list[str] = []
    length = 0
    for text in texts:
        held.append(text)
        length += len(text)
        if length > WHOLE:
            raise UnreadableJson(
                f"{name}: more than {WHOLE >> 20} million characters of JSON in one piece; convert it to .jsonl"
            )
    whole = "".join(held)
    try:
        value = parse_json(whole)
    except BrokenJson as error:
        hint = "; if it has one object a line, name it .jsonl" if "Extra data" in str(error) else ""
        line = f":{error.line}" if error.line else ""
        raise UnreadableJson(f"{name}{line}: {error}{hint}") from None
    lists = {key: each for key, each in value.items() if isinstance(each, list)} if isinstance(value, dict) else {}
    if part is not None:
        if part not in lists:
            raise DataError(
                f"{name}: no list {part!r}{did_you_mean(part, lists)}; it has: {', '.join(lists) or 'none'}"
            )
        value, lists = lists[part], {}
    for found in (value, *lists.values()):
        if isinstance(found, list) and found and all(isinstance(item, (dict, str)) for item in found):
            return found
    tables = {key: each for key, each in {"": value, **lists}.items() if rows and _is_table(each)}
    if len(tables) > 1:
        whole = name.rpartition("/")[2]
        raise DataError(
            f"{name}: it holds several lists: {', '.join(tables)}; name those you mean, such as {whole}/{next(iter(tables))}"
        )
    for table in tables.values():
        return [{str(i): cell for i, cell in enumerate(row, 1)} for row in table]
    raise DataError(f"{name}: a list of records or of texts was expected; convert it to .jsonl with one object a line")


def _is_table(value: object) -> bool:
    """Whether it is rows of equally many cells."""
    rows = value if isinstance(value, list) else []
    return bool(rows) and all(isinstance(row, list) and row and len(row) == len(rows[0]) for row in rows)


def json_column(values: list[Any], name: str, wanted: str | None) -> Column | None:
    """The text column of the records of a JSON document; None if they are texts."""
    rows = [value for value in values[:SAMPLE] if isinstance(value, dict)]
    return choose_column(rows, wanted, name) if rows else None


def json_rows(values: list[Any], name: str, column: Column | None, trouble: Trouble) -> Iterator[Row]:
    """The texts of the records of a JSON document."""
    for number, value in enumerate(values, 1):
        if (text := _from_value(value, f"{name}: record {number}", column, trouble)) is not None:
            yield Row(text, number)

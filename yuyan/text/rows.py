"""Whole rows of a table, each cell under the name of its column, from any format that a text can come in.

Cells of JSON and parquet keep their types; those of CSV are texts. A row knows where it stands, for messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from yuyan.errors import DataError
from yuyan.text.column import Trouble, kind_of
from yuyan.text.json_records import json_lines, json_values
from yuyan.text.read import decoded, start_of
from yuyan.text.settings import DataConfig
from yuyan.text.source import Source
from yuyan.text.survey import Survey, Surveyed
from yuyan.text.table import csv_cells, csv_columns, open_parquet


class TableRow(NamedTuple):
    """The cells of a row by column, and its place, `file:line`."""

    cells: dict[str, Any]
    where: str


def table_rows(surveyed: Surveyed, config: DataConfig, wanted: Collection[str], trouble: Trouble) -> Iterator[TableRow]:
    """The rows of a table (CSV, TSV, JSON lines, JSON, parquet); `wanted` are names that a column may have.

    Raises DataError naming file and line.
    """
    source = surveyed.source
    if source.format == "parquet":
        return _parquet(source)
    texts = decoded(surveyed, config)
    if source.format == "json":
        return _json(json_values(texts, source.name, source.part, rows=True), source.name, trouble)
    if source.format == "jsonl":
        return _json_lines(texts, source.name, trouble)
    return _csv(texts, start_of(decoded(surveyed, config)), source, wanted, trouble)


def _csv(
    texts: Iterable[str], start: str, source: Source, wanted: Collection[str], trouble: Trouble
) -> Iterator[TableRow]:
    name = source.name
    delimiter, names, header = csv_columns(start, name, wanted, source.format == "tsv")
    if header and (twice := [each for each in names if names.count(each) > 1]):
        raise DataError(f"{name}:1: two columns are called {twice[0]!r}; give them different names")
    for number, row in csv_cells(texts, name, delimiter, len(names), trouble, header=header):
        if header and [cell.strip() for cell in row] == names:
            trouble.report(f"{name}:{number}: the header stands here again; take the line out")
            continue
        yield TableRow(dict(zip(names, row, strict=True)), f"{name}:{number}")


def _json_lines(texts: Iterable[str], name: str, trouble: Trouble) -> Iterator[TableRow]:
    for number, value in json_lines(texts, name, trouble):
        if (row := _row(value, f"{name}:{number}", trouble)) is not None:
            yield row


def _json(values: Sequence[Any], name: str, trouble: Trouble) -> Iterator[TableRow]:
    for number, value in enumerate(values, 1):
        if (row := _row(value, f"{name}: record {number}", trouble)) is not None:
            yield row


def _row(value: object, where: str, trouble: Trouble) -> TableRow | None:
    if isinstance(value, dict):
        return TableRow(value, where)
    trouble.report(f"{where}: {kind_of(value)}, where an object with named parts was expected")
    return None


def _parquet(source: Source) -> Iterator[TableRow]:
    number = 0
    with open_parquet(source) as table:
        for batch in table.iter_batches(batch_size=1024):
            for cells in batch.to_pylist():
                number += 1
                yield TableRow(cells, f"{source.name}: row {number}")


def names_of(found: Survey, config: DataConfig, wanted: Collection[str], count: int = 200) -> list[TableRow]:
    """The first rows of the first table, by which columns are chosen; none if there is no table."""
    trouble = Trouble(True)
    for surveyed in found.sources:
        if surveyed.source.format != "text":
            rows = table_rows(surveyed, config, wanted, trouble)
            return [row for row, _ in zip(rows, range(count), strict=False)]
    return []

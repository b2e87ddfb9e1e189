"""CSV, TSV and parquet: rows with a text column."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text.column import RECORD, SAMPLE, USUAL, Column, Row, Trouble, choose_column, lines, text_of
from yuyan.text.source import Source, blocks

# ---------------------------------------------------------------- CSV and TSV

DOUBLED = 'a mark that is text is written twice, and its cell between marks: """Yes"" he said"'


def _csv_reader(texts: Iterable[str], name: str, delimiter: str) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), RECORD))  # only ever raised: the default refuses 128 kB
    return csv.reader(lines(texts, name, limit=RECORD), delimiter=delimiter, strict=True)


def csv_shape(start: str, name: str, wanted: str | None, tabs: bool) -> tuple[str, Column, int]:
    """Delimiter, text column and number of columns, from the first characters of a table."""
    delimiter = "\t" if tabs else _delimiter(start)
    table: list[list[str]] = []
    try:
        for row in _csv_reader([start], name, delimiter):
            if row:
                table.append(row)
            if len(table) > SAMPLE:
                break
    except csv.Error:
        pass  # reading will say where
    if not table:
        raise DataError(f"{name}:1: no row of a table could be read from it; is it a {'TSV' if tabs else 'CSV'} file?")
    table = table[:-1] if len(table) > 2 else table  # the last one may be cut
    first = [cell.strip() for cell in table[0]]
    header = _is_header(first, wanted)
    names = first if header else [str(index + 1) for index in range(len(first))]
    body = table[1:] if header else table
    rows = [dict(zip(names, row, strict=False)) for row in body] or [dict.fromkeys(names, "")]
    if wanted is not None and not header and _is_place(wanted, len(first)):
        return delimiter, Column(wanted, int(wanted) - 1, "given", False), len(first)
    column = choose_column(rows, wanted, name) if wanted in names or wanted is None else _absent(wanted, names, name)
    return delimiter, Column(column.name, names.index(column.name), column.how, header), len(first)


def _absent(wanted: str | None, names: list[str], name: str) -> Column:
    raise DataError(
        f"{name}: no column {wanted!r}{did_you_mean(str(wanted), names)} (data.text_column); it has: {', '.join(names[:12])}"
    )


def _delimiter(start: str) -> str:
    first = next(lines([start], ""), "")
    return max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))


def _is_header(cells: list[str], wanted: str | None) -> bool:
    """Names are short, distinct, not numbers, and not sentences; a usual name among them settles it."""
    if any(cell.lower() in USUAL or (cell == wanted and not _is_place(cell, len(cells))) for cell in cells):
        return True
    if len(set(cells)) < len(cells) or any(not cell or len(cell) > 40 for cell in cells):
        return False
    return not any(cell.replace(".", "").replace("-", "").isdigit() or cell[-1] in ".!?。！？" for cell in cells)


def _is_place(name: str, width: int) -> bool:
    """Whether it is the number of a column, by which those without a header are called."""
    return name.isdecimal() and 1 <= int(name) <= width


def csv_cells(
    texts: Iterable[str], name: str, delimiter: str, width: int, trouble: Trouble, *, header: bool
) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table with as many cells as it has columns, each with its number, the header left out."""
    reader = _csv_reader(texts, name, delimiter)
    skip_header = header
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            trouble.report(f"{name}:{number}: {_said(error)}")
            continue
        if not row:
            continue
        if skip_header:
            skip_header = False
        elif len(row) != width:
            trouble.report(
                f"{name}:{number}: {len(row)} columns, where {'the header has' if header else 'the first row has'} "
                f"{width}: a cell that holds a delimiter must be in quotation marks"
            )
        elif delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
            trouble.report(f"{name}:{number}: a cell holds several lines of the table: {DOUBLED}")
        else:
            yield number, row


def _said(error: csv.Error) -> str:
    """What is wrong with a line that the library cannot read."""
    said = str(error)
    if "unexpected end of data" in said:
        return "a quotation mark that is opened here is never closed"
    if "field limit" in said:
        return f"a cell of more than {RECORD >> 20} million characters: is a quotation mark not closed?"
    return f"something follows the quotation mark that ends a cell: {DOUBLED}" if "expected after" in said else said


def csv_rows(
    texts: Iterable[str], name: str, delimiter: str, column: Column, width: int, trouble: Trouble
) -> Iterator[Row]:
    """The texts of a table."""
    for number, row in csv_cells(texts, name, delimiter, width, trouble, header=column.header):
        if (text := text_of(row[column.position], f"{name}:{number}", column.name, trouble)) is not None:
            yield Row(text, number)


class Columns(NamedTuple):
    """How a table is divided: its delimiter, the names of its columns (1, 2, ... without a header)."""

    delimiter: str
    names: list[str]
    header: bool


def csv_columns(start: str, name: str, wanted: Collection[str], tabs: bool) -> Columns:
    """Delimiter and columns, from the first characters of a table; a name that is `wanted` makes a header of its line."""
    delimiter = "\t" if tabs else _delimiter(start)
    try:
        first: list[str] = next((row for row in _csv_reader([start], name, delimiter) if row), [])
    except csv.Error:
        first = next(iter(csv.reader([start.split("\n", 1)[0].rstrip("\r")], delimiter=delimiter)), [])
    cells = [cell.strip() for cell in first]
    if not cells:
        raise DataError(f"{name}:1: no row of a table could be read from it; is it a {'TSV' if tabs else 'CSV'} file?")
    named = (cell for cell in cells if not _is_place(cell, len(cells)))
    header = any(cell in wanted or cell.lower() in wanted for cell in named) or _is_header(cells, None)
    return Columns(delimiter, cells if header else [str(number + 1) for number in range(len(cells))], header)


# ---------------------------------------------------------------- parquet


@contextmanager
def open_parquet(source: Source) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. Raises DataError if the file is damaged, here or while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if source.packing == "plain" and source.member is None:
            with pq.ParquetFile(source.path) as table:
                yield table
            return
        with SpooledTemporaryFile(max_size=64 << 20) as file:  # parquet is read from its end
            for block in blocks(source):
                file.write(block)
            file.seek(0)
            with pq.ParquetFile(file) as table:
                yield table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.name}: a damaged parquet file ({str(error).splitlines()[0][:120]})") from None


def parquet_column(source: Source, wanted: str | None) -> Column:
    """The text column of a parquet file."""
    with open_parquet(source) as table:
        first = next(table.iter_batches(batch_size=SAMPLE), None)
        rows = first.to_pylist() if first is not None else []
        if not rows:
            raise DataError(f"{source.name}: no training text: the table has no rows")
        return choose_column(rows, wanted, source.name)


def parquet_rows(source: Source, column: Column, trouble: Trouble) -> Iterator[Row]:
    """The texts of a parquet file, a batch of rows at a time."""
    number = 0
    with open_parquet(source) as table:
        for batch in table.iter_batches(batch_size=256, columns=[column.name]):
            for value in batch.column(0).to_pylist():
                number += 1
                if (text := text_of(value, f"{source.name}: row {number}", column.name, trouble)) is not None:
                    yield Row(text, number)

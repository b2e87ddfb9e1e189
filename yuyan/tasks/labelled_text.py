"""Texts with labels, from whatever file people have: tables, JSON lines, parquet, `label text` a line.

Which column is which is found once, from the first rows of the training data; what was found is a `Layout`, which a config
writes down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text import DataConfig
from yuyan.text.column import USUAL, Trouble, choose_column, kind_of, lines
from yuyan.text.read import decoded
from yuyan.text.rows import TableRow, names_of, table_rows
from yuyan.text.survey import Survey, Surveyed

LABELS = (
    "label", "labels", "category", "categories", "class", "classes", "intent", "sentiment", "topic", "topics", "tag",
    "tags", "target", "polarity", "标签", "类别", "类", "分类", "情感", "意图", "主题", "標籤", "類別",
)  # fmt: skip
"""Names under which labels are usually found, in order of preference."""
PREFIX = "__label__"
SAMPLE = 2000
Lines = Literal["first", "tab_first", "tab_last", "prefix"]


class Labelled(NamedTuple):
    """A text and its labels: one, or any number; none where they are not known."""

    text: str
    labels: tuple[str, ...]
    where: str


class Layout(NamedTuple):
    """Where texts and labels are; None is not known yet."""

    text: str | None = None
    label: str | None = None
    lines: Lines | None = None
    several: bool | None = None
    separator: str | None = None


# ---------------------------------------------------------------- finding


def layout_of(files: Survey, data: DataConfig, given: Layout, *, lenient: bool = False) -> Layout:
    """What these files look like, where `given` leaves it open; with `lenient` also where they have no such columns.

    Raises DataError.
    """
    wanted = {*LABELS, *USUAL, *(each for each in (given.text, given.label) if each is not None)}
    rows = names_of(files, data, wanted, SAMPLE)
    several = given.several
    if several is None:
        several = given.separator is not None
    if rows:
        name = rows[0].where.rpartition(":")[0]
        cells = [row.cells for row in rows]
        label = _label_column(cells, given, name, lenient=lenient)
        left = [{key: value for key, value in row.items() if key != label} for row in cells]
        kept = given.text if not lenient or any(given.text in row for row in left) else None
        text = choose_column(left, kept, name, "task.text").name
        some = [row.get(label) for row in cells]
        several = several or any(isinstance(value, list) and len(value) != 1 for value in some)
        given = given._replace(text=text, label=label)
    if plain := [each for each in files.sources if each.source.format == "text"]:
        form = given.lines or _form_of_lines(plain[0], data)
        if form == "prefix" and given.several is None:
            several = several or any(line.count(PREFIX) > 1 for line in _first_lines(plain[0], data))
        given = given._replace(lines=form)
    return given._replace(several=several)


def text_column(files: Survey, data: DataConfig, given: str | None) -> str | None:
    """The column of texts to be answered: the one that training had if there is such, else found; None without tables."""
    wanted = {*LABELS, *USUAL, *(() if given is None else (given,))}
    rows = names_of(files, data, wanted, SAMPLE)
    if not rows:
        return None
    if given is not None and given in rows[0].cells:
        return given
    return choose_column([row.cells for row in rows], None, rows[0].where.rpartition(":")[0], "task.text").name


def _label_column(rows: Sequence[dict[str, Any]], given: Layout, name: str, *, lenient: bool) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    listed = ", ".join(keys[:12])
    if given.label is not None and (given.label in keys or not lenient):
        if given.label not in keys:
            raise DataError(
                f"{name}: no column {given.label!r}{did_you_mean(given.label, keys)} (task.label); it has: {listed}"
            )
        return given.label
    known = {key.strip().lower(): key for key in reversed(keys)}
    for usual in LABELS:
        if usual in known and known[usual] != given.text:
            return known[usual]
    if len(keys) == 2:  # the one that is not the text: it has fewer different values
        text = given.text or max(keys, key=lambda key: (len({str(row.get(key)) for row in rows}), keys.index(key)))
        return keys[1 - keys.index(text)] if text in keys else keys[1]
    raise DataError(f"{name}: which column is the label? Say it with task.label=NAME; it has: {listed or 'none'}")


def _first_lines(surveyed: Surveyed, data: DataConfig) -> list[str]:
    found = (line.strip("\r\n") for line in lines(decoded(surveyed, data), surveyed.source.name))
    return [line for line, _ in zip((line for line in found if line.strip()), range(SAMPLE), strict=False)]


def _form_of_lines(surveyed: Surveyed, data: DataConfig) -> Lines:
    """By what the first lines have in common. Raises DataError for lines without labels."""
    sample, name = _first_lines(surveyed, data), surveyed.source.name
    if all(line.lstrip().startswith(PREFIX) for line in sample):
        return "prefix"
    if all(line.count("\t") == 1 for line in sample):
        first, last = ({line.split("\t")[side].strip() for line in sample} for side in (0, 1))
        return "tab_first" if len(first) <= len(last) else "tab_last"
    words = [line.split(maxsplit=1) for line in sample]
    distinct = {word[0] for word in words}
    if all(len(word) == 2 for word in words) and len(distinct) <= max(2, len(sample) // 4):
        return "first"
    raise DataError(
        f"{name}: its lines do not begin with a label: expected `label text`, a tab between text and label, or a table "
        "(.csv .tsv .jsonl .parquet); if they do, say so with task.lines=first"
    )


# ---------------------------------------------------------------- reading


def read_labelled(files: Survey, data: DataConfig, layout: Layout, *, labelled: bool) -> Iterator[Labelled]:
    """The texts of every source. Raises DataError naming file and line, unless `data.skip_bad_records`."""
    trouble = Trouble(data.skip_bad_records)
    wanted = {*LABELS, *USUAL, *(each for each in (layout.text, layout.label) if each is not None)}
    for surveyed in files.sources:
        if surveyed.source.format == "text":
            yield from _from_lines(surveyed, data, layout, trouble, labelled=labelled)
            continue
        for row in table_rows(surveyed, data, wanted, trouble):
            if (record := _from_row(row, layout, trouble, labelled=labelled)) is not None:
                yield record


def _from_lines(
    surveyed: Surveyed, data: DataConfig, layout: Layout, trouble: Trouble, *, labelled: bool
) -> Iterator[Labelled]:
    name = surveyed.source.name
    for number, line in enumerate(lines(decoded(surveyed, data), name), 1):
        bare, where = line.strip("\r\n").strip(" \u3000\x00"), f"{name}:{number}"
        if not bare:
            continue
        if not labelled:
            yield Labelled(bare, (), where)
            continue
        text, labels = _parted(bare, layout)
        if not labels and not layout.several:
            trouble.report(f"{where}: no label in this line")
        elif not text.strip():
            trouble.report(f"{where}: a label without a text")
        else:
            yield Labelled(text.strip(), labels, where)


def _parted(line: str, layout: Layout) -> tuple[str, tuple[str, ...]]:
    """The text of a line, and its labels."""
    if layout.lines == "prefix":
        words = line.split(" ")
        count = next((i for i, word in enumerate(words) if not word.startswith(PREFIX)), len(words))
        return " ".join(words[count:]), tuple(word.removeprefix(PREFIX) for word in words[:count])
    if layout.lines == "tab_first":
        label, _, text = line.partition("\t")
    elif layout.lines == "tab_last":
        text, _, label = line.rpartition("\t")
    else:
        label, text = (*line.split(maxsplit=1), "")[:2]
    return text, _split(label.strip(), layout)


def _split(label: str, layout: Layout) -> tuple[str, ...]:
    parts = label.split(layout.separator) if layout.separator is not None else [label]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _from_row(row: TableRow, layout: Layout, trouble: Trouble, *, labelled: bool) -> Labelled | None:
    assert layout.text is not None
    text = row.cells.get(layout.text)
    if layout.text not in row.cells:
        hint = did_you_mean(layout.text, row.cells)
        has = ", ".join(map(str, list(row.cells)[:8])) or "nothing"
        trouble.report(f"{row.where}: no {layout.text!r} in this row{hint}; it has: {has} (task.text)")
        return None
    if not isinstance(text, str):
        trouble.report(f"{row.where}: {layout.text!r} is {kind_of(text)}, not text")
        return None
    if not text.strip():
        trouble.report(f"{row.where}: {layout.text!r} is empty: there is nothing to read")
        return None
    if not labelled:
        return Labelled(text, (), row.where)
    return _with_labels(row, text, layout, trouble)


def _with_labels(row: TableRow, text: str, layout: Layout, trouble: Trouble) -> Labelled | None:
    assert layout.label is not None
    if layout.label not in row.cells:
        has = ", ".join(map(str, list(row.cells)[:8]))
        trouble.report(f"{row.where}: no {layout.label!r} in this row; it has: {has} (task.label)")
        return None
    value = row.cells[layout.label]
    values = value if isinstance(value, list) else [value]
    found: list[str] = []
    for each in values:
        if (said := _label_text(each)) is None:
            trouble.report(
                f"{row.where}: the label {layout.label!r} is {_what(each)}; a text or a whole number was expected"
            )
            return None
        found += _split(said, layout)
    if not layout.several and len(found) != 1:
        many = f"{len(found)} labels" if found else "no label"
        trouble.report(f"{row.where}: {many}, where one was expected (task.several=true lets a text have any number)")
        return None
    return Labelled(text, tuple(dict.fromkeys(found)), row.where)


def _label_text(value: object) -> str | None:
    """A label as a text: 1, 1.0 and true are labels, NaN and objects are none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else None
    return str(value) if isinstance(value, int | str) else None


def _what(value: object) -> str:
    return repr(value) if isinstance(value, float) else kind_of(value)

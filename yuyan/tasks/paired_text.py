"""Pairs of a text that is read and one that is to be written, from whatever file people have.

Tables (CSV, TSV, JSON lines, JSON, parquet) with two columns, a list or numbered columns where there are several right
answers; two files of plain text, line by line; plain text with a tab in each line; TMX. Which is which is found once, from the
training data; what was found is a `Layout`, which a config writes down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import Any, Literal, NamedTuple

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text import DataConfig
from yuyan.text.column import USUAL, Trouble, kind_of, lines
from yuyan.text.read import decoded
from yuyan.text.report import excerpt
from yuyan.text.rows import TableRow, names_of, table_rows
from yuyan.text.survey import Survey, Surveyed
from yuyan.text.tmx import read_tmx, same_language

SOURCES = (
    "source", "src", "input", "text", "document", "dialogue", "article", "original", "before", "incorrect", "wrong",
    "question", "prompt", "sentence", "content", "原文", "正文", "内容", "文章", "对话", "输入", "源文", "错误", "改写前",
)  # fmt: skip
"""Names under which what is read is usually found, in order of preference."""
TARGETS = (
    "target", "tgt", "output", "summary", "summaries", "highlights", "abstract", "translation", "answer", "after",
    "corrected", "correct", "rewrite", "rewritten", "paraphrase", "response", "reference", "references", "摘要", "总结",
    "标题", "译文", "输出", "目标", "改写", "改写后", "正确", "答案",
)  # fmt: skip
"""Names under which what is written is usually found."""
SAMPLE = 200
_PACKED = re.compile(r"\.(?:gz|zst|txt|text)$", re.IGNORECASE)
_CODE = re.compile(r"^(.*)[._-]([a-z]{2,3}(?:[-_][a-z]{2,4})?)$", re.IGNORECASE)
Lines = Literal["parallel", "tab"]
Languages = tuple[str, str]


class Paired(NamedTuple):
    """A text that is read, and what may be written; nothing where that is not known."""

    text: str
    targets: tuple[str, ...]
    where: str


class Layout(NamedTuple):
    """Where the texts are; None is not known yet."""

    source: str | None = None
    target: str | None = None
    lines: Lines | None = None
    languages: Languages | None = None


# ---------------------------------------------------------------- finding


def layout_of(files: Survey, data: DataConfig, given: Layout, *, lenient: bool = False) -> Layout:
    """What these files look like, where `given` leaves it open; with `lenient` also where they have no such columns.

    Raises DataError.
    """
    rows = names_of(files, data, _wanted(given), SAMPLE)
    if rows:
        given = _columns(rows, given, lenient=lenient)
    if memories := [each for each in files.sources if is_tmx(each)]:
        given = given._replace(languages=_languages(memories[0], data, given.languages))
    if plain := _plain(files):
        form = _form_of_lines(plain, data) if given.lines is None or lenient else given.lines
        given = given._replace(lines=form)
        if form == "parallel":
            there = _aligned(plain, given.languages)[0].languages
            if given.languages is not None and there is not None and not lenient and there != _shorts(given.languages):
                raise DataError(
                    f"{plain[0].source.name}: task.languages={list(given.languages)}, but the files are of {list(there)}"
                )
            if there is not None and all(map(language_code, there)):
                given = given._replace(languages=given.languages or there)
    return given


def is_tmx(surveyed: Surveyed) -> bool:
    """Whether a source is a translation memory, by its name."""
    return ".tmx" in surveyed.source.name.lower().rpartition("/")[2]


def _plain(files: Survey) -> list[Surveyed]:
    return [each for each in files.sources if each.source.format == "text" and not is_tmx(each)]


def _languages(memory: Surveyed, data: DataConfig, given: Languages | None) -> Languages:
    """Of source and target in a translation memory; given ones have to be there. Raises DataError."""
    name = memory.source.name
    units = list(islice(read_tmx(decoded(memory, data), name), SAMPLE))
    there = list(dict.fromkeys(code for unit in units for code in unit.texts))
    if not there:
        raise DataError(f"{name}: no translation unit with texts in it; is it TMX?")
    if given is not None:
        for code in given:
            if not any(same_language(code, each) for each in there):
                raise DataError(f"{name}: no text in {code!r} (task.languages); there are: {', '.join(there[:12])}")
        return given
    if len(there) != 2:
        raise DataError(
            f"{name}: texts in {', '.join(there[:12])}: say from which to which with task.languages=[en, de]"
        )
    said = units[0].source or there[0]
    first = next((code for code in there if same_language(code, said)), there[0])
    return first, next(code for code in there if code != first)


def _wanted(given: Layout) -> set[str]:
    named = (given.source, given.target, *(given.languages or ()))
    return {*SOURCES, *TARGETS, *USUAL, *(name for name in named if name is not None)}


def source_column(files: Survey, data: DataConfig, given: Layout) -> str | None:
    """The column of texts to be answered: that of training if there is such, else found; None without tables."""
    rows = [_flat(row) for row in names_of(files, data, _wanted(given), SAMPLE)]
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row.cells))
    wanted = (given.source, *(given.languages or ())[:1], *SOURCES, *USUAL)
    known = {key.strip().lower(): key for key in reversed(keys)}
    found = next((known[name.lower()] for name in wanted if name is not None and name.lower() in known), None)
    if found is None and len(keys) == 1:
        found = keys[0]
    if found is None:
        raise DataError(
            f"{_file(rows[0])}: which column is to be read? Say it with task.source=NAME; it has: {', '.join(keys[:12])}"
        )
    return found


def _columns(rows: Sequence[TableRow], given: Layout, *, lenient: bool) -> Layout:
    name, flat = _file(rows[0]), [_flat(row).cells for row in rows]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    known = {key.strip().lower(): key for key in reversed(keys)}
    source = _given(given.source, keys, name, "task.source", lenient=lenient)
    target = _given(given.target, keys, name, "task.target", lenient=lenient)
    if given.languages is not None and all(code.lower() in known for code in given.languages):
        source, target = source or known[given.languages[0].lower()], target or known[given.languages[1].lower()]
    bases = {re.sub(r"_?\d+$", "", key): key for key in reversed(known) if re.search(r"\d$", key)}
    target = target or next((known[each] for each in TARGETS if each in known and known[each] != source), None)
    target = target or next((re.sub(r"_?\d+$", "", known[bases[each]]) for each in TARGETS if each in bases), None)
    source = source or next((known[each] for each in SOURCES if each in known and known[each] != target), None)
    if source is None and target is None and len(keys) == 2:
        if any(len(key.split()) > 2 for key in keys):
            raise DataError(
                f"{name}:1: the first line was taken for the names of columns, and looks like a pair: {keys[0]!r}; put a "
                "line with the names source and target before it"
            )
        source, target = keys
    if source is None or target is None:
        missing = "is read (task.source=NAME)" if source is None else "is to be written (task.target=NAME)"
        raise DataError(f"{name}: which column {missing}? It has: {', '.join(keys[:12]) or 'none'}")
    return given._replace(source=source, target=target)


def _file(row: TableRow) -> str:
    return row.where.rpartition(":")[0]


def _given(name: str | None, keys: Sequence[str], file: str, key: str, *, lenient: bool) -> str | None:
    """A column that is named: it has to be there, alone or with numbers."""
    if name is None or name in keys or any(_is_numbered(each, name) for each in keys):
        return name
    if lenient:
        return None
    raise DataError(f"{file}: no column {name!r}{did_you_mean(name, keys)} ({key}); it has: {', '.join(keys[:12])}")


def _is_numbered(key: str, name: str) -> bool:
    return re.fullmatch(re.escape(name) + r"_?\d+", key) is not None


def _flat(row: TableRow) -> TableRow:
    """Without the object `translation` that some tables put both languages in."""
    inner = row.cells.get("translation")
    if not isinstance(inner, dict):
        return row
    return row._replace(cells={**{key: v for key, v in row.cells.items() if key != "translation"}, **inner})


def _form_of_lines(plain: Sequence[Surveyed], data: DataConfig) -> Lines:
    sample = [line for line in islice(_lines(plain[0], data), SAMPLE) if line.strip()]
    if all(line.count("\t") == 1 for line in sample):
        return "tab"
    if len(plain) > 1:
        return "parallel"
    raise DataError(
        f"{plain[0].source.name}: plain text without pairs: expected two files line by line (data.sources=[a.en, a.de]), "
        "one tab in each line, or a table (.csv .tsv .jsonl .parquet)"
    )


def _lines(surveyed: Surveyed, data: DataConfig) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines(decoded(surveyed, data), surveyed.source.name))


# ---------------------------------------------------------------- files side by side


class Aligned(NamedTuple):
    """Two files of plain text, a line of one for each line of the other."""

    source: Surveyed
    target: Surveyed
    languages: Languages | None


def _aligned(plain: Sequence[Surveyed], languages: Languages | None) -> list[Aligned]:
    """Which files belong together, and which of two is read: by the languages in their names if they are `languages`, else by
    their order.

    Raises DataError where that does not say it.
    """
    names = [_PACKED.sub("", _PACKED.sub("", each.source.name)) for each in plain]
    coded = [_CODE.match(name) for name in names]
    listed = ", ".join(each.source.name for each in plain[:4])
    if len(plain) % 2:
        raise DataError(f"{listed}: {len(plain)} files of plain text; parallel files come in pairs")
    codes = list(dict.fromkeys(_short(match[2]) for match in coded if match))
    if all(coded) and len(codes) == 2:
        first, second = codes
        if languages is not None and sorted(codes) == sorted(map(_short, languages)):
            first, second = map(_short, languages)
        elif plain[0].source.found:
            raise DataError(f"{listed}: which language is read? Say it with task.languages=[{first}, {second}]")
        sides: dict[str, dict[str, Surveyed]] = {}
        for match, each in zip(coded, plain, strict=True):
            assert match is not None
            sides.setdefault(match[1], {})[_short(match[2])] = each
        for stem, side in sides.items():
            if lacks := [code for code in (first, second) if code not in side]:
                raise DataError(f"{stem}: no file of the language {lacks[0]!r} beside it; there are: {listed}")
        return [Aligned(side[first], side[second], (first, second)) for side in sides.values()]
    if plain[0].source.found and len(plain) > 2:
        raise DataError(f"{listed}: which files belong together? Name them in pairs: data.sources=[a.en, a.de, ...]")
    return [Aligned(plain[i], plain[i + 1], None) for i in range(0, len(plain), 2)]


def language_code(name: str) -> str | None:
    """The two letters of a language; None for what is none, such as the `src` in the name of a file."""
    code = _short(name)
    return code if len(code) == 2 else None


def _short(code: str) -> str:
    return re.split("[-_]", code.lower())[0]


def _shorts(languages: Languages) -> Languages:
    return _short(languages[0]), _short(languages[1])


def _side_by_side(pair: Aligned, data: DataConfig, trouble: Trouble) -> Iterator[Paired]:
    """Raises DataError where one file has more lines than the other; blank lines at the end count for nothing."""
    names = (pair.source.source.name, pair.target.source.name)
    counts = [0, 0]
    first: str | None = None  # a line without a partner
    for number, both in enumerate(zip_longest(_lines(pair.source, data), _lines(pair.target, data)), 1):
        for side, line in enumerate(both):
            if line is not None and line.strip():
                counts[side] = number
                if both[1 - side] is None and first is None:
                    first = f"{names[side]}:{number} ({excerpt(line)!r})"
        text, target = both
        if text is None or target is None or not (text.strip() or target.strip()):
            continue
        if not text.strip() or not target.strip():
            side = int(bool(text.strip()))
            trouble.report(
                f"{names[side]}:{number}: the line is empty, and {names[1 - side]}:{number} is not: "
                f"{excerpt(both[1 - side] or '')!r}"
            )
            continue
        yield Paired(text.strip(), (target.strip(),), f"{names[0]}:{number}")
    if first is not None:
        raise DataError(
            f"{names[0]} has {counts[0]:,} lines and {names[1]} {counts[1]:,}, so they are not aligned; "
            f"the first line without a partner is {first}"
        )


# ---------------------------------------------------------------- reading


def read_pairs(files: Survey, data: DataConfig, layout: Layout, *, labelled: bool) -> Iterator[Paired]:
    """The pairs of every source. Raises DataError naming file and line, unless `data.skip_bad_records`."""
    trouble = Trouble(data.skip_bad_records)
    plain = _plain(files)
    if labelled and plain and layout.lines == "parallel":
        for pair in _aligned(plain, layout.languages):
            yield from _side_by_side(pair, data, trouble)
        plain = []
    for surveyed in files.sources:
        if is_tmx(surveyed):
            yield from _from_tmx(surveyed, data, layout, trouble, labelled=labelled)
        elif surveyed.source.format != "text":
            for row in table_rows(surveyed, data, _wanted(layout), trouble):
                if (found := _from_row(_flat(row), layout, trouble, labelled=labelled)) is not None:
                    yield found
        elif surveyed in plain:
            yield from _from_lines(surveyed, data, trouble, labelled=labelled)


def _from_lines(surveyed: Surveyed, data: DataConfig, trouble: Trouble, *, labelled: bool) -> Iterator[Paired]:
    for number, line in enumerate(_lines(surveyed, data), 1):
        where = f"{surveyed.source.name}:{number}"
        if not line.strip():
            continue
        if not labelled:
            yield Paired(line.strip(), (), where)
            continue
        text, *targets = line.split("\t")
        if len(targets) != 1:
            trouble.report(f"{where}: {len(targets)} tabs, where one was expected between source and target")
        elif not text.strip() or not targets[0].strip():
            trouble.report(f"{where}: the {'target' if text.strip() else 'source'} is empty")
        else:
            yield Paired(text.strip(), (targets[0].strip(),), where)


def _from_tmx(
    surveyed: Surveyed, data: DataConfig, layout: Layout, trouble: Trouble, *, labelled: bool
) -> Iterator[Paired]:
    assert layout.languages is not None
    name = surveyed.source.name
    for unit in read_tmx(decoded(surveyed, data), name):
        where, sides = f"{name}:{unit.line}", list[list[str]]()
        for code in layout.languages if labelled else layout.languages[:1]:
            found = [text for key, texts in unit.texts.items() if same_language(key, code) for text in texts]
            sides.append([text for text in found if text])
            if not sides[-1]:
                what = "an empty text" if found else "no text"
                trouble.report(f"{where}: {what} in {code!r}; it has: {', '.join(unit.texts) or 'none'}")
                break
        else:
            yield Paired(sides[0][0], tuple(dict.fromkeys(sides[1])) if labelled else (), where)


def _from_row(row: TableRow, layout: Layout, trouble: Trouble, *, labelled: bool) -> Paired | None:
    assert layout.source is not None
    text = _text(row, layout.source, "task.source", trouble)
    if text is None:
        return None
    if not labelled:
        return Paired(text, (), row.where)
    assert layout.target is not None
    targets = _targets(row, layout.target, trouble)
    return None if targets is None else Paired(text, targets, row.where)


def _text(row: TableRow, column: str, key: str, trouble: Trouble) -> str | None:
    if column not in row.cells:
        hint, has = did_you_mean(column, row.cells), ", ".join(map(str, list(row.cells)[:8])) or "nothing"
        trouble.report(f"{row.where}: no {column!r} in this row{hint}; it has: {has} ({key})")
        return None
    return _checked(row.cells[column], row.where, column, trouble)


def _checked(value: Any, where: str, column: str, trouble: Trouble) -> str | None:
    if not isinstance(value, str):
        trouble.report(f"{where}: {column!r} is {kind_of(value)}, not text")
        return None
    if not value.strip():
        trouble.report(f"{where}: {column!r} is empty")
        return None
    return value


def _targets(row: TableRow, column: str, trouble: Trouble) -> tuple[str, ...] | None:
    """One text, a list of them, or those of numbered columns; the same text counts once."""
    numbered = [key for key in row.cells if _is_numbered(key, column)]
    if column in row.cells or not numbered:
        if column in row.cells and isinstance(row.cells[column], list):
            cells: Iterable[Any] = row.cells[column]
        else:
            one = _text(row, column, "task.target", trouble)
            return None if one is None else (one,)
    else:
        cells = [row.cells[key] for key in numbered]
    found = [_checked(value, row.where, column, trouble) for value in cells]
    if not found:
        trouble.report(f"{row.where}: {column!r} is an empty list")
    kept = tuple(dict.fromkeys(each for each in found if each is not None))
    return kept if kept and len(kept) == len(set(found)) else None

"""Sentences whose words have tags, from whatever file people have: columns (CoNLL; a character a line), JSON with words
and tags, JSON with spans in a text.

Whatever the scheme of a file, a `Sentence` has BIO tags: a span that starts inside begins there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.metrics.spans import Scheme, Span, is_tag, scheme_of, spans_of, stray, written
from yuyan.text import DataConfig
from yuyan.text.column import Trouble, kind_of, lines
from yuyan.text.read import decoded
from yuyan.text.rows import TableRow, names_of, table_rows
from yuyan.text.survey import Survey, Surveyed

WORDS = ("words", "tokens", "characters", "chars", "sentence")
TAGS = ("tags", "ner_tags", "labels", "pos_tags", "chunk_tags", "tag", "label", "ner")
TEXT = ("text", "content", "sentence", "原文", "文本")
SPANS = ("spans", "entities", "annotations", "label", "labels", "实体")
SAMPLE = 2000
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3041-\u30ff]|[^\W_]+(?:['’][^\W_]+)?|\S")
_SOLO = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3041-\u30ff\uac00-\ud7af]")
DOCSTART = "-DOCSTART-"


class Sentence(NamedTuple):
    """Words and a tag for each; none where they are not known. `joint` stands between words: a space, or nothing."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str
    joint: str = " "
    typed: str | None = None
    """The text that the words were cut from, where it was one."""

    @property
    def text(self) -> str:
        """The words as one text."""
        return self.joint.join(self.words)

    @property
    def shown(self) -> str:
        """The text as it came."""
        return self.text if self.typed is None else self.typed

    def part(self, start: int, stop: int) -> str:
        """The text of the words from `start` up to `stop`, as it came."""
        if self.typed is None:
            return self.joint.join(self.words[start:stop])
        places = [(begin, begin + len(word)) for word, begin in words_of(self.typed)]
        return self.typed[places[start][0] : places[stop - 1][1]]


class Layout(NamedTuple):
    """Where words and tags are; None is not known yet. Columns of a text are numbered from 1."""

    words: int | str | None = None
    tags: int | str | None = None
    text: str | None = None
    spans: str | None = None
    joint: str | None = None
    scheme: Scheme | None = None


class Raw(NamedTuple):
    """A sentence as the file has it, and the line of each of its words."""

    words: list[str]
    tags: list[str]
    places: list[str]


def words_of(text: str) -> list[tuple[str, int]]:
    """Words of a text with their beginnings: runs of letters and digits, single marks, single Chinese characters."""
    return [(match.group(), match.start()) for match in _WORD.finditer(text)]


# ---------------------------------------------------------------- finding


def layout_of(files: Survey, data: DataConfig, given: Layout) -> Layout:
    """What these files look like, where `given` leaves it open. Raises DataError."""
    wanted = {*WORDS, *TAGS, *TEXT, *SPANS, *(each for each in given[:4] if isinstance(each, str))}
    rows = names_of(files, data, wanted, SAMPLE)
    if rows:
        given = _columns(rows[0], given)
    elif plain := [each for each in files.sources if each.source.format == "text"]:
        given = _numbers(plain[0], data, given)
    raw = [each for each, _ in zip(_raw(files, data, given, Trouble(True)), range(SAMPLE), strict=False)]
    if not raw:
        raise DataError(f"{files.sources[0].source.name}: no sentence with tags could be read from it")
    if given.joint is None:
        words = [word for each in raw for word in each.words]
        solo = sum(len(word) == 1 and bool(_SOLO.match(word)) for word in words)
        given = given._replace(joint="" if 2 * solo > len(words) else " ")
    if given.scheme is None:
        given = given._replace(scheme=scheme_of(each.tags for each in raw))
    return given


def _columns(row: TableRow, given: Layout) -> Layout:
    def find(names: Sequence[str], wanted: int | str | None, kind: type | None, key: str) -> str | None:
        if wanted is not None:
            if wanted not in row.cells:
                hint, has = did_you_mean(str(wanted), row.cells), ", ".join(map(str, row.cells))
                raise DataError(f"{row.where}: no {wanted!r} in this record{hint}; it has: {has} (task.{key})")
            return str(wanted)
        fits = (name for name in names if name in row.cells and (kind is None or isinstance(row.cells[name], kind)))
        return next(fits, None)

    words, text = find(WORDS, given.words, list, "words"), find(TEXT, given.text, str, "text")
    if words is not None:
        tags = find(TAGS, given.tags, list, "tags")
        if tags is not None:
            return given._replace(words=words, tags=tags, text=None, spans=None)
    spans = find(SPANS, given.spans, list, "spans")
    if text is not None and spans is not None:
        return given._replace(words=None, tags=None, text=text, spans=spans)
    raise DataError(
        f"{row.where}: words with tags, or a text with spans, were expected; it has: {', '.join(map(str, row.cells))}; say "
        "which with task.words and task.tags, or task.text and task.spans"
    )


def _numbers(surveyed: Surveyed, data: DataConfig, given: Layout) -> Layout:
    """The first column has the words and the last the tags."""
    for number, line in enumerate(lines(decoded(surveyed, data), surveyed.source.name), 1):
        cells = _cells(line)
        if cells and not line.startswith((DOCSTART, "# ")):
            words, tags = given.words or 1, given.tags or len(cells)
            where = f"{surveyed.source.name}:{number}"
            if len(cells) < 2:
                raise DataError(
                    f"{where}: one column only, {line.strip()[:40]!r}: a word and its tag in each line were expected"
                )
            for key, column in (("words", words), ("tags", tags)):
                if not isinstance(column, int) or not 1 <= column <= len(cells):
                    raise DataError(f"{where}: task.{key}={column}: the columns are numbered 1 to {len(cells)}")
            return given._replace(words=words, tags=tags)
    raise DataError(f"{surveyed.source.name}: no line with a word and its tag")


def are_columns(texts: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether these are lines of as many columns each, of which the last is a tag, and no texts."""
    cells = [text.split() for text in texts]
    tags = {each[-1] for each in cells}
    alike = len(cells) > 2 and len({len(each) for each in cells}) == 1 and len(cells[0]) > 1
    return alike and (tags <= set(labels) or all(map(is_tag, tags)))


def _cells(line: str) -> list[str]:
    bare = line.strip("\r\n\ufeff")
    cells = bare.split("\t") if "\t" in bare else bare.split()
    return [cell.strip() for cell in cells] if any(cell.strip() for cell in cells) else []


# ---------------------------------------------------------------- reading


def read_tagged(files: Survey, data: DataConfig, layout: Layout) -> tuple[list[Sentence], list[str]]:
    """The sentences with BIO tags, and the places of spans that started inside or broke their scheme.

    Raises DataError naming file and line, unless `data.skip_bad_records`.
    """
    found: list[Sentence] = []
    odd: list[str] = []
    trouble = Trouble(data.skip_bad_records)
    for raw in _raw(files, data, layout, trouble):
        tags = raw.tags
        if layout.scheme != "none":
            place = next((i for i, tag in enumerate(tags) if not is_tag(tag)), None)
            if place is not None:
                trouble.report(f"{raw.places[place]}: {tags[place]!r} is no tag of a span, such as B-PER, I-PER or O")
                continue
            broken = stray(tags, layout.scheme or "bio")
            if broken is not None:
                odd.append(raw.places[broken])
            tags = written(spans_of(tags), len(tags))
        found.append(Sentence(tuple(raw.words), tuple(tags), raw.places[0], layout.joint or ""))
    return found, odd


def _raw(files: Survey, data: DataConfig, layout: Layout, trouble: Trouble) -> Iterator[Raw]:
    wanted = {*WORDS, *TAGS, *TEXT, *SPANS, *(each for each in layout[:4] if isinstance(each, str))}
    for surveyed in files.sources:
        if surveyed.source.format == "text":
            yield from _sentences(surveyed, data, layout, trouble)
            continue
        for row in table_rows(surveyed, data, wanted, trouble):
            raw = _from_words(row, layout, trouble) if layout.words is not None else _from_spans(row, layout, trouble)
            if raw is not None and raw.words:
                yield raw


def _sentences(surveyed: Surveyed, data: DataConfig, layout: Layout, trouble: Trouble) -> Iterator[Raw]:
    """Lines of columns; an empty line ends a sentence."""
    name, width = surveyed.source.name, 0
    words, tags = layout.words, layout.tags
    assert isinstance(words, int) and isinstance(tags, int)
    raw = Raw([], [], [])
    for number, line in enumerate(lines(decoded(surveyed, data), name), 1):
        cells = _cells(line)
        if not cells or line.startswith(DOCSTART):
            if raw.words:
                yield raw
            raw = Raw([], [], [])
            continue
        width = width or len(cells)
        if len(cells) != width and line.startswith("# "):
            continue
        if len(cells) != width or not cells[words - 1] or not cells[tags - 1]:
            trouble.report(
                f"{name}:{number}: {len(cells)} columns in {line.strip()[:40]!r}, where the first line has {width}"
            )
            continue
        raw.words.append(cells[words - 1])
        raw.tags.append(cells[tags - 1])
        raw.places.append(f"{name}:{number}")
    if raw.words:
        yield raw


def _from_words(row: TableRow, layout: Layout, trouble: Trouble) -> Raw | None:
    words, tags = row.cells.get(str(layout.words)), row.cells.get(str(layout.tags))
    for key, value in ((layout.words, words), (layout.tags, tags)):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            numbers = isinstance(value, list) and all(isinstance(each, int) for each in value)
            said = "numbers, not names: write the tags out" if numbers else f"{kind_of(value)}, not a list of texts"
            trouble.report(f"{row.where}: {key!r} is {said}")
            return None
    assert isinstance(words, list) and isinstance(tags, list)
    if len(words) != len(tags):
        trouble.report(f"{row.where}: {len(words)} words and {len(tags)} tags")
        return None
    if any(not word.strip() for word in words):
        trouble.report(f"{row.where}: word {next(i for i, word in enumerate(words) if not word.strip()) + 1} is empty")
        return None
    return Raw(words, tags, [row.where] * len(words))


def _from_spans(row: TableRow, layout: Layout, trouble: Trouble) -> Raw | None:
    text, given = row.cells.get(str(layout.text)), row.cells.get(str(layout.spans))
    if not isinstance(text, str) or not isinstance(given, list):
        key, value = (layout.text, text) if not isinstance(text, str) else (layout.spans, given)
        trouble.report(
            f"{row.where}: {key!r} is {kind_of(value)}, not {'a text' if key == layout.text else 'a list of spans'}"
        )
        return None
    spans: list[Span] = []
    for each in given:
        span = _span(each)
        said = "a span has start, end and label" if span is None else _wrong_span(span, each, text, spans)
        if said is not None or span is None:
            trouble.report(f"{row.where}: span {each!r}: {said}")
            return None
        spans.append(span)
    edges = {edge for span in spans for edge in (span.start, span.end)}
    words = [piece for word, start in words_of(text) for piece in _cut(word, start, edges)]
    tags = ["O"] * len(words)
    for span in spans:
        inside = [i for i, (word, start) in enumerate(words) if span.start <= start < span.end]
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.type}"
    return Raw([word for word, _ in words], tags, [row.where] * len(words))


def _cut(word: str, start: int, edges: set[int]) -> list[tuple[str, int]]:
    """A word in pieces where a span begins or ends inside it."""
    cuts = [0, *(edge - start for edge in sorted(edges) if start < edge < start + len(word)), len(word)]
    return [(word[a:b], start + a) for a, b in pairwise(cuts)]


def _span(given: Any) -> Span | None:
    if isinstance(given, Mapping):
        start, end = given.get("start", given.get("start_offset")), given.get("end", given.get("end_offset"))
        kind = given.get("label", given.get("type", given.get("entity")))
    elif isinstance(given, list) and len(given) == 3:
        start, end, kind = given
    else:
        return None
    if isinstance(start, bool) or not isinstance(start, int) or not isinstance(end, int) or not isinstance(kind, str):
        return None
    return Span(kind, start, end)


def _wrong_span(span: Span, given: Any, text: str, others: Sequence[Span]) -> str | None:
    if not 0 <= span.start < span.end <= len(text):
        return f"it lies outside of the text of {len(text)} characters"
    said = given.get("text") if isinstance(given, Mapping) else None
    if isinstance(said, str) and text[span.start : span.end] != said:
        return f"the text there is {text[span.start : span.end]!r}"
    if any(span.start < other.end and other.start < span.end for other in others):
        return "it overlaps another one, and a word can have one tag only"
    return None

"""Questions on a context whose answers stand in it, from whatever file people have: SQuAD's JSON (1.1, 2.0, and what is
written like it: XQuAD, CMRC 2018), rows of JSON lines, CSV or parquet with a question, its context and its answers.

An answer is a text and the number of its first character. One that does not stand where it is said to is an error that says
where it does; `nearest` takes that place. What was found out about a file is a `Layout`, which a config writes down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.text import DataConfig
from yuyan.text.column import Trouble, kind_of
from yuyan.text.rows import TableRow, names_of, table_rows
from yuyan.text.survey import Survey

Form = Literal["squad", "rows"]
Misplaced = Literal["error", "nearest"]
NAMES = {
    "question": ("question", "query_text", "query", "问题", "問題"),
    "context": (
        "context",
        "context_text",
        "passage",
        "paragraph",
        "document",
        "text",
        "上下文",
        "段落",
        "原文",
        "文章",
    ),
    "answer": ("answers", "answer", "answer_text", "答案"),
    "start": ("answer_start", "start", "answer_starts", "答案位置"),
    "id": ("id", "query_id", "qid", "question_id", "qas_id", "编号"),
}
"""Names under which each part is usually found, in order of preference."""
NOWHERE = -1
SAMPLE = 200
NEEDED = ("question", "context")


class Given(NamedTuple):
    """An answer and its first character; NOWHERE if it does not stand in the context."""

    text: str
    start: int


class Question(NamedTuple):
    """A question and the context that answers it; no answers where there are none, or none are known."""

    id: str
    question: str
    context: str
    answers: tuple[Given, ...]
    where: str

    @property
    def text(self) -> str:
        """The context: what is held out together, and looked for in other data."""
        return self.context


class Layout(NamedTuple):
    """What a file looks like, and where the parts of a question are; None is not known yet."""

    form: Form | None = None
    question: str | None = None
    context: str | None = None
    answer: str | None = None
    start: str | None = None
    id: str | None = None


@dataclass
class Odd:
    """What had to be put right, with the first place of each."""

    moved: list[str] = field(default_factory=list)
    """Answers that stand elsewhere in their context."""
    nowhere: list[str] = field(default_factory=list)
    """Answers that do not stand in their context."""
    ambiguous: list[str] = field(default_factory=list)
    """Answers without a place that stand at several."""
    passed_over: Trouble = field(default_factory=Trouble)
    """Records that cannot be used."""


# ---------------------------------------------------------------- finding


def layout_of(files: Survey, data: DataConfig, given: Layout, *, labelled: bool, lenient: bool = False) -> Layout:
    """What these files look like, where `given` leaves it open; with `lenient` also where they have no such columns.

    Raises DataError.
    """
    rows = names_of(files, data, _wanted(given), SAMPLE)
    if not rows:
        raise DataError(
            f"{files.sources[0].source.name}: plain text; questions with their contexts were expected: SQuAD's JSON, or "
            ".jsonl, .csv, .parquet with question, context, answers, answer_start"
        )
    form: Form = "squad" if _is_nested(rows[0].cells) else "rows"
    first = rows[0]
    if form == "squad":
        first = next(_first_questions(rows), TableRow({}, first.where))
        if not first.cells:
            raise DataError(f"{first.where}: paragraphs without a question: a list `qas` with some in it was expected")
    elif given.form == "squad" and not lenient:
        raise DataError(f"{first.where}: no paragraphs here, as task.form=squad has them; it has: {_has(first.cells)}")
    return Layout(form, **_named(first, given, labelled=labelled, lenient=lenient))


def _named(row: TableRow, given: Layout, *, labelled: bool, lenient: bool) -> dict[str, str | None]:
    """Under which name each part is."""
    cells, where = row
    found: dict[str, str | None] = {}
    for part, names in NAMES.items():
        wanted = getattr(given, part)
        if wanted is not None and wanted not in cells and not (lenient or part == "start"):
            raise DataError(
                f"{where}: no {wanted!r} here{did_you_mean(wanted, cells)} (task.{part}); it has: {_has(cells)}"
            )
        usual = (name for name in names if name in cells and name not in found.values())
        found[part] = wanted if wanted in cells else next(usual, None)
        needed = part in NEEDED or (part == "answer" and labelled and "is_impossible" not in cells)
        if needed and found[part] is None:
            raise DataError(f"{where}: no {part} here; say which it is with task.{part}=NAME; it has: {_has(cells)}")
    return found


def _has(cells: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(cells)[:12])) or "nothing"


def _wanted(given: Layout) -> set[str]:
    return {*(name for names in NAMES.values() for name in names), *(name for name in given[1:] if name is not None)}


def _is_nested(cells: Mapping[str, Any]) -> bool:
    return "paragraphs" in cells or "qas" in cells


def _first_questions(rows: Sequence[TableRow]) -> Iterator[TableRow]:
    for row in rows:
        if _is_nested(row.cells):
            yield from _nested(row, Trouble(True), NAMES["id"])


# ---------------------------------------------------------------- reading


def read_questions(
    files: Survey, data: DataConfig, layout: Layout, misplaced: Misplaced, *, labelled: bool
) -> tuple[list[Question], Odd]:
    """The questions of every source, and what was put right.

    Raises DataError naming file and line, or the id of the question, unless `data.skip_bad_records`.
    """
    trouble = Trouble(data.skip_bad_records)
    odd = Odd(passed_over=trouble)
    found: dict[str, Question] = {}
    ids = (layout.id,) if layout.id is not None else NAMES["id"]
    for surveyed in files.sources:
        if surveyed.source.format == "text":
            trouble.report(f"{surveyed.source.name}: plain text, where questions with their contexts were expected")
            continue
        for row in table_rows(surveyed, data, _wanted(layout), trouble):
            for each in _nested(row, trouble, ids) if layout.form == "squad" else (row,):
                question = _question(each, layout, trouble, misplaced, odd, labelled=labelled)
                if question is None:
                    continue
                if (other := found.get(question.id)) is not None:
                    trouble.report(f"{each.where}: the id {question.id!r} is there twice; the other is {other.where}")
                    continue
                found[question.id] = question
    return list(found.values()), odd


def _nested(row: TableRow, trouble: Trouble, ids: Sequence[str]) -> Iterator[TableRow]:
    """The questions of an article or a paragraph, each with the cells of its paragraph, known by its id."""
    paragraphs = row.cells.get("paragraphs", [row.cells])
    if not _is_nested(row.cells) or not _is_objects(paragraphs):
        said = f"'paragraphs' is {kind_of(paragraphs)}" if _is_nested(row.cells) else f"it has: {_has(row.cells)}"
        trouble.report(f"{row.where}: a list of paragraphs with `context` and `qas` was expected; {said}")
        return
    for number, paragraph in enumerate(paragraphs, 1):
        where = row.where if paragraph is row.cells else f"{row.where}, paragraph {number}"
        questions = paragraph.get("qas")
        if not _is_objects(questions):
            said = "there is none" if questions is None else f"it is {kind_of(questions)} of other things"
            trouble.report(
                f"{where}: a list `qas` of questions was expected; {said if questions != [] else 'it is empty'}"
            )
            continue
        shared = {key: value for key, value in paragraph.items() if key not in ("qas", *NAMES["id"])}
        for place, each in enumerate(questions, 1):
            name = next((each[key] for key in ids if key in each), None)
            known = f"{where}, question {place}" if name is None else f"{row.where}: question {name!r}"
            yield TableRow(shared | each, known)


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _question(
    row: TableRow, layout: Layout, trouble: Trouble, misplaced: Misplaced, odd: Odd, *, labelled: bool
) -> Question | None:
    texts: dict[str, str] = {}
    for part in NEEDED:
        key = getattr(layout, part)
        value = row.cells.get(key)
        if not isinstance(value, str) or not value.strip():
            said = f"no {key!r} here; it has: {_has(row.cells)}" if key not in row.cells else (
                f"{key!r} is empty" if isinstance(value, str) else f"{key!r} is {kind_of(value)}, not a text"
            )  # fmt: skip
            trouble.report(f"{row.where}: {said}")
            return None
        texts[part] = value
    name = row.cells.get(layout.id) if layout.id is not None else None
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip()):
        trouble.report(f"{row.where}: the id {layout.id!r} is {'empty' if name == '' else kind_of(name)}")
        return None
    answers = _answers(row, layout, texts["context"], trouble, misplaced, odd) if labelled else ()
    ident = row.where if name is None else str(name)
    return None if answers is None else Question(ident, texts["question"], texts["context"], answers, row.where)


# ---------------------------------------------------------------- answers


def _answers(
    row: TableRow, layout: Layout, context: str, trouble: Trouble, misplaced: Misplaced, odd: Odd
) -> tuple[Given, ...] | None:
    """Those of a question, each where it stands; None where they cannot be used."""
    pairs = _pairs(row.cells, layout)
    impossible = row.cells.get("is_impossible")
    if isinstance(pairs, list) and isinstance(impossible, bool) and impossible != (not pairs):
        count = f"{len(pairs)} answers" if pairs else "no answer"
        pairs = f"is_impossible is {str(impossible).lower()}, and there is {count}"
    if isinstance(pairs, str):
        trouble.report(f"{row.where}: {pairs}")
        return None
    found: list[Given] = []
    for text, start in pairs:
        if start is None and context.count(text) > 1:
            odd.ambiguous.append(row.where)
        said = context.find(text) if start is None else start
        place = said if said >= 0 and context.startswith(text, said) else _nearest(context, text, said)
        if place != said or place == NOWHERE:
            if misplaced == "error":
                trouble.report(f"{row.where}: {_misplaced(context, text, start, place)}")
                return None
            (odd.nowhere if place == NOWHERE else odd.moved).append(row.where)
        found.append(Given(text, place))
    return tuple(found)


def _pairs(cells: Mapping[str, Any], layout: Layout) -> list[tuple[str, int | None]] | str:
    """The answers as the file has them, texts and first characters; or what is wrong with them."""
    key = layout.answer
    if key is None or key not in cells:
        return [] if cells.get("is_impossible") is True else f"no {key or 'answers'!r} here; it has: {_has(cells)}"
    value: Any = cells[key]
    starts: Any = None if layout.start is None else cells.get(layout.start)
    if isinstance(value, dict):
        value, starts = value.get("text"), value.get("answer_start")
    if value is None or value in ("", []):
        return []
    values = value if isinstance(value, list) else [value]
    if all(isinstance(each, dict) for each in values):
        starts = [each.get("answer_start", each.get("start")) for each in values]
        values = [each.get("text") for each in values]
    places = starts if isinstance(starts, list) else [starts] * (1 if starts not in (None, "") else len(values))
    if len(places) != len(values):
        return f"{len(values)} answers, and {len(places)} numbers of their first characters"
    pairs = []
    for text, start in zip(values, places, strict=True):
        if not isinstance(text, str) or not text.strip():
            said = (
                "empty: a question without an answer has none"
                if isinstance(text, str)
                else f"{kind_of(text)}, not a text"
            )
            return f"an answer is {said}"
        number = int(start) if isinstance(start, str) and start.strip().lstrip("-").isdecimal() else start
        number = None if number == "" else number
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            return f"the first character of {text[:40]!r} is {start!r}; a whole number from 0 was expected"
        pairs.append((text, number))
    return pairs


def _nearest(context: str, text: str, start: int) -> int:
    """The place nearest to `start` where the text stands; NOWHERE without one."""
    before, behind = context.rfind(text, 0, max(0, start) + len(text)), context.find(text, max(0, start))
    places = [place for place in (before, behind) if place >= 0]
    return min(places, key=lambda place: abs(place - start), default=NOWHERE)


def _misplaced(context: str, text: str, start: int | None, place: int) -> str:
    shown = text if len(text) <= 40 else text[:40] + "..."
    if place == NOWHERE:
        return (
            f"the answer {shown!r} stands nowhere in its context"
            + ("" if start is None else f" (answer_start={start})")
            + "; with task.misplaced=nearest such answers are measured by, not learned"
        )
    there = context[max(0, start or 0) : max(0, start or 0) + min(len(text), 40)]
    return (
        f"the answer {shown!r} does not stand at answer_start={start} of its context (there is {there!r}), but at {place}; "
        "task.misplaced=nearest takes the place where it does stand"
    )

"""`yuyan runs compare A B`: what came out, what was set differently, and the curves over each other.

A difference is given only where two runs measured the same thing on the same text; then it is paired over the documents,
which says more than two intervals do: what makes a document hard for both runs falls out. Where that is not so, a line says
why. The first run is what the others are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from yuyan.commands.made import noted
from yuyan.commands.run import open_run
from yuyan.commands.runs import RunSummary, aligned, last_report, letter_of, measure_of, read_object, summarise_run
from yuyan.config import dump, flatten
from yuyan.console import say, table
from yuyan.errors import InputError
from yuyan.evaluate.fragment import html_curves, html_table
from yuyan.evaluate.grid import field_text
from yuyan.evaluate.quantities import finite, interval, significant
from yuyan.evaluate.scale import Point
from yuyan.evaluate.sketch import sketch
from yuyan.evaluate.study import Drawn, comparison_page
from yuyan.evaluate.wording import MEASURES, less_is_better, measure_name, name_of, terminal_name, word
from yuyan.metrics import paired_interval
from yuyan.store import read_lines, sha256, to_json, write_text

SPLITS = ("validation", "test")
PLAIN = ("parameters", "tokens", "epochs", "seconds", "tokens_per_second", "best_step")


@dataclass(frozen=True)
class Side:
    """One of the runs, under a letter."""

    letter: str
    summary: RunSummary
    config: dict[str, Any]
    made: dict[str, Any]
    report: dict[str, Any] | None
    each: dict[str, Any]
    log: list[dict[str, Any]] = field(repr=False)
    tokenizer: str | None = None

    @property
    def title(self) -> str:
        """The letter and the folder."""
        return f"{self.letter} {self.summary.folder}"

    def questions(self, split: str) -> tuple[Any, ...]:
        """What has to be equal for two scores to mean the same: measure, text, and, but for bits per byte, the questions."""
        measure = None if self.report is None or not self.report.get(split) else measure_of(self.report[split])[0]
        found: tuple[Any, ...] = (measure, self.made.get("text", {}).get(split))
        if measure not in (None, "bits_per_byte"):
            found += (self.tokenizer, self.config.get("train.context"), self.config.get("seed"))
        return found


class Difference(NamedTuple):
    """A number less that of the first run; `low` to `high` is its 95 % interval where it is paired, else NaN."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """One measure of all the runs."""

    name: str
    values: list[str]
    differences: list[str]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs side by side; shows itself as tables, in a notebook with the curves."""

    sides: tuple[Side, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    settings: tuple[tuple[str, ...], ...]
    """(key, value in A, value in B, ...) for every key that differs."""
    differences: dict[str, Difference]
    """By split and letter: `validation B`."""
    language: str = "en"
    """`zh` if the texts of all runs are Chinese."""

    def metrics(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows as texts."""
        letters = [side.letter for side in self.sides]
        columns = ["", *letters, *(f"{letter} − A" for letter in letters[1:])]
        return columns, [[row.name, *row.values, *row.differences] for row in self.rows]

    def setting_columns(self) -> list[str]:
        """The head of the table of settings."""
        return [word("key", self.language), *(side.letter for side in self.sides)]

    def __repr__(self) -> str:
        columns, rows = self.metrics()
        parts = [[side.title for side in self.sides], aligned([columns, *rows]), list(self.notes)]
        parts.append(aligned([self.setting_columns(), *self.settings]) if self.settings else [])
        return "\n".join(line for part in parts for line in part)

    def _repr_html_(self) -> str:
        columns, rows = self.metrics()
        found = html_table(columns, rows, caption="; ".join(side.title for side in self.sides))
        for note in self.notes:
            found += html_table([note], [])
        found += html_table(self.setting_columns(), self.settings, left=len(self.sides) + 1)
        for drawn in curves_of(self.sides, self.language):
            found += html_curves(drawn.curves, drawn.across, drawn.down)
        return str(found)


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Read the runs and set them side by side. Raises InputError for fewer than two, one twice, or a damaged one."""
    if len(folders) < 2:
        raise InputError("runs compare: give two runs or more: yuyan runs compare runs/A runs/B")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("runs compare: a run is named twice")
    sides = tuple(_side(letter_of(number), folder) for number, folder in enumerate(folders))
    language = "zh" if all(side.made.get("language") == "zh" for side in sides) else "en"
    notes, differences = _Notes(language), dict[str, Difference]()
    rows = [row for split in SPLITS for row in _score_rows(split, sides, notes, differences)]
    rows += [row for name in PLAIN if (row := _plain_row(name, sides, language))]
    for side in sides:
        if side.report is None:
            notes.add("no_final_scores", letter=side.letter, state=side.summary.state)
    if len({str(side.made.get("hardware", {}).get("processor")) for side in sides}) > 1:
        notes.add("other_processors")
    return Comparison(sides, tuple(rows), tuple(notes.lines), tuple(_settings(sides)), differences, language)


class _Notes:
    """What is to be said of a comparison, each line once, in one language."""

    def __init__(self, language: str):
        self.language, self.lines = language, dict[str, None]()

    def add(self, key: str, **parts: str) -> None:
        if "split" in parts:
            parts["split"] = name_of(parts["split"], self.language)
        self.lines[word(key, self.language).format(**parts)] = None


def _measure(key: str, language: str) -> str:
    """A measure as a table's head calls it."""
    return terminal_name(key) if language == "en" else measure_name(key, language)


def _side(letter: str, folder: Path) -> Side:
    if not (folder / "run.yaml").is_file():
        raise InputError(f"{folder}: not a run: there is no run.yaml in it")
    summary = summarise_run(folder)
    if summary.state == "damaged":
        raise InputError(f"{folder}: damaged: {summary.why}")
    numbered = sorted((folder / "reports").glob("*.each.json"))
    model = folder / "model" / "tokenizer.json"
    return Side(
        letter, summary, flatten(dump(open_run(folder))), noted(folder), last_report(folder),
        read_object(numbered[-1]) if numbered else {}, read_lines(folder / "log.jsonl"),
        sha256(model) if model.is_file() else None,
    )  # fmt: skip


# ---------------------------------------------------------------- scores


def _score_rows(split: str, sides: Sequence[Side], notes: _Notes, differences: dict[str, Difference]) -> Iterator[Row]:
    """The measure that counts, with differences where they mean something, then the other marks."""
    first, names = sides[0], list[str]()
    for side in sides:
        if side.report is not None and side.report.get(split):
            names += [measure_of(side.report[split])[0]]
    for measure in dict.fromkeys(names):
        values, said = list[str](), list[str]()
        for side in sides:
            score = (side.report or {}).get(split) or {}
            values.append(
                f"{significant(score[measure], 5)} ({interval(score['interval'], 4)})" if measure in score else "–"
            )
            if side is first:
                continue
            found = _difference(split, measure, first, side, notes)
            if found is not None:
                differences[f"{split} {side.letter}"] = found
            said.append("–" if found is None else _said(found))
        yield Row(f"{name_of(split, notes.language)} {_measure(measure, notes.language)}", values, said)
    for key in dict.fromkeys(k for side in sides for k in _marks(side, split)):
        yield Row(
            f"{name_of(split, notes.language)} {_measure(key, notes.language)}",
            [significant(_marks(s, split).get(key)) for s in sides],
            ["–"] * (len(sides) - 1),
        )


def _marks(side: Side, split: str) -> dict[str, Any]:
    """What a report says beside the measure; how much text there was is no mark."""
    score = {} if side.report is None else side.report.get(split) or {}
    return {key: value for key, value in list(score.items())[1:] if key in MEASURES}


def _difference(split: str, measure: str, first: Side, side: Side, notes: _Notes) -> Difference | None:
    one, other = first.questions(split), side.questions(split)
    names = {"split": split, "first": first.letter, "letter": side.letter}
    if measure != one[0] or measure != other[0]:
        if one[0] is not None and other[0] is not None and one[0] != other[0]:
            notes.add(
                "other_measures",
                one=_measure(one[0], notes.language),
                other=_measure(other[0], notes.language),
                **names,
            )
        return None
    if one[1] is None or other[1] is None or one[1] != other[1]:
        notes.add("other_text", **names)
        return None
    if one != other:
        notes.add("other_questions", **names)
        return None
    assert first.report is not None and side.report is not None
    value = float(side.report[split][measure]) - float(first.report[split][measure])
    mine = side.each.get(split) or ()
    bounds = paired_interval(first.each.get(split) or (), mine)
    if bounds is None:
        notes.add("no_each", **names)
        return Difference(value, math.nan, math.nan)
    counted = "documents_counted" if measure == "bits_per_byte" else "examples_counted"
    over = word(counted, notes.language).format(count=f"{len(mine):,}")
    notes.add(_verdict(value, *bounds, higher=not less_is_better(measure)), over=over, **names)
    return Difference(value, *bounds)


def _verdict(value: float, low: float, high: float, *, higher: bool) -> str:
    if math.isnan(low):
        return "one_document"
    if low <= 0 <= high:
        return "no_certain_difference"
    return "is_better" if (value > 0) == higher else "is_worse"


def _said(found: Difference) -> str:
    bounds = "" if math.isnan(found.low) else f" ({found.low:+.4f} to {found.high:+.4f})"
    return f"{found.value:+.4f}{bounds}"


def _plain_row(name: str, sides: Sequence[Side], language: str) -> Row | None:
    numbers = [_number(name, side) for side in sides]
    if all(number is None for number in numbers):
        return None
    first = numbers[0]
    ratios = [f"× {significant(n / first, 3)}" if n is not None and first else "–" for n in numbers[1:]]
    shown = name_of(name, language)
    return Row(
        shown,
        [field_text(name, number, language) for number in numbers],
        ["–"] * len(ratios) if name == "best_step" else ratios,
    )


def _number(name: str, side: Side) -> float | None:
    summary = side.summary
    if name == "tokens_per_second":
        return summary.tokens / summary.seconds if summary.seconds else None
    if name in ("epochs", "best_step"):
        return None if side.report is None else finite(side.report.get(name))
    return finite({"parameters": summary.parameters, "tokens": summary.tokens, "seconds": summary.seconds}[name])


def _settings(sides: Sequence[Side]) -> Iterator[tuple[str, ...]]:
    """Keys of the configs, and what the machines were, where they are not all the same."""
    flat = [
        side.config | flatten({k: side.made.get(k) for k in ("versions", "hardware", "text")}, "made") for side in sides
    ]
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key) for each in flat]
        if any(value != values[0] for value in values) and key != "name":
            yield (key, *(_short(value) for value in values))


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"


# ---------------------------------------------------------------- curves


def curves_of(sides: Sequence[Side], language: str = "en") -> list[Drawn]:
    """Validation over tokens and over time, a picture for each measure and text; then the training loss."""
    found = []
    groups: dict[tuple[str, str | None], list[Side]] = {}
    for side in sides:
        for measure in dict.fromkeys(measure_of(r["validation"])[0] for r in side.log if "validation" in r):
            groups.setdefault((measure, side.made.get("text", {}).get("validation")), []).append(side)
    for number, ((measure, _), members) in enumerate(groups.items()):
        text = "" if len(groups) == 1 else word("text_number", language).format(number=number + 1)
        title = word("validation_curve", language).format(text=text)
        for across in ("tokens", "seconds"):
            curves = {side.title: _looks(side, measure, across) for side in members}
            found.append(Drawn(title, curves, across, _measure(measure, language)))
    losses = {side.title: [(r["tokens"], r["loss"]) for r in side.log if "loss" in r] for side in sides}
    found.append(Drawn(word("training_loss", language), losses, "tokens", "nats"))
    return found


def _looks(side: Side, measure: str, across: str) -> list[Point]:
    nothing = math.nan
    return [
        (record[across], nothing if (value := record["validation"].get(measure)) is None else value)
        for record in side.log
        if "validation" in record
    ]


def plain(found: Comparison) -> dict[str, Any]:
    """As JSON says it."""
    return {
        "runs": {side.letter: str(side.summary.folder) for side in found.sides},
        "scores": {side.letter: side.report for side in found.sides},
        "differences": {key: difference._asdict() for key, difference in found.differences.items()},
        "settings": {
            row[0]: dict(zip((s.letter for s in found.sides), row[1:], strict=True)) for row in found.settings
        },
        "notes": list(found.notes),
    }


def compare_command(folders: Sequence[Path], out: Path | None, *, as_json: bool) -> Comparison:
    """Print tables, notes and a sketch of the curves, and write the page with the pictures."""
    found = compare_runs(folders)
    if as_json:
        print(to_json(plain(found)))
    page = out or folders[0].parent / f"compare-{'-'.join(folder.resolve().name for folder in folders)[:120]}.html"
    if page.exists() and '<meta name="generator" content="yuyan">' not in page.read_text("utf-8", "replace")[:2000]:
        raise InputError(f"{page}: already there, and no page of ours; choose another place with --out")
    drawn = curves_of(found.sides, found.language)
    write_text(page, comparison_page([s.title for s in found.sides], found.metrics(), found.notes,
                                     (found.setting_columns(), found.settings), drawn, found.language))  # fmt: skip
    if as_json:
        return found
    for side in found.sides:
        say(side.title)
    table(word("came_out", found.language), *found.metrics())
    for note in found.notes:
        say(note)
    if found.settings:
        table(word("was_different", found.language), found.setting_columns(), found.settings, left=len(folders) + 1)
    if drawing := sketch(drawn[0].curves, drawn[0].across):
        say(f"\n{drawn[0].title}, {drawn[0].down}\n{drawing}")
    say(f"page: {page}  (open it in a browser)")
    return found

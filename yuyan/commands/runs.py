"""`yuyan runs`: what runs there are, how far they are, and what they came to.

A run is `done` (its report is written), `running` (a live process holds it), `stopped` (it can go on with --resume) or
`damaged` (a file is missing, cut or unreadable; `why` says which).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yuyan.commands.made import noted
from yuyan.commands.run import RUNS, RunConfig, open_run
from yuyan.console import say, table
from yuyan.errors import CheckpointCorrupt, InputError, YuyanError
from yuyan.evaluate.fragment import html_table
from yuyan.evaluate.quantities import bounds_of, count, duration, interval
from yuyan.evaluate.wording import MEASURES, less_is_better, terminal_name
from yuyan.store import held_by, read_lines, to_json, verify

RUN, SEARCH = "run.yaml", "tune.yaml"
DEPTH = 3  # of folders below the one that was named: runs/NAME, ladders/NAME/rungs/RUNG
Condition = Literal["done", "running", "stopped", "damaged"]


@dataclass(frozen=True)
class RunSummary:
    """One run. What is not known is None."""

    folder: Path
    name: str
    state: Condition
    why: str = ""
    model: str = ""
    parameters: int | None = None
    plan: str = ""
    step: int = 0
    saved: int | None = None
    """The newest step whose state is kept: a run that was killed goes on from there."""
    measure: str | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    whole: bool = False
    """Whether `value` is of all the validation text, in the report; else it is the best look on the way, at a part."""
    unit: str = "tokens"
    tokens: int = 0
    seconds: float = 0.0
    created: str = ""
    text: str | None = None
    """SHA-256 of the validation text: only scores on the same text can be compared."""


def summarise_run(folder: Path, *, contents: bool = False) -> RunSummary:
    """Read what a run folder says of itself; with `contents` every stored byte is checked, else only sizes."""
    made = noted(folder)
    known = RunSummary(folder, folder.name, "stopped", created=str(made.get("created", "")))
    try:
        config = open_run(folder)
        known = dataclasses.replace(
            known, name=config.name, model=config.model.kind, plan=_plan(config), parameters=made.get("parameters"),
            unit=str(made.get("unit", "tokens")), text=made.get("text", {}).get("validation"), saved=max((int(place.name) for place in _states(folder)), default=None),
        )  # fmt: skip
        report = last_report(folder)
        known = _with_report(known, report) if report is not None else _with_log(known, folder)
        _check(folder, contents)
    except (YuyanError, OSError, ValueError, KeyError, TypeError) as error:
        said = str(error) if isinstance(error, YuyanError | OSError) else f"{type(error).__name__}: {error}"
        return dataclasses.replace(known, state="damaged", why=said.partition("\n")[0])
    if any(held_by(place) for place in (folder, folder.parent.parent)):
        return dataclasses.replace(known, state="running")
    return dataclasses.replace(known, state="stopped" if report is None else "done")


def _plan(config: RunConfig) -> str:
    if config.train.steps is not None:
        return f"{config.train.steps:,} steps"
    if (epochs := config.train.epochs) is not None:
        return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    return str(config.train.budget)


def last_report(folder: Path) -> dict[str, Any] | None:
    """The report of a finished run. Raises CheckpointCorrupt if it cannot be read."""
    numbered = sorted(file for file in (folder / "reports").glob("*.json") if file.stem.isdigit())
    return read_object(numbered[-1]) if numbered else None


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointCorrupt."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointCorrupt(file, "a JSON object", "something unreadable")
    return found


def measure_of(score: dict[str, Any]) -> tuple[str, float, tuple[float, float] | None]:
    """What a score of a log or a report measures, how much, and between what: its first entry is its measure."""
    key = next(iter(score))
    if key not in MEASURES:
        raise ValueError(f"{key!r} is no measure")
    value = score[key]
    return key, math.nan if value is None else float(value), bounds_of(score.get("interval"))


def _with_report(known: RunSummary, report: dict[str, Any]) -> RunSummary:
    measure, value, bounds = measure_of(report["validation"])
    unit = next(key.removesuffix("_seen") for key in report if key.endswith("_seen"))
    return dataclasses.replace(
        known, measure=measure, value=value, interval=bounds, whole=True, unit=unit, step=int(report["best_step"] or 0),
        tokens=int(report[f"{unit}_seen"]), seconds=float(report["seconds"]), parameters=int(report["parameters"]),
    )  # fmt: skip


def _with_log(known: RunSummary, folder: Path) -> RunSummary:
    records = read_lines(folder / "log.jsonl")
    if not records:
        return known
    last = records[-1]
    known = dataclasses.replace(known, step=last["step"], tokens=last["tokens"], seconds=float(last["seconds"]))
    looks = [measure_of(record["validation"]) for record in records if "validation" in record]
    if not looks:
        return known
    measure, value, bounds = min(looks, key=lambda look: _cost(look[0], look[1]))
    return dataclasses.replace(known, measure=measure, value=value, interval=bounds)


def _cost(measure: str, value: float) -> float:
    """The lower the better; what is not a number is worst."""
    return math.inf if math.isnan(value) else value if less_is_better(measure) else -value


def _check(folder: Path, contents: bool) -> None:
    """Raises CheckpointCorrupt for a model or a checkpoint that is not as it was written, StorageError for none."""
    model = folder / "model"
    if model.is_dir():
        verify(model, contents=contents)
    elif (folder / "reports").is_dir():
        raise CheckpointCorrupt(model, "the model of the report", "no such folder")
    for place in _states(folder):
        verify(place, contents=contents)


def _states(folder: Path) -> list[Path]:
    """The checkpoints, the oldest first."""
    return sorted(place for place in (folder / "state").glob("*") if place.name.isdigit())


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The run folders at and below these; of a search (`yuyan tune`) only if it is named itself.

    Raises InputError for a folder that is not there, or without any.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        below = _listed(folder)
        if not below:
            said = "no such folder" if not folder.exists() else f"no run in it: there is no {RUN}"
            raise InputError(f"{folder}: {said}")
        found |= dict.fromkeys(place for place in below if not is_search(place))
    return list(found)


def find_searches(folders: Sequence[Path]) -> list[Path]:
    """The searches below these folders."""
    return [place for folder in folders for place in _listed(folder) if is_search(place)]


def is_search(folder: Path) -> bool:
    """Whether this is the folder of a search, whose trials are runs."""
    return (folder / SEARCH).is_file()


def _listed(folder: Path) -> list[Path]:
    """The run that a folder is, or the runs and searches in it."""
    if (folder / RUN).is_file():
        return [folder]
    return [place for entry in _inside(folder) for place in _below(entry, DEPTH - 1)]


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Runs and searches; what is in them is theirs."""
    if (folder / RUN).is_file() or is_search(folder):
        yield folder
    elif depth:
        yield from (place for entry in _inside(folder) for place in _below(entry, depth - 1))


def _inside(folder: Path) -> list[Path]:
    """The folders in a folder; of a search without the one that its trials share."""
    if not folder.is_dir():
        return []
    shared = "base" if is_search(folder) else None
    return [entry for entry in sorted(folder.iterdir())
            if entry.is_dir() and not entry.is_symlink() and ".tmp-" not in entry.name and entry.name != shared]  # fmt: skip


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, repr=False)
class Runs:
    """Runs in order; shows itself as a table, in a notebook too."""

    rows: tuple[RunSummary, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RunSummary]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> RunSummary:
        return self.rows[place]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows as texts; texts of validation have letters where there are several."""
        letters = {text: letter_of(n) for n, text in enumerate(dict.fromkeys(r.text for r in self.rows if r.text))}
        columns = ["run", "state", "model", "parameters", "plan", "best validation", "95 % interval", "tokens", "time"]
        columns += ["begun"] + (["text"] if len(letters) > 1 else [])
        rows = [
            [
                str(run.folder), _state(run), run.model or "–", count(run.parameters), run.plan or "–", _score(run),
                interval(run.interval, 4), f"{count(run.tokens)}{'' if run.unit == 'tokens' else ' ' + run.unit}",
                duration(run.seconds), run.created[:16].replace("T", " ") or "–",
                *([letters.get(run.text or "", "–")] if len(letters) > 1 else []),
            ]
            for run in self.rows
        ]  # fmt: skip
        return columns, rows

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        said = []
        if any(run.value is not None and not run.whole for run in self.rows):
            said.append("* the best look on the way, at a part of the validation text")
        if len({run.text for run in self.rows if run.text}) > 1:
            said.append("text: scores on texts of different letters cannot be compared")
        said += [f"{run.folder}: damaged: {run.why}" for run in self.rows if run.why]
        return said

    def plain(self) -> list[dict[str, Any]]:
        """As JSON says it."""
        return [dataclasses.asdict(run) | {"folder": str(run.folder)} for run in self.rows]

    def __repr__(self) -> str:
        columns, rows = self.table()
        return "\n".join([*aligned([columns, *rows]), *self.notes()])

    def _repr_html_(self) -> str:
        columns, rows = self.table()
        return str(html_table(columns, rows, left=3)) + "".join(str(html_table([note], [])) for note in self.notes())


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def letter_of(number: int) -> str:
    """A, B, ... Z, then a number."""
    return chr(ord("A") + number) if number < 26 else str(number)


def _state(run: RunSummary) -> str:
    if run.state in ("done", "damaged"):
        return run.state
    behind = run.state == "stopped" and run.saved is not None and run.saved < run.step
    return f"{run.state}, step {run.step:,}{f', saved at {run.saved:,}' if behind else ''}"


def _score(run: RunSummary) -> str:
    if run.value is None or run.measure is None:
        return "–"
    return f"{run.value:.4f} {terminal_name(run.measure)}{'' if run.whole else ' *'}"


_KEYS: dict[str, Callable[[RunSummary], Any]] = {
    "name": lambda run: str(run.folder),
    "time": lambda run: -run.seconds,
    "tokens": lambda run: -run.tokens,
    "size": lambda run: -(run.parameters or 0),
    # one measure on one text together, the best first; what was not measured last
    "score": lambda run: (run.value is None, run.measure or "", run.text or "", _cost(run.measure or "", run.value or 0.0)),
}  # fmt: skip


def list_runs(folders: Sequence[Path] = (), *, sort: str = "when", contents: bool = False) -> Runs:
    """The runs at and below the folders, by default `runs/`; the newest first. Raises InputError."""
    if sort not in ("when", *_KEYS):
        raise InputError(f"--sort: expected one of when, {', '.join(_KEYS)}; got {sort!r}")
    if not folders and not RUNS.is_dir():
        return Runs(())
    found = [summarise_run(folder, contents=contents) for folder in find_runs(folders or [RUNS])]
    found.sort(key=lambda run: str(run.folder))
    if sort == "when":
        found.sort(key=lambda run: run.created, reverse=True)
    else:
        found.sort(key=_KEYS[sort])
    return Runs(tuple(found))


def runs_command(folders: Sequence[Path], *, sort: str, contents: bool, as_json: bool) -> Runs:
    """Print the table, or JSON on standard output."""
    found = list_runs(folders, sort=sort, contents=contents)
    if as_json:
        print(to_json(found.plain()))
    elif not found.rows:
        say(f"no runs in {RUNS}/ yet; begin one:\n  yuyan train MY-TEXTS")
    else:
        table("", *found.table(), left=3)
        for note in found.notes():
            say(note)
        _say_next(found)
    for search in () if as_json else find_searches(folders or [RUNS]):
        say(f"a search; its trials:\n  yuyan runs {search}")
    return found


def _say_next(found: Runs) -> None:
    done = [str(run.folder) for run in found if run.state == "done"]
    alone = (run.folder for run in found if run.state == "stopped" and not is_search(run.folder.parent.parent))
    stopped = next(alone, None)  # trials go on with their search
    if len(done) > 1:
        say(f"side by side:\n  yuyan runs compare {done[0]} {done[1]}")
    if stopped is not None:
        say(f"to go on:\n  yuyan train {stopped / 'run.yaml'} --out {stopped} --resume")

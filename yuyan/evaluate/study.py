"""Pages about the choice of settings: the learning-rate range of a config, a search over some keys, runs side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from yuyan.evaluate.chart import Axis, Bar, Colour, Line, bar_chart, line_chart, with_mean
from yuyan.evaluate.grid import Cell, Grid, field_text
from yuyan.evaluate.page import Figure
from yuyan.evaluate.quantities import finite, percent, significant
from yuyan.evaluate.render import render
from yuyan.evaluate.scale import Point
from yuyan.evaluate.wording import measure_name, word

_COLOURS: tuple[Colour, ...] = ("s0", "s1", "s2", "s3", "s4", "s5")
_TRIAL = ("trial", "state", "why", "value")
_Table = tuple[Sequence[str], Sequence[Sequence[str]]]


class Drawn(NamedTuple):
    """Curves by name over `across` (tokens or seconds); `down` is their unit."""

    title: str
    curves: Mapping[str, Sequence[Point]]
    across: str
    down: str


def rate_page(found: Mapping[str, Any], language: str = "en") -> str:
    """`rates`, `losses`, `smoothed`, `suggestion`, the config's own `rate`, `config` as YAML, `title`."""
    lines = [
        Line("", list(zip(found["rates"], found["losses"], strict=True)), faint=True),
        Line(word("loss", language), list(zip(found["rates"], found["smoothed"], strict=True))),
    ]
    chart = line_chart(
        lines, Axis(word("learning_rate", language), log=True), Axis(word("training_axis", language)), language=language
    )
    figures = [
        Figure(word("suggestion", language), significant(found["suggestion"])),
        Figure(word("config_says", language), significant(found["rate"])),
    ]
    parts = [
        {"id": "rate_range", "chart": chart, "text": word("explain_rate", language)},
        {"id": "settings", "listing": found["config"]},
    ]
    return _page(str(found["title"]), word("rate_range", language), figures, parts, language)


def study_page(study: Mapping[str, Any], language: str = "en") -> str:
    """`title`, `measure`, `trials` (number, state, value, and the settings), `importance` by key, `best` as YAML, and
    whether a `higher` measure is better."""
    trials: Sequence[Mapping[str, Any]] = study["trials"]
    measure = measure_name(study["measure"], language)
    measured = [(trial["trial"], trial["value"]) for trial in trials if trial["state"] == "complete"]
    choose = max if study.get("higher") else min
    best = [(number, choose(value for n, value in measured if n <= number)) for number, _ in measured]
    history = line_chart(
        [Line(word("best_so_far", language), best), Line(word("each_trial", language), measured, "s1")],
        Axis(word("trial", language), whole=True), Axis(measure), language=language,
    )  # fmt: skip
    bars = [
        Bar(key.replace(".", ".\u200b"), value, text=percent(value, 0, language))
        for key, value in study["importance"].items()
    ]
    parts: list[dict[str, Any]] = [{"id": "history", "chart": history}]
    if bars:
        chart = bar_chart(bars, title=word("importance_axis", language), most=1.0, language=language)
        parts.append({"id": "importance", "chart": chart, "text": word("explain_importance", language)})
    parts.append({"id": "trials", "grid": _trials_grid(trials, measure, language)})
    parts.append({"id": "best_settings", "listing": study["best"]})
    figures = [Figure(measure, significant(best[-1][1]))] if best else []
    figures.append(Figure(word("trials", language), str(len(trials))))
    return _page(str(study["title"]), word("study", language), figures, parts, language)


def _trials_grid(trials: Sequence[Mapping[str, Any]], measure: str, language: str) -> Grid:
    """A row a trial: how it ended, what it reached, and its settings under their keys."""
    keys = [key for key in dict.fromkeys(key for trial in trials for key in trial) if key not in _TRIAL]
    rows = [
        [
            Cell(str(trial["trial"]), float(trial["trial"])),
            Cell(word(f"trial_{trial['state']}", language) + (f": {trial['why']}" if trial.get("why") else "")),
            *(Cell(field_text(key, trial.get(key), language), finite(trial.get(key))) for key in ("value", *keys)),
        ]
        for trial in trials
    ]  # fmt: skip
    texts = {3 + i for i, key in enumerate(keys) if any(isinstance(trial.get(key), str) for trial in trials)}
    head = [word("trial", language), word("trial_state", language), measure, *keys]
    return Grid(head, rows, frozenset({1, *texts}))


def comparison_page(
    names: Sequence[str],
    scores: _Table,
    notes: Sequence[str],
    settings: _Table,
    drawn: Sequence[Drawn],
    language: str = "en",
) -> str:
    """Runs side by side: `names`, the tables of scores and of settings that differ, and their curves."""
    parts: list[dict[str, Any]] = [{"id": "measures", "grid": _text_grid(scores, 1), "text": "\n".join(notes)}]
    if settings[1]:
        parts.append({"id": "different", "grid": _text_grid(settings, len(settings[0]))})
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    for number, one in enumerate(drawn):
        lines = [Line(name, points, colours[name]) for name, points in one.curves.items()]
        if one.down == "nats":
            lines = [line for each in lines for line in with_mean(each)]
        axis = (
            Axis(word("time_axis", language), time=True)
            if one.across == "seconds"
            else Axis(word("tokens_axis", language))
        )
        part = {"chart": line_chart(lines, axis, Axis(f"{one.title}, {one.down}"), language=language)}
        parts.append(
            part | {"id": "curves" if not number else "", "text": word("explain_looks", language) if not number else ""}
        )
    places = [name.partition(" ")[::2] for name in names]  # A, runs/first
    figures = [Figure(letter, place) for letter, place in places]
    return _page(
        " / ".join(f"{letter} {place.rpartition('/')[2]}" for letter, place in places),
        word("comparison", language),
        figures,
        parts,
        language,
    )


def _text_grid(table: _Table, texts: int) -> Grid:
    return Grid(table[0], [[Cell(cell) for cell in row] for row in table[1]], frozenset(range(texts)))


def _page(title: str, kicker: str, figures: Sequence[Figure], parts: Sequence[dict[str, Any]], language: str) -> str:
    whole = [{"text": "", "chart": None, "grid": None, "listing": ""} | part for part in parts]
    return render(
        "study.html.j2", language, title=title, kicker=kicker, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        sections=[part["id"] for part in parts if part["id"]], figures=figures, parts_of_page=whole,
    )  # fmt: skip

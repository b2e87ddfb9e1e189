"""Pages about the choice of settings: the learning-rate range of a config, and a search over some of its keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from yuyan.evaluate.chart import Axis, Bar, Line, bar_chart, line_chart
from yuyan.evaluate.grid import records_grid
from yuyan.evaluate.page import Figure
from yuyan.evaluate.quantities import significant
from yuyan.evaluate.render import render
from yuyan.evaluate.wording import word


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
    """`title`, `measure`, `trials` (number, state, value, and the settings), `importance` by key, `best` as YAML."""
    trials: Sequence[Mapping[str, Any]] = study["trials"]
    measured = [(trial["trial"], trial["value"]) for trial in trials if trial["state"] == "complete"]
    best = [(number, min(value for n, value in measured if n <= number)) for number, _ in measured]
    history = line_chart(
        [Line(word("each_trial", language), measured, "s1", faint=False), Line(word("best_so_far", language), best)],
        Axis(word("trial", language)), Axis(study["measure"]), language=language,
    )  # fmt: skip
    bars = [Bar(key, value, text=f"{100 * value:.0f} %") for key, value in study["importance"].items()]
    parts: list[dict[str, Any]] = [{"id": "history", "chart": history}]
    if bars:
        chart = bar_chart(bars, title=word("importance_axis", language), language=language)
        parts.append({"id": "importance", "chart": chart, "text": word("explain_importance", language)})
    parts.append({"id": "trials", "grid": records_grid(trials, language)})
    parts.append({"id": "best_settings", "listing": study["best"]})
    figures = [Figure(study["measure"], significant(best[-1][1]))] if best else []
    figures.append(Figure(word("trials", language), str(len(trials))))
    return _page(str(study["title"]), word("study", language), figures, parts, language)


def _page(title: str, kicker: str, figures: Sequence[Figure], parts: Sequence[dict[str, Any]], language: str) -> str:
    whole = [{"text": "", "chart": None, "grid": None, "listing": ""} | part for part in parts]
    return render(
        "study.html.j2", language, title=title, kicker=kicker, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        sections=[part["id"] for part in parts], figures=figures, parts_of_page=whole,
    )  # fmt: skip

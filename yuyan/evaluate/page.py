"""Reports as web pages: a ladder or a run, as plain data, becomes one HTML file that needs nothing else.

Every piece of the data may be missing; what is missing is left out of the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from yuyan.config import flatten
from yuyan.evaluate.chart import Axis, Bar, Colour, Line, Reference, bar_chart, line_chart, shorten, with_mean
from yuyan.evaluate.confusion import confusion_charts
from yuyan.evaluate.data_report import data_report
from yuyan.evaluate.grid import Cell, Grid, counted, entries, field_name, field_text, records_grid
from yuyan.evaluate.quantities import (
    bounds_of,
    count,
    decimal,
    duration,
    finite,
    interval,
    percent,
    plain,
    significant,
    size,
)
from yuyan.evaluate.render import render
from yuyan.evaluate.scale import Point
from yuyan.evaluate.verdict import is_ngram, ranking, title_of, verdict
from yuyan.evaluate.wording import MEASURES, language_of, measure_name, name_of, theory, word

MOST_ROWS = 200  # of a table of updates

_NEURAL: tuple[Colour, ...] = ("s0", "s1", "s2", "s3", "s4", "s5")
_COUNTED: tuple[Colour, ...] = ("g0", "g1", "g2")


class Figure(NamedTuple):
    """One number at the head of a page."""

    name: str
    value: str
    detail: str = ""


# ---------------------------------------------------------------- the ladder


def ladder_page(ladder: Mapping[str, Any]) -> str:
    """The report of a ladder (the content of `ladder.json`) as one HTML file."""
    language = language_of(ladder)
    rungs = [rung for rung in ladder.get("rungs") or () if isinstance(rung, Mapping)]
    colours = _colours(rungs)
    best = _best(ladder)
    validation = _validation_charts(rungs, colours, language)
    samples = _sample_groups(
        [(title_of(rung), colour, rung.get("samples")) for rung, colour in zip(rungs, colours, strict=True)],
        language,
    )
    data = data_report(ladder, language)
    commands = [str(command) for command in ladder.get("next") or ()]
    settings = bool(ladder.get("command") or ladder.get("environment") or _ladder_settings(ladder, language))
    shown: dict[str, object] = {"result": True, "curves": validation, "samples": samples, "data": data}
    shown |= {"settings": settings or any(rung.get("config") for rung in rungs), "next": commands}
    return render(
        "ladder.html.j2", language,
        title=str(ladder.get("title") or word("ladder", language)), kicker=word("ladder", language),
        created=str(ladder.get("created") or ""), sections=[key for key, value in shown.items() if value],
        verdict=verdict(ladder),
        figures=_ladder_figures(ladder, language), bars=_bars(rungs, colours, best, language),
        rungs=_rungs_grid(rungs, best, language), validation=validation,
        has_references=any(is_ngram(rung) for rung in rungs),
        training=_training_chart(rungs, colours, language), samples=samples, data=data,
        command=str(ladder.get("command") or ""), settings=_ladder_settings(ladder, language), configs=_rung_configs(rungs, language),
        environment=entries(ladder.get("environment"), language), next=commands,
    )  # fmt: skip


def _colours(rungs: Sequence[Mapping[str, Any]]) -> list[Colour]:
    """Greys for what is counted, colours for what is trained."""
    counted_ones = trained = 0
    colours: list[Colour] = []
    for rung in rungs:
        if is_ngram(rung):
            colours.append(_COUNTED[counted_ones % len(_COUNTED)])
            counted_ones += 1
        else:
            colours.append(_NEURAL[trained % len(_NEURAL)])
            trained += 1
    return colours


def _best(ladder: Mapping[str, Any]) -> str:
    """The name of the best rung: as the ladder says, else by score; empty where none was measured."""
    ranked = ranking(ladder)
    return str(ladder.get("best") or (ranked[0].get("name") if ranked else None) or "")


def _bounds(value: object, language: str) -> str:
    return word("bounds", language).format(bounds=interval(value)) if bounds_of(value) else ""


def _ladder_figures(ladder: Mapping[str, Any], language: str) -> list[Figure]:
    ranked = ranking(ladder)
    figures = []
    if ranked:
        best = next((rung for rung in ranked if rung.get("name") == _best(ladder)), ranked[0])
        bounds = _bounds(best.get("interval"), language)
        figures.append(Figure(word("best_rung", language), title_of(best)))
        figures.append(Figure(word("bits_per_byte", language), decimal(best["bits_per_byte"]), bounds))
        first = next((rung for rung in ladder["rungs"] if rung in ranked), best)
        if first is not best:
            change = best["bits_per_byte"] / first["bits_per_byte"] - 1
            name = word("against_first", language).format(name=title_of(first))
            figures.append(
                Figure(
                    name,
                    percent(change, language=language),
                    f"{decimal(first['bits_per_byte'])} → {decimal(best['bits_per_byte'])}",
                )
            )
    held_out = str(ranked[0].get("held_out") or "test") if ranked else "test"
    corpus = ladder.get("corpus") or {}
    if held := finite((corpus.get("bytes") or {}).get(held_out)):
        documents = word("of_documents", language).format(count=count((corpus.get("documents") or {}).get(held_out)))
        figures.append(Figure(word("held_out", language), size(held), documents))
    if finite(ladder.get("seconds_total")) is not None:
        figures.append(Figure(word("seconds_total", language), duration(ladder["seconds_total"], language)))
    return figures


def _bars(rungs: Sequence[Mapping[str, Any]], colours: Sequence[Colour], best: str, language: str) -> Markup:
    bars = []
    for rung, colour in zip(rungs, colours, strict=True):
        low, high = bounds_of(rung.get("interval")) or (float("nan"), float("nan"))
        score = finite(rung.get("bits_per_byte"))
        bars.append(Bar(
            title_of(rung), float("nan") if score is None else score, low, high, colour,
            tag=word("best", language) if str(rung.get("name")) == best else "",
            note=theory(rung.get("name"), language) or theory(rung.get("title"), language),
            detail=interval(rung.get("interval")) if low == low else "",
        ))  # fmt: skip
    return bar_chart(bars, title=word("bits_per_byte", language), language=language)


def _rungs_grid(rungs: Sequence[Mapping[str, Any]], best: str, language: str) -> Grid:
    units = {str(rung.get("perplexity_unit") or "token") for rung in rungs}
    unit = next(iter(units)) if len(units) == 1 else ""
    keys = ("parameters", "tokens_seen", "epochs", "seconds", "tokens_per_second", "bytes_on_disk", "stopped", "folder")
    columns = [
        word("rung", language), word("bits_per_byte", language), word("interval", language),
        word("perplexity_per", language).format(unit=name_of(unit, language)) if unit else word("perplexity", language),
        *(word(key, language) for key in keys),
    ]  # fmt: skip
    rows = [_rung_row(rung, str(rung.get("name")) == best, not unit, language) for rung in rungs]
    first = next((index for index, rung in enumerate(rungs) if str(rung.get("name")) == best), None)
    return Grid(columns, rows, frozenset({0, 10, 11}), first)


def _rung_row(rung: Mapping[str, Any], best: bool, with_unit: bool, language: str) -> list[Cell]:
    unit = f" / {name_of(rung.get('perplexity_unit') or 'token', language)}" if with_unit else ""
    bounds = bounds_of(rung.get("interval"))
    numbers = {
        key: finite(rung.get(key)) for key in ("bits_per_byte", "perplexity", "epochs", "seconds", "bytes_on_disk")
    }
    return [
        Cell(title_of(rung), tag=word("best", language) if best else ""),
        Cell(decimal(numbers["bits_per_byte"]), numbers["bits_per_byte"], plain_number(numbers["bits_per_byte"])),
        Cell(interval(rung.get("interval")), bounds[0] if bounds else None),
        Cell(significant(numbers["perplexity"]) + unit, numbers["perplexity"]),
        counted(rung.get("parameters")),
        counted(rung.get("tokens_seen")),
        Cell(significant(numbers["epochs"], 3), numbers["epochs"]),
        Cell(duration(numbers["seconds"], language), numbers["seconds"]),
        counted(rung.get("tokens_per_second")),
        Cell(size(numbers["bytes_on_disk"]), numbers["bytes_on_disk"]),
        Cell(name_of(rung["stopped"], language) if rung.get("stopped") else "–"),
        Cell(str(rung.get("folder") or "–")),
    ]


def plain_number(value: float | None) -> str:
    """All the digits there are, for the pointer."""
    return "" if value is None else repr(value)


def _validation_charts(
    rungs: Sequence[Mapping[str, Any]], colours: Sequence[Colour], language: str
) -> tuple[Markup, Markup] | None:
    """Validation against time, linear and logarithmic; None where no rung has a curve."""
    pairs = list(zip(rungs, colours, strict=True))
    lines = [Line(title_of(r), _points(r.get("validation_curve"), "seconds", "bits_per_byte"), c) for r, c in pairs]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    levels = [(title_of(r), _validation_level(r), c) for r, c in pairs if is_ngram(r)]
    references = [Reference(title, level, colour) for title, level, colour in levels if level is not None]
    draw = partial(line_chart, lines, references=references, height=380, language=language)
    title, down = word("time_axis", language), Axis(word("validation_axis", language))
    return draw(Axis(title, time=True), down), draw(Axis(title, log=True, time=True), down)


def _validation_level(rung: Mapping[str, Any]) -> float | None:
    """The score on the text that the curves are measured on, where it is known; else the one in the table."""
    level = finite(rung.get("validation_bits_per_byte"))
    return finite(rung.get("bits_per_byte")) if level is None else level


def _training_chart(rungs: Sequence[Mapping[str, Any]], colours: Sequence[Colour], language: str) -> Markup | None:
    lines = [
        part
        for rung, colour in zip(rungs, colours, strict=True)
        for part in with_mean(Line(title_of(rung), _points(rung.get("training_curve"), "seconds", "loss"), colour))
        if part.points
    ]
    if not lines:
        return None
    across, down = Axis(word("time_axis", language), time=True), Axis(word("training_axis", language), silent=True)
    return line_chart(lines, across, down, height=240, language=language)


def _points(records: object, x: str, y: str) -> list[Point]:
    """The curve in a list of records; a record without the place is left out, one without the value is a gap."""
    points: list[Point] = []
    for record in records if isinstance(records, Sequence) else ():
        place, value = finite(record.get(x)), finite(record.get(y))
        if place is not None and y in record:
            points.append((place, float("nan") if value is None else value))
    return points


def _sample_groups(sources: Iterable[tuple[str, Colour | None, object]], language: str) -> list[dict[str, Any]]:
    """Samples side by side: one group a prompt, in the order in which prompts appear."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, colour, samples in sources:
        for sample in samples if isinstance(samples, Sequence) and not isinstance(samples, str) else ():
            known = sample if isinstance(sample, Mapping) else {"text": sample}
            prompt = str(known.get("prompt") or "")
            entry = {
                "name": name or _sample_name(known, language),
                "colour": colour,
                "text": str(known.get("text") or "").removeprefix(prompt),
            }
            groups.setdefault(prompt, []).append(entry)
    return [
        {"prompt": prompt, "short": shorten(" ".join(prompt.split()), 80), "samples": entries}
        for prompt, entries in groups.items()
    ]


def _sample_name(sample: Mapping[str, Any], language: str) -> str:
    """Of a sample made in training: the update after which it was made."""
    return word("at_step", language).format(step=plain(sample["step"])) if sample.get("step") is not None else ""


def _ladder_settings(ladder: Mapping[str, Any], language: str) -> list[tuple[str, str]]:
    settings = []
    if finite(ladder.get("budget_seconds")) is not None:
        settings.append((word("budget", language), duration(ladder["budget_seconds"], language)))
    settings += [
        (f"{word('budget', language)} · {key.replace('_', ' ')}", field_text(key, value, language))
        for key, value in flatten(ladder.get("budget") or {}).items()
    ]
    if finite(ladder.get("seconds_total")) is not None:
        settings.append((word("seconds_total", language), duration(ladder["seconds_total"], language)))
    return settings


def _rung_configs(rungs: Sequence[Mapping[str, Any]], language: str) -> list[dict[str, str]]:
    named = ((word("config", language).format(name=title_of(rung)), rung) for rung in rungs if rung.get("config"))
    return [{"name": name, "text": _yaml(rung["config"])} for name, rung in named]


# ---------------------------------------------------------------- a run


def run_page(run: Mapping[str, Any]) -> str:
    """The report of one training run as one HTML file."""
    language = language_of(run)
    updates = [update for update in run.get("updates") or () if isinstance(update, Mapping)]
    evaluations = [evaluation for evaluation in run.get("evaluations") or () if isinstance(evaluation, Mapping)]
    samples = _sample_groups([("", None, run.get("samples"))], language)
    every = -(-len(updates) // MOST_ROWS) or 1
    listed = updates[::every]
    confusions = confusion_charts(run.get("confusions"), language)
    shown: dict[str, object] = {
        "curves": True, "measures": updates or evaluations, "confusion": confusions, "samples": samples,
    }  # fmt: skip
    shown["settings"] = any(run.get(key) for key in ("command", "config", "environment"))
    shown["next"] = commands = [str(command) for command in run.get("next") or ()]
    return render(
        "run.html.j2", language,
        title=str(run.get("title") or word("run", language)), kicker=word("run", language),
        created=str(run.get("created") or ""), sections=[key for key, value in shown.items() if value],
        figures=_run_figures(run.get("summary"), language),
        loss=_run_chart(updates, "loss", word("loss", language), language, height=320),
        validation=_run_validation(evaluations, language), validation_name=_validation_name(evaluations, language), small=_run_small(updates, language),
        evaluations=records_grid(evaluations, language), updates=records_grid(listed, language), every=every,
        samples=samples, confusions=confusions, command=str(run.get("command") or ""),
        config=_yaml(run["config"]) if run.get("config") else "",
        environment=entries(run.get("environment"), language), next=commands,
    )  # fmt: skip


def _run_figures(summary: object, language: str) -> list[Figure]:
    """The summary's numbers at the head of the page, an interval under its score."""
    if not isinstance(summary, Mapping):
        return []
    figures = []
    for key, value in summary.items():
        if key == "interval" or key.endswith("_interval"):
            continue  # stands below its score
        split = next((each for each in ("validation_", "test_") if key.startswith(each)), "")
        scored = key.removeprefix(split) == _score_of(summary, split)
        detail = _bounds(summary.get(f"{split}interval"), language) if scored else ""
        text = name_of(value, language) if isinstance(value, str) else field_text(str(key), value, language)
        figures.append(Figure(field_name(str(key), language), text, detail))
    return figures


def _score_of(summary: Mapping[str, Any], split: str) -> str:
    """The measure that the interval of a split belongs to: the first that is named, else bits per byte."""
    names = [key.removeprefix(split) for key in summary if split and key.startswith(split)]
    return names[0] if names else "bits_per_byte"


def _run_chart(updates: Sequence[Mapping[str, Any]], key: str, title: str, language: str, height: int = 180) -> Markup:
    line = Line(title, _points(updates, "step", key))
    lines = [line] if key == "learning_rate" else with_mean(line)  # a schedule has no noise to take out
    across = Axis(word("step_axis", language))
    down = Axis(title, silent=True, from_zero=key == "memory")
    return line_chart(lines, across, down, height=height, language=language)


def _measure(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """What the looks at the validation data measured first."""
    return next((key for evaluation in evaluations for key in evaluation if key in MEASURES), "bits_per_byte")


def _validation_name(evaluations: Sequence[Mapping[str, Any]], language: str) -> str:
    measure = _measure(evaluations)
    if measure == "bits_per_byte":
        return word("validation_axis", language)
    return f"{word('validation', language)}: {measure_name(measure, language)}"


def _run_validation(evaluations: Sequence[Mapping[str, Any]], language: str) -> Markup | None:
    measure, name = _measure(evaluations), _validation_name(evaluations, language)
    points = _points(evaluations, "step", measure)
    if not points:
        return None
    bounds = [(finite(e.get("step")), bounds_of(e.get("interval"))) for e in evaluations]
    band = [(step, *pair) for step, pair in bounds if step is not None and pair is not None]
    line = Line(measure_name(measure, language), points, "s1", band)
    across, down = Axis(word("step_axis", language)), Axis(name, silent=True)
    chart = line_chart([line], across, down, height=260, language=language)
    return chart + Markup('<p class="aside">{}</p>').format(word("shaded", language)) if band else chart


def _run_small(updates: Sequence[Mapping[str, Any]], language: str) -> list[dict[str, Any]]:
    wanted = (
        ("learning_rate", "learning_rate"), ("gradient_norm", "gradient_norm"), ("tokens_per_second", "speed"),
        ("step_seconds", "step_seconds"), ("waited", "waited"), ("mfu", "mfu"), ("memory", "memory"),
    )  # fmt: skip
    return [
        {"title": word(name, language), "chart": _run_chart(updates, key, word(name, language), language)}
        for key, name in wanted
        if any(finite(update.get(key)) for update in updates)
    ]


def _yaml(config: object) -> str:
    """A config as the YAML that a reader could have written."""
    data = json.loads(json.dumps(config, default=str))
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))

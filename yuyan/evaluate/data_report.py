"""The part of a ladder's page that tells what the text was: sources, splits, cleaning, lengths, languages, overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from yuyan.evaluate.grid import Cell, Grid, counted, entries, field_text
from yuyan.evaluate.quantities import count, finite, percent, plain, size
from yuyan.evaluate.wording import language_name, name_of, word

_SPLITS = ("train", "validation", "test")


class Part(NamedTuple):
    """A few facts under a title."""

    title: str
    facts: list[tuple[str, str]]


class Dropped(NamedTuple):
    """One step of cleaning with texts that it dropped."""

    name: str
    number: str
    samples: list[dict[str, str]]


class DataReport(NamedTuple):
    """What the template lays out."""

    facts: list[tuple[str, str]]
    splits: Grid
    steps: Grid
    dropped: list[Dropped]
    parts: list[Part]


def data_report(ladder: Mapping[str, Any], language: str) -> DataReport | None:
    """The data part of a page, or None where the ladder says nothing about its corpus."""
    corpus = ladder.get("corpus") or {}
    if not corpus:
        return None
    steps = [step for step in corpus.get("steps") or () if isinstance(step, Mapping)]
    told = (("sources", "paths"), ("documents_are", "documents_are"), ("split_by", "split"), ("warnings", "warnings"))
    facts = [(word(name, language), plain(corpus[key])) for name, key in told if corpus.get(key)]
    lengths = _lengths(corpus.get("lengths"), language)
    parts = [
        Part(word("lengths", language), lengths),
        Part(word("languages", language), _languages(corpus.get("languages"), language)),
        Part(word("overlap", language), entries(corpus.get("overlap"), language)),
        Part(word("tokenizer", language), entries(ladder.get("tokenizer"), language)),
    ]
    return DataReport(
        facts, _splits(corpus, language), _steps(steps, language), _dropped(steps, language),
        [part for part in parts if part.facts],
    )  # fmt: skip


def _splits(corpus: Mapping[str, Any], language: str) -> Grid:
    documents, sizes = _mapping(corpus.get("documents")), _mapping(corpus.get("bytes"))
    names = [name for name in dict.fromkeys((*_SPLITS, *documents, *sizes)) if name in documents or name in sizes]
    total = sum(finite(value) or 0 for value in sizes.values())
    rows = []
    for name in names:
        number = finite(sizes.get(name))
        share = number / total if number is not None and total else None
        rows.append([
            Cell(name_of(name, language)), counted(documents.get(name)),
            Cell(size(sizes.get(name)), number), Cell(percent(share, language=language), share),
        ])  # fmt: skip
    columns = [word(key, language) for key in ("split", "documents", "size", "share")]
    return Grid(columns, rows, frozenset({0}))


def _steps(steps: Sequence[Mapping[str, Any]], language: str) -> Grid:
    rows = []
    for step in steps:
        kept, dropped = finite(step.get("kept")), finite(step.get("dropped"))
        share = dropped / (kept + dropped) if kept is not None and dropped is not None and kept + dropped else None
        rows.append([
            Cell(name_of(step.get("name", ""), language)), counted(step.get("kept")), counted(step.get("dropped")),
            Cell(percent(share, 2, language), share),
        ])  # fmt: skip
    columns = [word(key, language) for key in ("step", "kept", "dropped")]
    return Grid([*columns, f"{columns[2]}, %"], rows, frozenset({0}))


def _dropped(steps: Sequence[Mapping[str, Any]], language: str) -> list[Dropped]:
    return [
        Dropped(
            name_of(step.get("name", ""), language), count(step.get("dropped")), [_sample(s) for s in step["samples"]]
        )
        for step in steps
        if step.get("samples")
    ]


def _sample(sample: object) -> dict[str, str]:
    """A dropped text, with whatever else was noted about it."""
    if not isinstance(sample, Mapping):
        return {"text": str(sample), "meta": ""}
    rest = [f"{key}: {plain(value)}" for key, value in sample.items() if key != "text" and value not in (None, "")]
    return {"text": str(sample.get("text") or ""), "meta": " · ".join(rest)}


def _lengths(lengths: object, language: str) -> list[tuple[str, str]]:
    known = _mapping(lengths)
    unit = f" {name_of(known['unit'], language)}" if known.get("unit") else ""
    return [
        (word(key, language) if key in ("p5", "p50", "p95", "max") else name_of(key, language),
         field_text(key, value, language) + unit)
        for key, value in known.items()
        if key != "unit"
    ]  # fmt: skip


def _languages(languages: object, language: str) -> list[tuple[str, str]]:
    """Shares as percentages; counts with theirs."""
    known = _mapping(languages)
    numbers = {key: finite(value) for key, value in known.items()}
    if not known or any(value is None or value < 0 for value in numbers.values()):
        return entries(languages, language)
    total = sum(value or 0 for value in numbers.values())
    shares = all(isinstance(value, float) for value in known.values()) and total <= 1.001
    ordered = sorted(((value or 0, language_name(str(key), language)) for key, value in numbers.items()), reverse=True)
    if shares or not total:
        return [(key, percent(value, language=language)) for value, key in ordered]
    return [(key, f"{count(value)} ({percent(value / total, language=language)})") for value, key in ordered]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

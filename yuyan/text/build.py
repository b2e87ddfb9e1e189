"""The two halves of preparing data: cleaning documents onto disk, then deciding about them as a whole.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from yuyan.console import Task, progress
from yuyan.errors import DataError
from yuyan.text.document import Document, read_written, to_line
from yuyan.text.duplicate import Comparison, NearDuplicates, candidate_groups, repeats
from yuyan.text.overlap import NGRAMS, Overlap, batches
from yuyan.text.parallel import clean_all
from yuyan.text.read import Cutting, Reading
from yuyan.text.report import (
    DataReport,
    LanguageReport,
    OverlapReport,
    SourceReport,
    SplitReport,
    StepReport,
    Tally,
    length_percentiles,
)
from yuyan.text.settings import CleanConfig, DataConfig
from yuyan.text.spill import Spill
from yuyan.text.split import SPLITS, TRAIN, NoSplit, OrderedSplit, Part, RandomSplit, split_ordered, split_random
from yuyan.text.survey import Survey

BATCH = 1 << 18
"""Characters of a batch."""
SMALL = 4 << 20
"""Bytes of a corpus below which more processes would start later than one is done."""


@dataclass
class Material:
    """One set of sources after cleaning, and what was met on the way."""

    found: Survey
    reading: Reading
    cutting: Cutting
    spill: Spill
    keep: NDArray[np.bool_]
    """(D,) not dropped as duplicates."""


def clean_into(
    folder: Path, found: Survey, reading: Reading, cutting: Cutting, config: DataConfig, processes: int, *, drop: bool
) -> Material:
    """Read and clean everything that was found, onto disk; with `drop`, without what the rules drop."""
    size = sum(each.text_bytes for each in found.sources)
    clean = config.clean or CleanConfig.nothing()
    spill = Spill(folder)
    with progress("reading and cleaning", total=size) as task:
        documents = _shown(reading.run(found, cutting), task)
        workers = 1 if size < SMALL else processes
        seed = config.split.seed if isinstance(config.split, RandomSplit) else 0
        for cleaned in clean_all(batches(documents, BATCH), clean, seed=seed, drop=drop, processes=workers):
            spill.add(cleaned)
    spill.close_input()
    material = Material(found, reading, cutting, spill, np.ones(len(spill), dtype=bool))
    if not len(spill):
        raise DataError(_nothing_left(material))
    if drop:
        _drop_duplicates(material, clean)
    return material


def _shown(documents: Iterator[Document], task: Task) -> Iterator[Document]:
    """Progress by the bytes of the texts."""
    for document in documents:
        yield document
        task.advance(len(document.text) if document.text.isascii() else len(document.text.encode("utf-8", "replace")))


def _nothing_left(material: Material) -> str:
    names = ", ".join(each.source.name for each in material.found.sources[:3])
    dropped = {name: tally.dropped for name, tally in material.spill.tallies.items() if tally.dropped}
    if not dropped:
        return f"{names}: no training text: every record is empty"
    said = ", ".join(f"{count:,} by {name}" for name, count in dropped.items())
    steps = " ".join(f"data.clean.{name}=null" for name in dropped)
    return f"{names}: nothing is left after cleaning: dropped were {said}; look with `yuyan data`, or switch off with {steps}"


# ---------------------------------------------------------------- duplicates


def _drop_duplicates(material: Material, clean: CleanConfig) -> None:
    spill, keep = material.spill, material.keep
    if clean.exact_duplicates is not None:
        tally = spill.tallies["exact_duplicates"] = Tally(seen=int(keep.sum()))
        first = repeats(spill.equality)
        keep[first >= 0] = False
        tally.dropped = int((first >= 0).sum())
        tally.characters_dropped = int(spill.characters[first >= 0].sum())
        if tally.dropped:
            tally.reasons["equal to an earlier document"] = tally.dropped
        for number in np.flatnonzero(first >= 0)[:5]:
            document, original = spill.document(int(number)), spill.document(int(first[number]))
            tally.sample(document.id, f"equal to {original.id}", document.text)
    if clean.near_duplicates is not None:
        with progress("comparing near duplicates"):
            _drop_near(material, clean.near_duplicates)
    if len(keep) > 1 and keep.sum() == 1:
        name = material.found.sources[0].source.name
        raise DataError(
            f"{name}: all {len(keep):,} documents are the same text; one is left, and that cannot be split. "
            "Give more text, or keep duplicates with data.clean.exact_duplicates=null data.clean.near_duplicates=null"
        )


def _drop_near(material: Material, config: NearDuplicates) -> None:
    spill, keep = material.spill, material.keep
    tally = spill.tallies["near_duplicates"] = Tally(seen=int(keep.sum()))
    still = keep[spill.long]
    comparison = Comparison(config, lambda number: spill.document(number).text)
    groups = list(candidate_groups(spill.band_columns(still), spill.long[still]))
    for near in comparison.run(groups):
        keep[near.document] = False
        tally.dropped += 1
        tally.characters_dropped += int(spill.characters[near.document])
        if tally.dropped <= 5:
            document, original = spill.document(near.document), spill.document(near.like)
            tally.sample(document.id, f"{100 * near.similarity:.0f} % like {original.id}", document.text)
    if tally.dropped:
        tally.reasons["like an earlier document"] = tally.dropped
    if comparison.left_out:
        tally.reasons["comparisons not made (too many alike)"] = comparison.left_out


# ---------------------------------------------------------------- the parts


def build_parts(material: dict[str, Material], config: DataConfig, folder: Path) -> DataReport:
    """Divide, write, measure the overlap, and say what happened."""
    main = material[TRAIN]
    chosen = np.flatnonzero(main.keep)
    given = [name for name in SPLITS if name in material and name != TRAIN]
    divided = _divide(main, chosen, config, given)
    splits: dict[str, SplitReport] = {}
    with progress("writing"):
        for name in SPLITS:
            if name in divided:
                splits[name] = _write_part(folder / f"{name}.jsonl", main.spill, chosen, divided[name])
            elif name in given:
                every = np.arange(len(material[name].spill))
                splits[name] = _write_part(folder / f"{name}.jsonl", material[name].spill, every, Part(every))
    overlap = _measure_overlap(folder, splits)
    return _report(material, config, splits, overlap, given)


def _divide(main: Material, chosen: NDArray[np.int64], config: DataConfig, given: list[str]) -> dict[str, Part]:
    """The parts as numbers into `chosen`."""
    if given or isinstance(config.split, NoSplit):
        return {TRAIN: Part(np.arange(len(chosen)))}
    if isinstance(config.split, OrderedSplit):
        return split_ordered(main.spill.characters[chosen], config.split)
    return split_random(main.spill.split[chosen], config.split)


def _write_part(path: Path, spill: Spill, chosen: NDArray[np.int64], part: Part) -> SplitReport:
    """Copy the lines of a part; only a document that is cut is opened."""
    characters = size = 0
    last = len(part.documents) - 1
    with path.open("wb") as file:
        for index, number in enumerate(chosen[part.documents]):
            number = int(number)
            start = part.start if index == 0 else 0
            end = part.end if index == last else None
            if start or end is not None:
                text = _write_cut(file, spill.document(number), start, end)
                characters, size = characters + len(text), size + len(text.encode())
            else:
                file.write(spill.line(number))
                characters, size = characters + int(spill.characters[number]), size + int(spill.bytes[number])
    return SplitReport(documents=len(part.documents), characters=characters, bytes=size)


def _write_cut(file: IO[bytes], document: Document, start: int, end: int | None) -> str:
    text = document.text[start:end]
    ident = f"{document.id}[{start}:{'' if end is None else end}]"
    file.write(to_line(Document(ident, text, document.meta)).encode())
    return text


def _measure_overlap(folder: Path, splits: dict[str, SplitReport]) -> dict[str, OverlapReport]:
    parts = {
        name: Overlap(read_written(folder / f"{name}.jsonl"), split.characters)
        for name, split in splits.items()
        if name != TRAIN
    }
    if not parts:
        return {}
    with progress("measuring overlap", total=splits[TRAIN].documents) as task:
        for batch in batches(read_written(folder / f"{TRAIN}.jsonl"), BATCH):
            texts = [document.text for document in batch]
            for overlap in parts.values():
                overlap.look(texts)
            task.advance(len(batch))
    return {name: overlap.report() for name, overlap in parts.items()}


# ---------------------------------------------------------------- the report


def _report(
    material: dict[str, Material],
    config: DataConfig,
    splits: dict[str, SplitReport],
    overlap: dict[str, OverlapReport],
    given: list[str],
) -> DataReport:
    main = material[TRAIN]
    spill, keep, reading = main.spill, main.keep, main.reading
    skipped = [*(s for each in material.values() for s in each.found.skipped + each.reading.skipped)]
    reasons: dict[str, int] = {}
    for one in skipped:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    return DataReport(
        sources=[report for each in material.values() for report in _sources(each)],
        skipped=reasons,
        skipped_samples=[f"{one.name}: {one.reason}" for one in skipped[:10]],
        documents_are=_documents_are(main),
        documents_read=sum(reading.documents.values()),
        characters_read=sum(reading.characters.values()),
        records_empty=reading.trouble.empty,
        records_bad=reading.trouble.bad,
        bad_samples=reading.trouble.samples,
        steps=_steps(spill, config),
        documents_kept=int(keep.sum()),
        characters_kept=int(spill.characters[keep].sum()),
        bytes_kept=int(spill.bytes[keep].sum()),
        lengths=length_percentiles(spill.characters[keep]),
        languages=_languages(main),
        split=_how_split(config, given),
        splits=splits,
        overlap=overlap,
        overlap_ngrams=NGRAMS,
        warnings=_warnings(material, splits, overlap),
    )


def _sources(material: Material) -> Iterator[SourceReport]:
    reading = material.reading
    for each in material.found.sources:
        name = each.source.name
        yield SourceReport(
            name=name, format=each.source.format, packing=each.source.packing if each.source.member is None else "zip",
            encoding=each.encoding.name, encoding_found=each.encoding.how, text_column=reading.columns.get(name),
            bytes=each.text_bytes, characters=reading.characters.get(name, 0), documents=reading.documents.get(name, 0),
        )  # fmt: skip


def _documents_are(material: Material) -> str:
    said = material.cutting.said
    ends = material.reading.ends
    if material.cutting.kind == "section" and ends:
        order = ("blank line", "line end", "sentence end", "space", "hard cut")
        counts = ", ".join(f"{ends[place]:,} at a {place}" for place in order if ends.get(place))
        said += f"; cut: {counts or 'none'}"
    if material.reading.overlong:
        said += f"; {material.reading.overlong:,} pieces of texts too long for one document"
    return said


def _steps(spill: Spill, config: DataConfig) -> list[StepReport]:
    names = [
        name
        for name in CleanConfig.model_fields
        if config.clean is not None and getattr(config.clean, name) is not None
    ]
    return [spill.tallies.get(name, Tally()).report(name) for name in names]


def _languages(material: Material) -> dict[str, LanguageReport]:
    spill, keep = material.spill, material.keep
    found = {}
    for code, name in enumerate(spill.languages):
        chosen = keep & (spill.language == code)
        if name and chosen.any():
            found[name] = LanguageReport(documents=int(chosen.sum()), characters=int(spill.characters[chosen].sum()))
    return dict(sorted(found.items(), key=lambda item: (-item[1].characters, item[0])))


def _how_split(config: DataConfig, given: list[str]) -> str:
    if given:
        return f"everything trains; {' and '.join(given)} from files of their own"
    if isinstance(config.split, NoSplit):
        return "everything trains"
    shares = f"{100 * config.split.validation:g} % validation, {100 * config.split.test:g} % test"
    if isinstance(config.split, OrderedSplit):
        return f"in order, cut by characters: {shares}"
    return f"by a hash of each document and seed {config.split.seed}: {shares} of the documents"


def _warnings(
    material: dict[str, Material], splits: dict[str, SplitReport], overlap: dict[str, OverlapReport]
) -> list[str]:
    said = []
    for each in material.values():
        for source in each.found.sources:
            if source.encoding.how == "guessed":
                said.append(
                    f"{source.source.name}: read as {source.encoding.name}, a guess; set data.encoding if letters look wrong"
                )
        if each.reading.trouble.surrogates:
            said.append(
                f"{each.reading.trouble.surrogates:,} texts had half characters (lone surrogates); replaced by U+FFFD"
            )
        if each.reading.ends.get("hard cut"):
            said.append(
                f"{each.reading.ends['hard cut']:,} sections were cut inside a word: the text has no spaces or lines there"
            )
    for name, found in overlap.items():
        if found.share > 0.05:
            said.append(
                f"{100 * found.share:.1f} % of the {name} text stands in the training text too: scores on it flatter the model"
            )
    said += [f"the {name} part has only {s.characters:,} characters: its scores will be rough" for name, s in splits.items()
             if s.characters < 2000]  # fmt: skip
    return said

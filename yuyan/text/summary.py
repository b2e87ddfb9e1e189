"""The data report, put together from what the steps counted."""

from __future__ import annotations

from collections.abc import Iterator

from yuyan.text.build import Material
from yuyan.text.overlap import NGRAMS
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
from yuyan.text.split import TRAIN, NoSplit, OrderedSplit


def data_report(
    material: dict[str, Material],
    config: DataConfig,
    splits: dict[str, SplitReport],
    overlap: dict[str, OverlapReport],
    moved: int,
) -> DataReport:
    """Everything about how the files became parts. `moved`: held-out documents that went to training."""
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
        split=_how_split(config, [name for name in material if name != TRAIN], moved),
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


def _how_split(config: DataConfig, given: list[str], moved: int) -> str:
    if given:
        return f"everything trains; {' and '.join(given)} from files of their own"
    if isinstance(config.split, NoSplit):
        return "everything trains"
    shares = f"{100 * config.split.validation:g} % validation, {100 * config.split.test:g} % test"
    if isinstance(config.split, OrderedSplit):
        return f"in order, cut by characters: {shares}"
    said = f"by a hash of each document and seed {config.split.seed}: {shares} of the documents"
    if moved:
        limit = 100 * (config.split.overlap or 0)
        said += (
            f"; {moved:,} held-out documents of which more than {limit:g} % stood in the training text went to training"
        )
    return said


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
             if name != TRAIN and s.characters < 2000]  # fmt: skip
    return said

"""The data report as tables of plain rows, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from yuyan.text.report import DataReport

_STEPS = {
    "unicode": "unicode repair",
    "markup": "markup",
    "lines": "lines that are no text",
    "quality": "quality rules",
    "language": "language",
    "exact_duplicates": "exact duplicates",
    "near_duplicates": "near duplicates",
}
_SHOWN = 20


class Table(NamedTuple):
    """Rows under headings; the first `left` columns are texts, the others numbers. `note` is a sentence below."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    note: str = ""


def describe(report: DataReport) -> list[Table]:
    """What was found, kept and dropped, as tables in the order of the work."""
    return [table for table in _tables(report) if table.rows]


def _tables(report: DataReport) -> Iterator[Table]:
    yield _found(report)
    yield Table(
        "not read",
        ("file", "why"),
        [_two(text, report.skipped) for text in report.skipped_samples],
        2,
        _more_skipped(report),
    )
    yield Table("records that could not be read", ("where and why",), [(text,) for text in report.bad_samples], 1,
                f"{report.records_bad:,} in all" if report.records_bad else "")  # fmt: skip
    yield _steps(report)
    yield _samples(report)
    yield _kept(report)
    yield _languages(report)
    yield _splits(report)
    yield _shared(report)


def _two(text: str, reasons: Iterable[str]) -> tuple[str, str]:
    """Name and reason of a skipped file; both may hold a colon."""
    reason = max((each for each in reasons if text.endswith(f": {each}")), key=len)
    return text.removesuffix(f": {reason}"), reason


def _more_skipped(report: DataReport) -> str:
    total = sum(report.skipped.values())
    more = total - len(report.skipped_samples)
    counts = ", ".join(f"{count:,} x {reason}" for reason, count in sorted(report.skipped.items(), key=lambda x: -x[1]))
    return f"{total:,} in all: {counts}" if more > 0 else ""


def _found(report: DataReport) -> Table:
    rows = [
        (
            each.name, each.format + ("" if each.packing == "plain" else f" in {each.packing}"), _encoding(each.encoding, each.encoding_found),
            each.text_column or "-", f"{each.bytes:,}", f"{each.characters:,}", f"{each.documents:,}",
        )
        for each in report.sources[:_SHOWN]
    ]  # fmt: skip
    rest = report.sources[_SHOWN:]
    if rest:
        rows.append((f"and {len(rest):,} more files", "", "", "", f"{sum(s.bytes for s in rest):,}",
                     f"{sum(s.characters for s in rest):,}", f"{sum(s.documents for s in rest):,}"))  # fmt: skip
    note = f"Documents are {report.documents_are}."
    if report.records_empty:
        note += f" {report.records_empty:,} records had no text."
    return Table(
        "found", ("file", "format", "encoding", "text column", "bytes", "characters", "documents"), rows, 4, note
    )


def _encoding(name: str, found: str) -> str:
    return name if found in ("valid", "given") else f"{name} ({found})"


def _steps(report: DataReport) -> Table:
    rows = []
    for step in report.steps:
        share = f"{100 * step.dropped / step.documents_in:.1f} %" if step.documents_in else "-"
        why = "; ".join(f"{reason} {count:,}" for reason, count in list(step.reasons.items())[:4])
        rows.append((_STEPS.get(step.name, step.name), why, f"{step.documents_in:,}", f"{step.changed:,}",
                     f"{step.dropped:,}", share, f"{step.documents_out:,}", f"{step.characters_dropped:,}"))  # fmt: skip
    columns = ("step", "what it met", "in", "changed", "dropped", "share", "kept", "characters dropped")
    return Table("cleaning", columns, rows, 2)


def _samples(report: DataReport) -> Table:
    rows = [
        (_STEPS.get(step.name, step.name), sample.reason, sample.id, sample.excerpt)
        for step in report.steps
        for sample in step.samples
    ]
    return Table("examples of what was dropped or changed", ("step", "why", "document", "text"), rows, 4)


def _kept(report: DataReport) -> Table:
    lengths = report.lengths
    row = (f"{report.documents_kept:,} of {report.documents_read:,}", f"{report.characters_kept:,}", f"{report.bytes_kept:,}",
           *(f"{lengths[name]:,}" for name in ("p5", "p50", "p95", "max") if name in lengths))  # fmt: skip
    columns = ("documents", "characters", "bytes", "length p5", "p50", "p95", "max")
    return Table("kept", columns, [row], 0, "Lengths in characters a document.")


def _languages(report: DataReport) -> Table:
    total = max(1, report.characters_kept)
    rows = [
        (code, f"{found.documents:,}", f"{found.characters:,}", f"{100 * found.characters / total:.1f} %")
        for code, found in list(report.languages.items())[:10]
    ]
    rest = len(report.languages) - len(rows)
    return Table("languages", ("language", "documents", "characters", "share"), rows, 1,
                 f"and {rest} more" if rest > 0 else "")  # fmt: skip


def _splits(report: DataReport) -> Table:
    rows = []
    for name, split in report.splits.items():
        shared = report.overlap.get(name)
        rows.append((name, f"{split.documents:,}", f"{split.characters:,}", f"{split.bytes:,}",
                     "-" if shared is None else f"{100 * shared.share:.2f} %",
                     "-" if shared is None else f"{shared.touched:,}"))  # fmt: skip
    note = f"Divided {report.split}." if report.splits.keys() - {"train"} else "Everything trains."
    if report.overlap:
        note += f" Shared with training, in runs of {report.overlap_ngrams}."
        short = sum(found.too_short for found in report.overlap.values())
        note += f" {short:,} documents are too short to be compared so." if short else ""
    return Table("parts", ("part", "documents", "characters", "bytes", "text shared with training", "documents that share some"),
                 rows, 1, note)  # fmt: skip


def _shared(report: DataReport) -> Table:
    rows = [(name, s.reason, s.id, s.excerpt) for name, found in report.overlap.items() for s in found.samples]
    return Table("examples of text shared with training", ("part", "share", "document", "text"), rows[:6], 4)

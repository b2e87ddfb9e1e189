"""The cleaning of one batch of documents: a pure function, so that any process can do it and the result is the same.

Each step sees what the one before left. What comes out for a kept document is its finished line for the disk and the few
numbers that the later, global steps (duplicates, split) need, so that nobody has to hold its text.

Legend: D documents of the batch, K kept ones, B bands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuyan.text.document import Document, to_line
from yuyan.text.duplicate import band_hashes, bands_for, equality_hash
from yuyan.text.language import language_of, wanted
from yuyan.text.markup import clean_lines, strip_markup
from yuyan.text.normalise import repair_unicode
from yuyan.text.quality import why_not
from yuyan.text.report import Tally
from yuyan.text.settings import CleanConfig
from yuyan.text.split import split_hash


@dataclass
class Cleaned:
    """A batch after cleaning: JSON lines of the K kept documents, and their numbers."""

    lines: bytes
    line_ends: NDArray[np.int64]
    """(K,) where each line ends in `lines`."""
    characters: NDArray[np.int64]
    """(K,) of the texts."""
    bytes: NDArray[np.int64]
    """(K,) of the texts in UTF-8."""
    equality: NDArray[np.uint64]
    """(K, 2) equal for equal texts."""
    split: NDArray[np.uint64]
    """(K,) decides the part of a random split."""
    bands: NDArray[np.uint64]
    """(K, B) decide which documents are compared."""
    long: NDArray[np.bool_]
    """(K,) long enough to be compared."""
    languages: list[str]
    """(K,) codes."""
    tallies: dict[str, dict[str, Any]]

    ARRAYS = ("line_ends", "characters", "bytes", "equality", "split", "bands", "long")


def clean_batch(documents: Sequence[Document], config: CleanConfig, *, seed: int, drop: bool = True) -> Cleaned:
    """Clean a batch. Without `drop` texts are repaired, and none but the empty is dropped."""
    tallies: dict[str, Tally] = {}
    kept: list[Document] = []
    for document in documents:
        text = _repaired(document, config, tallies)
        if text is None:
            continue
        judged = _judged(Document(document.id, text, document.meta), config, tallies, drop=drop)
        if judged is not None:
            kept.append(judged)
    return _finished(kept, config, tallies, seed)


def _tally(tallies: dict[str, Tally], step: str) -> Tally:
    tally = tallies.setdefault(step, Tally())
    tally.seen += 1
    return tally


def _repaired(document: Document, config: CleanConfig, tallies: dict[str, Tally]) -> str | None:
    """The text after the steps that mend it; None if nothing was left."""
    text = document.text
    if config.unicode is not None:
        tally = _tally(tallies, "unicode")
        before = text
        text, faults = repair_unicode(text, config.unicode)
        tally.changed += bool(faults)
        for fault in faults:
            tally.note(document.id, fault, _change(before, text))
        if not text.strip() and before.strip():
            tally.drop(document.id, "nothing readable left", before)
            return None
    if config.markup is not None:
        tally = _tally(tallies, "markup")
        before, text = text, strip_markup(text, config.markup)
        if text is not before:
            tally.changed += 1
            tally.characters_dropped += len(before) - len(text)
            tally.note(document.id, "tags removed", before)
        if not text.strip() and before.strip():
            tally.drop(document.id, "nothing but tags", before)
            return None
    if config.lines is not None:
        tally = _tally(tallies, "lines")
        before = text
        text, lines = clean_lines(text, config.lines)
        tally.changed += bool(lines)
        for reason, line in lines:
            tally.characters_dropped += len(line) + 1
            tally.note(document.id, reason, line)
        if not text.strip() and before.strip():
            tally.drop(document.id, "nothing but such lines", before)
            return None
        text = _without_outer_blank_lines(text)
    return text


def _without_outer_blank_lines(text: str) -> str:
    if text[:1].isspace() or text[-1:].isspace():
        start = len(text) - len(text.lstrip())
        start = text.rfind("\n", 0, start) + 1  # the first line keeps its indentation
        return text[start:].rstrip()
    return text


def _change(before: str, after: str) -> str:
    """The first place where two texts differ."""
    limit = min(len(before), len(after))
    at = next((i for i in range(limit) if before[i] != after[i]), limit)
    low = max(0, at - 20)
    return f"{before[low : at + 30]!r} became {after[low : at + 30]!r}"


def _judged(document: Document, config: CleanConfig, tallies: dict[str, Tally], *, drop: bool) -> Document | None:
    """The document with its language, or None if a rule drops it."""
    if config.quality is not None and drop:
        tally = _tally(tallies, "quality")
        reason = why_not(document.text, config.quality)
        if reason is not None:
            tally.drop(document.id, reason, document.text)
            return None
    if config.language is None:
        return document
    code = language_of(document.text, config.language)
    if drop:
        tally = _tally(tallies, "language")
        if not wanted(code, config.language):
            tally.drop(document.id, code, document.text)
            return None
    return Document(document.id, document.text, {**document.meta, "language": code})


def _finished(kept: list[Document], config: CleanConfig, tallies: dict[str, Tally], seed: int) -> Cleaned:
    texts = [document.text for document in kept]
    lines = [to_line(document).encode() for document in kept]
    near, exact = config.near_duplicates, config.exact_duplicates
    if near is not None and texts:
        bands, long = band_hashes(texts, near)
    else:
        bands = np.zeros((len(texts), bands_for(near.threshold)[0] if near else 0), dtype=np.uint64)
        long = np.zeros(len(texts), dtype=bool)
    equality = b"".join(equality_hash(text, exact) for text in texts) if exact is not None else bytes(16 * len(texts))
    return Cleaned(
        lines=b"".join(lines),
        line_ends=np.cumsum([len(line) for line in lines], dtype=np.int64),
        characters=np.array([len(text) for text in texts], dtype=np.int64),
        bytes=np.array([len(text.encode()) for text in texts], dtype=np.int64),
        equality=np.frombuffer(equality, dtype="<u8").reshape(-1, 2),
        split=np.array([split_hash(text, seed) for text in texts], dtype=np.uint64),
        bands=bands, long=long,
        languages=[document.meta.get("language", "") for document in kept],
        tallies={name: asdict(tally) for name, tally in tallies.items()},
    )  # fmt: skip


# ---------------------------------------------------------------- as bytes, for other processes


def pack_batch(documents: Sequence[Document]) -> bytes:
    """A batch as bytes."""
    return json.dumps([[d.id, d.text, d.meta] for d in documents], ensure_ascii=False).encode("utf-8", "surrogatepass")


def unpack_batch(data: bytes) -> list[Document]:
    """The batch that `pack_batch` wrote."""
    return [Document(ident, text, meta) for ident, text, meta in json.loads(data.decode("utf-8", "surrogatepass"))]


def pack_cleaned(cleaned: Cleaned) -> list[bytes]:
    """A cleaned batch as pieces of bytes: a JSON header, the lines, the arrays."""
    arrays = [np.ascontiguousarray(getattr(cleaned, name)) for name in Cleaned.ARRAYS]
    header = {
        "languages": cleaned.languages, "tallies": cleaned.tallies,
        "arrays": [[str(array.dtype), list(array.shape)] for array in arrays],
    }  # fmt: skip
    return [json.dumps(header).encode(), cleaned.lines, *(array.tobytes() for array in arrays)]


def unpack_cleaned(pieces: Sequence[bytes]) -> Cleaned:
    """The cleaned batch that `pack_cleaned` wrote."""
    header = json.loads(pieces[0])
    arrays = {
        name: np.frombuffer(piece, dtype=dtype).reshape(shape)
        for name, piece, (dtype, shape) in zip(Cleaned.ARRAYS, pieces[2:], header["arrays"], strict=True)
    }
    return Cleaned(lines=pieces[1], languages=header["languages"], tallies=header["tallies"], **arrays)

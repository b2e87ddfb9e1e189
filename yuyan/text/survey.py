"""One look at every source before anything is read in earnest: is it text, in which encoding, how much, which column.

All that can be wrong with a file as a whole is found here, before work has begun, and everything that was concluded
is written into the report: format, encoding and how it was found, text column and how it was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from yuyan.errors import DataError
from yuyan.store import sha256
from yuyan.text.encoding import (
    BLANK,
    Encoding,
    Utf8Check,
    byte_order_mark,
    codec,
    decode,
    guess,
    is_damaged_utf8,
)
from yuyan.text.source import READABLE, Found, Skipped, Source, blocks, find_sources

_MAGIC = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"), (b"BM", "a BMP image"),
    (b"%PDF-", "a PDF document; export it as text first"), (b"\x7fELF", "a program"), (b"MZ", "a program"),
    (b"PK\x03\x04", "a zip archive or an office document; name it .zip, or export it as text"),
    (b"\xd0\xcf\x11\xe0", "an old office document; export it as text first"), (b"\x1f\x8b", "gzip data; name it .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd data; name it .zst"), (b"PAR1", "a parquet table; name it .parquet"),
    (b"SQLite format 3\x00", "a database"), (b"ID3", "an audio file"), (b"fLaC", "an audio file"),
    (b"OggS", "an audio or video file"), (b"RIFF", "an audio, video or image file"), (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!\x1a", "a rar archive"), (b"\xfd7zXZ", "xz data"), (b"BZh", "bzip2 data"), (b"\x80\x04\x95", "pickled data"),
)  # fmt: skip
"""How files begin. Letters alone may also begin a text (`ID3 is an algorithm`): behind these there must be a zero byte."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A source and what was found out about it. `skip`: bytes of a byte order mark."""

    source: Source
    encoding: Encoding
    skip: int
    text_bytes: int
    characters: int


@dataclass(frozen=True, slots=True)
class Input:
    """A file on disk that was read, whole or in part."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All that the paths lead to: what will be read, what will not and why, and the files on disk with their hashes."""

    sources: list[Surveyed]
    skipped: list[Skipped]
    inputs: list[Input]


def survey(paths: list[Path], encoding: str | None = None, *, replace: bool = False) -> Survey:
    """Look at everything under `paths` once, as a stream.

    A file that the user named must be text: DataError else. One that was met in a folder or an archive is passed over
    and listed if it is empty or no text; undecodable bytes in a text are an error everywhere, unless `replace`.
    """
    found = find_sources(paths)
    surveyed: list[Surveyed] = []
    skipped = list(found.skipped)
    for source in found.sources:
        result = _look(source, encoding, replace=replace)
        if isinstance(result, Surveyed):
            surveyed.append(result)
        elif source.found:
            skipped.append(Skipped(source.name, result))
        else:
            raise DataError(f"{source.path if source.member is None else source.name}: {result}")
    if not surveyed:
        raise DataError(_nothing(paths, found, skipped))
    return Survey(surveyed, skipped, _inputs(surveyed))


def _inputs(surveyed: list[Surveyed]) -> list[Input]:
    inputs: dict[Path, Input] = {}
    for each in surveyed:
        path = each.source.path
        if path not in inputs:
            name = each.source.name
            if each.source.member is not None:
                name = name[: name.lower().rfind(".zip") + 4] if ".zip" in name.lower() else name
            try:
                inputs[path] = Input(name, path.stat().st_size, sha256(path))
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return list(inputs.values())


def _nothing(paths: list[Path], found: Found, skipped: list[Skipped]) -> str:
    where = ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    if not found.sources and not skipped:
        return f"{where}: no training text: the folder is empty; readable are {READABLE}"
    kinds: dict[str, int] = {}
    for each in skipped:
        kinds[each.reason.partition(";")[0]] = kinds.get(each.reason.partition(";")[0], 0) + 1
    said = ", ".join(f"{count} x {reason}" for reason, count in sorted(kinds.items(), key=lambda item: -item[1])[:4])
    return f"{where}: no training text in it: {said}; readable are {READABLE}"


# ---------------------------------------------------------------- one source


def _look(source: Source, encoding: str | None, *, replace: bool) -> Surveyed | str:
    """What a source is, or why it is no text."""
    stream = blocks(source)
    first = next(stream, b"")
    if not first:
        return "no training text: the file is empty"
    if source.format == "parquet":
        return _look_at_parquet(source, first, stream)
    for magic, what in _MAGIC:
        if first.startswith(magic) and (not magic.isalnum() or b"\x00" in first[:4096]):
            return f"not text: it is {what}"
    mark = byte_order_mark(first)
    if encoding is not None:
        name = codec(encoding)
        skip = mark[1] if mark is not None and name.startswith(mark[0][:5]) else 0
        name = mark[0] if mark is not None and skip and name in ("utf-16", "utf-32") else name
        return _measured(source, Encoding(name, "given"), skip, chain((first,), stream), replace=replace)
    if mark is not None:
        return _measured(
            source, Encoding(mark[0], "byte order mark"), mark[1], chain((first,), stream), replace=replace
        )
    return _recognised(source, first, stream, replace=replace)


def _recognised(source: Source, first: bytes, stream: Iterator[bytes], *, replace: bool) -> Surveyed | str:
    """Without a byte order mark: UTF-8 if all of it is, else what its bytes look like."""
    check = Utf8Check()
    check.feed(first)
    for block in stream:
        check.feed(block)
    check.feed(b"", final=True)
    binary = len(_CONTROL.findall(first[: 1 << 16])) > 0.02 * len(first[: 1 << 16])
    if check.bad_at is None and not binary:
        if check.blank:
            return "no training text: nothing but white space"
        return Surveyed(source, Encoding("utf-8", "valid"), 0, check.seen, check.characters)
    if check.bad_at is not None and not binary and is_damaged_utf8(check.samples):
        return _measured(source, Encoding("utf-8", "detected"), 0, blocks(source), replace=replace)
    found = guess(check.samples, first[:4096])
    if found is None or (binary and not found.name.startswith("utf-16")):
        if binary:
            return "not text: its bytes are binary"
        return (
            f"not UTF-8 at byte {check.bad_at or 0:,}, and in no encoding that can be recognised: "
            "give it with data.encoding=NAME (gb18030, big5, utf-16, ...)"
        )
    return _measured(source, found, 0, blocks(source), replace=replace)


def _measured(
    source: Source, encoding: Encoding, skip: int, stream: Iterator[bytes], *, replace: bool
) -> Surveyed | str:
    """Decode it all once: the length in characters, and whether every byte has a meaning."""
    seen = 0

    def counted() -> Iterator[bytes]:
        nonlocal seen
        for block in stream:
            seen += len(block)
            yield block

    characters, blank = 0, True
    try:
        for text in decode(counted(), encoding.name, source.name, replace=replace, skip=skip):
            characters += len(text)
            blank = blank and not text.strip(BLANK)
    except DataError:
        if encoding.name != "cp950":  # Hong Kong's Big5 has more characters than Microsoft's
            raise
        return _measured(source, Encoding("big5hkscs", encoding.how), skip, blocks(source), replace=replace)
    if blank:
        return "no training text: nothing but white space"
    return Surveyed(source, encoding, skip, seen - skip, characters)


def _look_at_parquet(source: Source, first: bytes, stream: Iterator[bytes]) -> Surveyed | str:
    if not first.startswith(b"PAR1"):
        return "not a parquet file, although its name says so"
    return Surveyed(source, Encoding("utf-8", "valid"), 0, len(first) + sum(map(len, stream)), 0)

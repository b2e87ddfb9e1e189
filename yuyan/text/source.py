"""Where text comes from: files, folders and archives, opened as a stream of bytes whatever they are packed in.

A source is one stream: a file, or one member of a zip. Nothing is unpacked to disk, a stream is never held whole, and
what an archive says about itself is not believed: names that point outside, links, and a small file that grows
without end are errors that name the member.
"""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import zstandard

from yuyan.errors import DataError

Format = Literal["text", "jsonl", "json", "csv", "tsv", "parquet"]
FORMATS: dict[str, Format] = {
    ".txt": "text", ".text": "text", ".md": "text",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
}  # fmt: skip
READABLE = ".txt .jsonl .json .csv .tsv .parquet, each also .gz .zst .zip"
BLOCK = 1 << 20
"""Bytes read at once."""
MEMBERS = 200_000
"""More members than this in one zip is an attack or a mistake."""
BOMB_BYTES, BOMB_RATIO = 100 << 20, 200
"""A stream of more bytes than the first, more than so many times its packed size, is not text anybody wrote."""


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of bytes and how to read it. `sure`: the name says what it is; else its bytes decide."""

    name: str
    path: Path
    member: str | None
    packing: Literal["plain", "gz", "zst"]
    format: Format
    sure: bool
    found: bool
    """Met in a folder or an archive, not named by the user: may be passed over."""
    part: str | None = None
    """Of a JSON document, the list that is meant."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was met and not read."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the paths of the user lead to, in order."""

    sources: list[Source]
    skipped: list[Skipped]


# ---------------------------------------------------------------- finding


def find_sources(paths: Sequence[Path]) -> Found:
    """Every stream under `paths`: files as they are, folders recursively and sorted, members of zips.

    Hidden files are passed over and listed. A member of a zip can be named as `archive.zip/folder/member`. Raises DataError.
    """
    if not paths:
        raise DataError("no data given: name a file or a folder with text")
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for path, label in zip(paths, _labels(paths), strict=True):
        for item in _under(path, label):
            (sources if isinstance(item, Source) else skipped).append(item)  # type: ignore[arg-type]
    return Found(sources, skipped)


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart: a document's id must not depend on where a folder lies."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100  (links stay as they are named)
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]).lstrip("/") or "root" for part in parts]
        if len(set(labels)) == len(set(parts)):
            break
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        labels[index] = label if seen[label] == 1 else f"{label}~{seen[label]}"
    return labels


def _under(path: Path, label: str) -> Iterator[Source | Skipped]:
    mode = _mode(path)
    if mode is None:
        yield from _inside_zip(path, label)
    elif stat.S_ISDIR(mode):
        yield from _folder(path, label)
    elif not stat.S_ISREG(mode):
        raise DataError(f"{path}: not a regular file; save the text to a file first")
    else:
        yield from _file(path, label, found=False)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{_short(path)}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise DataError(f"{_short(path)!r}: not a possible path") from None


def _short(path: Path) -> str:
    name = str(path)
    return name if len(name) <= 200 else f"{name[:100]}...{name[-60:]}"


def _inside_zip(path: Path, label: str) -> Iterator[Source]:
    for parent in path.parents:
        mode = _mode(parent)
        if mode is None:
            continue
        if stat.S_ISREG(mode) and parent.suffix.lower() == ".zip":
            inside = path.relative_to(parent).as_posix()
            for source in _zip(parent, label, found=True):
                if isinstance(source, Source) and source.member is not None:
                    decoded = source.name[len(label) + 1 :]
                    if decoded == inside:
                        yield Source(label, parent, source.member, source.packing, source.format, source.sure, False)
                        return
            raise DataError(f"{_short(path)}: {parent.name} has no member {inside!r}")
        if stat.S_ISREG(mode) and parent.suffix.lower() == ".json":
            inside = path.relative_to(parent).as_posix()
            name = label if parent.name in label else f"{parent.name}/{inside}"
            yield Source(name, parent, None, "plain", "json", True, False, inside)
            return
        break
    raise DataError(f"{_short(path)}: no such file or folder")


def _folder(path: Path, label: str) -> Iterator[Source | Skipped]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}")

    files: list[tuple[tuple[str, ...], Path]] = []
    for folder, names, leaves in os.walk(path, onerror=refuse):
        here = Path(folder)
        for name in [name for name in names if name.startswith(".")]:
            names.remove(name)
            yield Skipped("/".join((label, *(here / name).relative_to(path).parts)), "hidden folder")
        files += [((here / leaf).relative_to(path).parts, here / leaf) for leaf in leaves]
    for parts, file in sorted(files):
        name = "/".join((label, *parts))
        mode = _mode(file)
        if parts[-1].startswith("."):
            yield Skipped(name, "hidden file")
        elif mode is None or not stat.S_ISREG(mode):
            yield Skipped(name, "not a regular file")
        else:
            yield from _file(file, name, found=True)


def _file(path: Path, name: str, *, found: bool) -> Iterator[Source | Skipped]:
    if path.suffix.lower() == ".zip":
        yield from _zip(path, name, found=found)
    else:
        yield _source(name, path, None, found=found)


def _not_a_stream(name: str) -> str | None:
    """Archives that are not read."""
    if name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".7z", ".rar")):
        return "an archive of a kind that is not read; unpack it and give the folder"
    return None


def _source(name: str, path: Path, member: str | None, *, found: bool) -> Source | Skipped:
    if (reason := _not_a_stream(name)) is not None:
        if found:
            return Skipped(name, reason)
        raise DataError(f"{name}: {reason}")
    leaf = PurePosixPath(name.lower())
    packing: Literal["plain", "gz", "zst"] = "plain"
    if leaf.suffix in (".gz", ".zst"):
        packing = "gz" if leaf.suffix == ".gz" else "zst"
        leaf = leaf.with_suffix("")
    form = FORMATS.get(leaf.suffix)
    return Source(name, path, member, packing, form or "text", form is not None, found)


def _zip(path: Path, label: str, *, found: bool) -> Iterator[Source | Skipped]:
    with _zip_errors(label), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if len(members) > MEMBERS:
        raise DataError(
            f"{label}: {len(members):,} members; at most {MEMBERS:,} are read: unpack it and give the folder"
        )
    for member in members:
        _check_member(label, _member_name(member), member)
    whole = sum(member.file_size for member in members)
    if whole > BOMB_BYTES and whole > BOMB_RATIO * path.stat().st_size:
        raise DataError(f"{label}: would grow to {whole:,} bytes; nothing was read. If you trust it, unpack it")
    sources: list[Source | Skipped] = []
    last = {member.filename: number for number, member in enumerate(members)}
    for number, member in enumerate(members):
        shown = _member_name(member)
        name = f"{label}/{shown}"
        parts = PurePosixPath(shown).parts
        if member.is_dir():
            continue
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            sources.append(Skipped(name, "hidden file"))
        elif number != last[member.filename]:  # as whoever unpacks it has it: the last one stays
            sources.append(Skipped(name, "a later member of the archive has the same name"))
        elif shown.lower().endswith(".zip"):
            sources.append(Skipped(name, "an archive in an archive"))
        else:
            sources.append(_source(name, path, member.filename, found=True))
    if not sources and not found:
        raise DataError(f"{label}: no training text in it: the archive is empty")
    yield from sorted(sources, key=lambda source: source.name)


def _member_name(member: zipfile.ZipInfo) -> str:
    """A member's name; Chinese Windows writes GB18030 where the standard says code page 437."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    try:
        return member.filename.encode("cp437").decode("gb18030")
    except UnicodeError:
        return member.filename


def _check_member(label: str, name: str, member: zipfile.ZipInfo) -> None:
    original = member.orig_filename.replace("\\", "/")
    kind = member.external_attr >> 16
    wrong = None
    if original.startswith("/") or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        wrong = "has an absolute name"
    elif ".." in original.split("/"):
        wrong = "points outside the archive"
    elif "\0" in original or len(name) > 4096:
        wrong = "has an impossible name"
    elif kind and stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR):
        wrong = "is a link or a device"
    elif member.flag_bits & 0x1:
        wrong = "is encrypted"
    elif member.file_size > BOMB_BYTES and member.file_size > BOMB_RATIO * max(1, member.compress_size):
        wrong = f"would grow to {member.file_size:,} bytes, {member.file_size // max(1, member.compress_size):,} times its size"
    if wrong:
        shown = name if len(name) <= 120 else name[:100] + "..."
        raise DataError(
            f"{label}: member {shown!r} {wrong}; nothing was read. If you trust it, unpack it and give the folder"
        )


@contextmanager
def _zip_errors(label: str) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise DataError(f"{label}: packed in a way that cannot be read ({error}); unpack it, give the folder") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{label}: a damaged zip archive ({error}); make it anew") from None
    except OSError as error:
        raise DataError(f"{label}: cannot be read: {error.strerror or error}") from None


# ---------------------------------------------------------------- reading


def blocks(source: Source) -> Iterator[bytes]:
    """The unpacked bytes of a source in blocks of at most a few MiB. Raises DataError if it is damaged or never ends."""
    size = source.path.stat().st_size
    if source.member is None:
        try:
            with source.path.open("rb") as file:
                yield from _unpacked(source, file, size)
        except OSError as error:
            raise DataError(f"{source.name}: cannot be read: {error.strerror or error}") from None
        return
    with _zip_errors(source.name), zipfile.ZipFile(source.path) as archive:
        member = archive.getinfo(source.member)
        with archive.open(member) as file:
            yield from _unpacked(source, file, max(1, member.compress_size))


def _unpacked(source: Source, file: IO[bytes], size: int) -> Iterator[bytes]:
    if source.packing == "plain":
        stream: Iterable[bytes] = iter(lambda: file.read(BLOCK), b"")
        yield from stream
        return
    total = 0
    for block in _gunzip(source, file) if source.packing == "gz" else _unzstd(source, file):
        total += len(block)
        if total > BOMB_BYTES and total > BOMB_RATIO * max(1, size):
            raise DataError(
                f"{source.name}: grew to more than {BOMB_RATIO} times its size and was stopped at {total >> 20} MiB; "
                "if you trust it, unpack it and give the unpacked file"
            )
        yield block


def _gunzip(source: Source, file: IO[bytes]) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield from iter(lambda: stream.read(BLOCK), b"")
    except EOFError:
        raise DataError(f"{source.name}: the gzip file is cut off; copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{source.name}: a damaged gzip file ({error}); copy it again") from None


def _unzstd(source: Source, file: IO[bytes]) -> Iterator[bytes]:
    """Small steps: a kilobyte of zstd can say "one block of 128 KiB" hundreds of times."""
    decompressor = zstandard.ZstdDecompressor()
    frame = None
    held: list[bytes] = []
    length = 0
    try:
        while chunk := file.read(1024):
            while chunk:
                frame = frame or decompressor.decompressobj()
                piece = frame.decompress(chunk)
                held.append(piece)
                length += len(piece)
                chunk = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
            if length >= BLOCK:
                yield b"".join(held)
                held, length = [], 0
    except zstandard.ZstdError as error:
        raise DataError(f"{source.name}: a damaged zstd file ({error}); copy it again") from None
    if frame is not None:
        raise DataError(f"{source.name}: the zstd file is cut off; copy it again")
    if held:
        yield b"".join(held)

"""The files of word2vec and GloVe: a header "V D", then each word and its numbers, as text or as little-endian float32.

GloVe's text has no header. Which of the three a file is, is seen in its first line and size, not in its name.

Legend: V words, D dimensions.
"""

from __future__ import annotations

import codecs
import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.console import warn
from yuyan.errors import DataError, InputError
from yuyan.store import write_atomically
from yuyan.vectors.space import Vectors

LONGEST_WORD = 4096
"""Bytes of a word in a file; what is longer is no word, but a damaged file."""
LONGEST_LINE = 1 << 24
FLOAT = np.dtype("<f4")
BINARY, TEXT = (".bin",), (".txt", ".vec")


class _Header(NamedTuple):
    words: int
    dimensions: int


def write_word2vec(path: Path, vectors: Vectors) -> None:
    """Write by the name: .bin is binary, .txt and .vec are text, each also with .gz. Raises InputError, StorageError."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in BINARY + TEXT:
        raise InputError(f"{path}: what file should this be? .bin is binary, .txt and .vec are text; .gz may follow")
    for word in vectors.words:
        if not word or word.split() != [word]:
            raise InputError(f"{word!r}: a word with white space cannot stand in a word2vec file")
    with write_atomically(path) as temporary, _opened(temporary, "wb", path.name.endswith(".gz")) as file:
        file.write(f"{len(vectors.words)} {vectors.dimensions}\n".encode())
        for word, row in zip(vectors.words, vectors.matrix, strict=True):
            name = word.encode("utf-8") + b" "
            if kind in BINARY:
                file.write(name + row.astype(FLOAT).tobytes() + b"\n")
            else:  # the shortest decimals that are the same float32 when read again
                file.write(name + " ".join(map(str, row.astype(np.float32))).encode() + b"\n")


def read_word2vec(path: Path) -> Vectors:
    """Read a file of word2vec, gensim, fastText (.vec) or GloVe, text or binary, also gzipped.

    Raises InputError if it is not there, DataError naming the line or the word at which it is damaged or ends.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: a folder without vectors of ours")
    try:
        with _opened(path, "rb", _is_gzip(path)) as file:
            first = file.readline(LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
            header = _header(first, path)
            if header is not None and _is_binary(file, header):
                return _read_binary(file, header, path)
            return _read_text(file, header, first, path)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is damaged or incomplete: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _opened(path: Path, mode: str, zipped: bool) -> Iterator[IO[bytes]]:
    with path.open(mode) as raw:
        if not zipped:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw, mode=mode, compresslevel=6, mtime=0, filename="") as file:
            yield file  # type: ignore[misc]


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _header(line: bytes, path: Path) -> _Header | None:
    parts = line.split()
    if not parts:
        raise DataError(
            f"{path}: no vectors in it: " + ("the file is empty" if not line else "its first line is empty")
        )
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    words, dimensions = map(int, parts)
    if not words or not 0 < dimensions <= 1_000_000:
        raise DataError(f"{path}:1: {words} words of {dimensions} dimensions are no vectors")
    return _Header(words, dimensions)


def _is_binary(file: IO[bytes], header: _Header) -> bool:
    """Whether the numbers of the first word are bytes: text would be all printable, with so many numbers in its line."""
    start = file.tell()
    begin = file.read(LONGEST_WORD + 4 * header.dimensions)
    file.seek(start)
    _, _, rest = begin.partition(b" ")
    numbers = rest[: 4 * header.dimensions].split(b"\n")[0]
    return bool(set(numbers) - set(b"0123456789+-.eEinfaNIF \t\r"))


# ---------------------------------------------------------------- binary


def _read_binary(file: IO[bytes], header: _Header, path: Path) -> Vectors:
    names: list[str] = []
    rows = _room(header, path, file)
    width = FLOAT.itemsize * header.dimensions
    for number in range(header.words):
        name = _name(file, path, number, header)
        data = file.read(width)
        if len(data) < width:
            raise DataError(
                f"{path}: ends within word {number + 1:,} of {header.words:,}, {name!r}; the file is incomplete"
            )
        rows[number] = np.frombuffer(data, FLOAT)
        names.append(name)
    if file.read(LONGEST_WORD).strip():
        raise DataError(f"{path}: goes on after its {header.words:,} words of {header.dimensions} dimensions; damaged")
    return _vectors(names, rows, path)


def _name(file: IO[bytes], path: Path, number: int, header: _Header) -> str:
    """The bytes up to a space; a line end before them belongs to the word before."""
    name = bytearray()
    while (byte := file.read(1)) != b" ":
        if not byte:
            raise DataError(f"{path}: ends after {number:,} of {header.words:,} words; the file is incomplete")
        if byte != b"\n" or name:
            name += byte
        if len(name) > LONGEST_WORD:
            break
    try:
        return name.decode("utf-8") if len(name) <= LONGEST_WORD else _not_a_word(path, number)
    except UnicodeDecodeError:
        return _not_a_word(path, number)


def _not_a_word(path: Path, number: int) -> str:
    raise DataError(
        f"{path}: what should be word {number + 1:,} is not UTF-8 text; the file is damaged, or not word2vec's"
    )


def _room(header: _Header, path: Path, file: IO[bytes]) -> NDArray[np.float32]:
    """Memory for all rows, but not for a damaged header's."""
    size = path.stat().st_size
    least = header.words * header.dimensions * (4 if not isinstance(file, gzip.GzipFile) else 0)
    if least > size:
        raise DataError(
            f"{path}: its first line says {header.words:,} words of {header.dimensions} dimensions, which need "
            f"{least:,} bytes or more; there are {size:,}: the file is incomplete or damaged"
        )
    return np.empty((header.words, header.dimensions), np.float32)


# ---------------------------------------------------------------- text


def _read_text(file: IO[bytes], header: _Header | None, first: bytes, path: Path) -> Vectors:
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    dimensions = header.dimensions if header else None
    for line, text in _lines(file, header, first):
        name, row = _row(text, dimensions, f"{path}:{line}")
        names.append(name)
        rows.append(row)
        dimensions = len(row)
    if header is not None and len(rows) != header.words:
        what = "ends after" if len(rows) < header.words else "goes on after"
        count = min(len(rows), header.words)
        raise DataError(f"{path}: {what} {count:,} words; its first line says {header.words:,}")
    return _vectors(names, np.array(rows, np.float32), path)


def _lines(file: IO[bytes], header: _Header | None, first: bytes) -> Iterator[tuple[int, bytes]]:
    number = 1
    if header is None:
        yield number, first
    while text := file.readline(LONGEST_LINE):
        number += 1
        if text.strip():
            yield number, text


def _row(line: bytes, dimensions: int | None, where: str) -> tuple[str, NDArray[np.float32]]:
    try:
        name, *numbers = line.decode("utf-8").rstrip("\r\n ").split(" ")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start} of the line; this is no file of vectors") from None
    numbers = [number for number in numbers if number]
    more = len(numbers) - (dimensions or len(numbers))
    if more > 0 and not any(map(_is_number, numbers[:more])):  # published GloVe files have words such as `. . .`
        name, numbers = " ".join([name, *numbers[:more]]), numbers[more:]
    if not numbers or (dimensions is not None and len(numbers) != dimensions):
        raise DataError(f"{where}: {len(numbers)} numbers after {name[:40]!r}; expected {dimensions or 'some'}")
    try:
        return name, np.array(list(map(float, numbers)), np.float32)
    except ValueError:
        wrong = next(number for number in numbers if not _is_number(number))
        raise DataError(f"{where}: {wrong[:40]!r} after {name[:40]!r} is not a number") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vectors(names: list[str], rows: NDArray[np.float32], path: Path) -> Vectors:
    """Check what both forms share; of a word that is there twice the first counts."""
    if not math.isfinite(float(np.abs(rows).sum(dtype=np.float64))):
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise DataError(f"{path}: the vector of {names[row]!r} (word {row + 1:,}) has a number that is not finite")
    once = dict.fromkeys(names)
    if len(once) == len(names):
        return Vectors(names, rows)
    warn(f"{path}: {len(names) - len(once):,} words are there twice; the first vector of each counts")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    return Vectors(list(first), rows[list(first.values())])

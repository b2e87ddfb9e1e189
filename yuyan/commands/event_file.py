"""TensorBoard's event file of a run, beside `log.jsonl` and made from it alone, without TensorBoard.

A file is a row of records, each framed as length (8 bytes), checksum of the length, data, checksum of the data (TFRecord;
the checksum is CRC-32C, masked). The data is a protocol buffer `Event` (tensorboard/compat/proto/event.proto): wall time,
step, and a summary of named numbers. The wall time is the run's beginning plus its training time, so the same log gives
the same bytes, and pauses between sessions do not show.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from yuyan.console import warn
from yuyan.errors import StorageError
from yuyan.store import storage_errors, write_atomically

FOLDER = "tensorboard"
_ABOUT_TIME = ("step", "tokens", "seconds")


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of `log.jsonl` by name, `train/loss` or `validation/bits_per_byte`; NaN and texts are left out."""
    part, values = ("validation", record["validation"]) if "validation" in record else ("train", record)
    found = {f"{part}/{key}": float(value) for key, value in values.items() if isinstance(value, bool | int | float)}
    left_out = {f"{part}/{key}" for key in _ABOUT_TIME}
    return {key: value for key, value in found.items() if math.isfinite(value) and key not in left_out}


class EventFile:
    """The events of one run; what cannot be written is warned of once, and made good from the log at the next start."""

    def __init__(self, folder: Path, created: str):
        self.folder, self.began = folder / FOLDER, _seconds(created)
        self._file: IO[bytes] | None = None

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write what the log says so far into a new file, and remove the older ones: no step is there twice."""
        older = sorted(self.folder.glob("events.out.tfevents.*")) if self.folder.is_dir() else []
        number = 1 + max((int(each.suffix[1:]) for each in older if each.suffix[1:].isdigit()), default=0)
        path = self.folder / f"events.out.tfevents.{int(self.began):010d}.{number:04d}"
        try:
            with write_atomically(path) as temporary, temporary.open("wb") as file:
                file.write(framed(_event(self.began, version="brain.Event:2")))
                for record in records:
                    file.write(self._record(record))
            for each in older:
                each.unlink(missing_ok=True)
            self._file = path.open("ab")
        except (StorageError, OSError) as error:
            self._give_up(error)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line of the log."""
        if self._file is None:
            return
        try:
            with storage_errors(self.folder):
                self._file.write(self._record(record))
                self._file.flush()
        except StorageError as error:
            self._give_up(error)

    def close(self) -> None:
        """Nothing more will come."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        file, self._file = self._file, None
        warn(f"{error}; training goes on, without TensorBoard's file: {self.folder} is behind log.jsonl")
        if file is not None:
            try:
                file.close()
            except OSError:
                return  # said already

    def _record(self, record: Mapping[str, Any]) -> bytes:
        values = scalars(record)
        if not values:
            return b""
        return framed(_event(self.began + float(record.get("seconds") or 0), step=int(record["step"]), values=values))


def _seconds(created: str) -> float:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:  # made.json was damaged: only where the file lies on the axis of dates depends on it
        return 0.0


# ---------------------------------------------------------------- records


def framed(data: bytes) -> bytes:
    """A record as it stands in the file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _masked(data: bytes) -> int:
    """The checksum, turned and moved: a checksum of data that hold checksums would be weak."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), which is not the CRC-32 of zlib."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    entries = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        entries.append(number)
    return entries


_TABLE = _table()


# ---------------------------------------------------------------- protocol buffers


def _event(wall_time: float, *, step: int = 0, version: str = "", values: Mapping[str, float] | None = None) -> bytes:
    """`Event`: 1 wall_time, 2 step, 3 file_version, 5 summary; `Summary`: 1 value; `Value`: 1 tag, 2 simple_value."""
    parts = [b"\x09", struct.pack("<d", wall_time), b"\x10", _varint(step)]
    if version:
        parts.append(_text(0x1A, version.encode()))
    if values:
        entries = (_text(0x0A, tag.encode()) + b"\x15" + struct.pack("<f", _float32(x)) for tag, x in values.items())
        parts.append(_text(0x2A, b"".join(_text(0x0A, entry) for entry in entries)))
    return b"".join(parts)


def _float32(value: float) -> float:
    """What float32 cannot hold is infinite there, as in a conversion."""
    return value if abs(value) < 3.4028235e38 else math.copysign(math.inf, value)


def _text(key: int, data: bytes) -> bytes:
    return bytes((key,)) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)

"""`log.jsonl` of a run: a line for each update and each look, and no line twice, however often the run was stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from yuyan.console import warn
from yuyan.errors import StorageError
from yuyan.store import append_line, read_lines, write_text
from yuyan.train import Update


class RunLog:
    """Append records; those that a full disk refuses are kept and written when there is room.

    One of several processes `writes`; the others only read.
    """

    def __init__(self, file: Path, *, writes: bool = True):
        self.file, self.writes = file, writes
        self._unwritten: list[dict[str, Any]] = []

    def write(self, record: dict[str, Any]) -> None:
        """Append a record, after those that could not be written before."""
        if not self.writes:
            return
        self._unwritten.append(record)
        try:
            while self._unwritten:
                append_line(self.file, self._unwritten[0])
                self._unwritten.pop(0)
        except StorageError as error:
            if len(self._unwritten) == 1:
                warn(f"{error}; training goes on, the log is written when there is room")

    def cut(self, step: int) -> None:
        """Forget what was written after `step`: the run goes on from there. Raises StorageError."""
        if self.writes and self.file.exists():
            kept = [record for record in read_lines(self.file) if record.get("step", math.inf) <= step]
            write_text(self.file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))

    def read(self) -> list[dict[str, Any]]:
        """All records."""
        return read_lines(self.file)


def update_record(update: Update, speed: float) -> dict[str, Any]:
    """An update as a record; what is not a number is null, as JSON has none."""
    record = update._asdict() | {"tokens_per_second": round(speed, 1), "seconds": round(update.seconds, 3)}
    return {key: (None if isinstance(v, float) and not math.isfinite(v) else v) for key, v in record.items()}

"""`log.jsonl` of a run: a line for each update and each look, and no line twice, however often the run was stopped.

TensorBoard's file is written beside it, always; a tracking service is told the same lines, where the config asks for one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from yuyan.commands.event_file import EventFile
from yuyan.commands.made import note, noted
from yuyan.commands.run import RunConfig
from yuyan.commands.track import Following, NoTrack, begun
from yuyan.config import dump, flatten
from yuyan.console import warn
from yuyan.errors import StorageError
from yuyan.store import append_line, read_lines, write_text
from yuyan.train import Update


class Follower(Protocol):
    """Is told each line."""

    def write(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Append records; those that a full disk refuses are kept and written when there is room.

    One of several processes `writes`; the others only read.
    """

    def __init__(self, folder: Path, *, writes: bool = True):
        self.folder, self.file, self.writes = folder, folder / "log.jsonl", writes
        self._unwritten: list[dict[str, Any]] = []
        self._followers: list[Follower] = []

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
        for follower in self._followers:
            follower.write(record)

    def begin(self, step: int, config: RunConfig) -> None:
        """Forget what was written after `step`, where the run goes on, and let others follow.

        Raises StorageError, or InputError if the package of a tracking service is not there.
        """
        if not self.writes:
            return
        kept = [record for record in self.read() if record.get("step", math.inf) <= step]
        if self.file.exists():
            write_text(self.file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
        events = EventFile(self.folder, str(noted(self.folder).get("created", "")))
        self._followers = [events, *self._tracked(config)]
        events.begin(kept)

    def _tracked(self, config: RunConfig) -> list[Follower]:
        """The service that the config asks for, if it asks for one; the run goes on there as what it was."""
        if isinstance(config.track, NoTrack):
            return []
        kind, stored = config.track.kind, noted(self.folder).get("track", {})
        before = stored if stored.get("kind") == kind else {}
        tracker = begun(config.track, self.folder, config.name, flatten(dump(config)), before.get("identity"))

        def remember(known: int) -> None:
            note(self.folder, track={"kind": kind, "identity": tracker.identity, "known": known})

        remember(int(before.get("known", 0)))
        return [Following(tracker, int(before.get("known", 0)), remember)]

    def close(self) -> None:
        """End the session of those who follow."""
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.close()

    def read(self) -> list[dict[str, Any]]:
        """All records."""
        return read_lines(self.file)


def update_record(update: Update, speed: float) -> dict[str, Any]:
    """An update as a record; what is not a number is null, as JSON has none."""
    record = update._asdict() | {"tokens_per_second": round(speed, 1), "seconds": round(update.seconds, 3)}
    return {key: (None if isinstance(v, float) and not math.isfinite(v) else v) for key, v in record.items()}

"""Watching a run: losses that stand out, and batches that came to no number.

`bad_batches.jsonl` has the rows whose loss or gradient was not a number, with the beginnings of their texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yuyan.commands.runlog import RunLog, update_record
from yuyan.console import warn
from yuyan.corpus import Batches
from yuyan.errors import StorageError
from yuyan.store import append_line
from yuyan.tokens import Tokenizer
from yuyan.train import Diverged, PlainStep, State, Update, train
from yuyan.train.spikes import Spikes

BAD = "bad_batches.jsonl"
MOST_ROWS, MOST_CHARACTERS = 64, 2000


class Watch:
    """Passes the updates of a run through, and keeps what was remarkable. Of several processes the one that writes the log does."""

    def __init__(self, folder: Path, batches: Batches, tokenizer: Tokenizer, log: RunLog, spike: float | None):
        self.folder, self.batches, self.tokenizer, self.log = folder, batches, tokenizer, log
        self.spike = spike
        self.spikes: Spikes | None = None

    def updates(self, state: State, step: PlainStep) -> Iterator[Update]:
        """Train. Raises Diverged, after what was read then is written down."""
        seen = (record.get("loss") for record in self.log.read() if "spike" not in record)
        self.spikes = None if self.spike is None else Spikes(self.spike, seen)
        why = "its loss or gradient is not a number"
        try:
            for update in train(state, self.batches, step):
                if update.skipped:
                    self._keep(update.step, f"{why}; skipped", step.suspects)
                yield update
        except Diverged:
            self._keep(state.step + 1, why, step.suspects)
            raise

    def record(self, update: Update, speed: float, took: dict[str, Any]) -> None:
        """Write an update, and what it `took`, to the log, and say where its loss stands out."""
        record = update_record(update, speed) | took
        deviations = None if self.spikes is None else self.spikes.see(update.loss)
        if deviations is not None:
            record["spike"] = round(deviations, 1)
            warn(f"step {update.step}: loss {update.loss:.3f} lies {deviations:.0f} deviations above the last ones")
        self.log.write(record)

    def _keep(self, step: int, why: str, suspects: Sequence[int]) -> None:
        if self.log.writes:
            keep_bad_batch(self.folder, step, why, suspects, self.batches, self.tokenizer)


def keep_bad_batch(
    folder: Path, step: int, why: str, suspects: Sequence[int], batches: Batches, tokenizer: Tokenizer
) -> None:
    """Write down what update `step` read. `suspects` are the places in the batch whose loss was no number; if none, all."""
    rows = batches.last_rows()
    chosen = [rows[place] for place in suspects if place < len(rows)] or rows
    record = {
        "step": step, "why": why,
        "rows": [{"epoch": epoch, "index": index, "text": _text(batches, tokenizer, epoch, index)}
                 for epoch, index in chosen[:MOST_ROWS]],
        "rows_in_all": len(chosen),
    }  # fmt: skip
    try:
        append_line(folder / BAD, record)
        warn(f"step {step}: {why}; what it read is in {folder / BAD}")
    except StorageError as error:
        warn(f"step {step}: {why}; {error}")


def _text(batches: Batches, tokenizer: Tokenizer, epoch: int, index: int) -> Any:
    """The text of a row, or of a row that is no text what it holds."""
    row: Any = batches.row(epoch, index)
    row = getattr(row, "input_ids", row)
    return tokenizer.decode(row.tolist())[:MOST_CHARACTERS] if hasattr(row, "tolist") else str(row)[:MOST_CHARACTERS]

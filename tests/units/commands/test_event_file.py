"""TensorBoard reads our event file as we meant it, and no step is in it twice, however often a run is stopped."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from yuyan.commands.event_file import FOLDER, EventFile, crc32c, framed, scalars
from yuyan.commands.run import read_run_config
from yuyan.commands.runlog import RunLog
from yuyan.errors import StorageError

CREATED = "2026-11-22T08:00:00+0000"
CONFIG = Path(__file__).parents[3] / "configs" / "tiny" / "gpt.yaml"


def update(step: int, loss: float | None = 2.5) -> dict[str, Any]:
    return {"step": step, "loss": loss, "skipped": loss is None, "tokens": 100 * step, "seconds": 0.5 * step}


def look(step: int, score: float = 3.0) -> dict[str, Any]:
    return {"step": step, "tokens": 100 * step, "seconds": 0.5 * step,
            "validation": {"bits_per_byte": score, "interval": [2.9, 3.1], "tokens": 7}}  # fmt: skip


def seen(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """What TensorBoard itself finds: tag -> (wall time, step, value)."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.wall_time, e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value in the catalogue of such checksums
    assert crc32c(b"") == 0 and crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    record = framed(b"abc")
    assert struct.unpack("<Q", record[:8]) == (3,) and len(record) == 8 + 4 + 3 + 4


def test_numbers_have_names_and_what_is_none_is_left_out() -> None:
    assert scalars(update(3, None)) == {"train/skipped": 1.0}
    assert scalars(look(3)) == {"validation/bits_per_byte": 3.0}
    assert scalars({"step": 1, "loss": float("nan"), "note": "text"}) == {}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    events = EventFile(tmp_path, CREATED)
    events.begin([update(1), look(1)])
    for step in (2, 300, 70_000):  # numbers of one, two and three bytes
        events.write(update(step, 1.0 / step))
    events.write(look(300, 1e39))  # more than float32 holds
    events.close()
    found = seen(tmp_path)
    began = 1795334400.0
    assert found["train/loss"] == [
        (began + 0.5 * step, step, pytest.approx(value))
        for step, value in ((1, 2.5), (2, 0.5), (300, 1 / 300), (70_000, 1 / 70_000))
    ]
    assert [value for _, _, value in found["validation/bits_per_byte"]] == [3.0, float("inf")]
    assert "train/tokens" not in found and "train/seconds" not in found


def test_a_run_that_goes_on_has_no_step_twice(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(json.dumps({"created": CREATED}))
    config = read_run_config(CONFIG)
    for cut, until in ((0, 9), (6, 12), (11, 14)):
        log = RunLog(tmp_path)
        log.begin(cut, config)
        for step in range(cut + 1, until + 1):
            log.write(update(step, 10.0 * until + step))
        log.close()
    assert len(list((tmp_path / FOLDER).iterdir())) == 1, "older files are removed"
    expected = [(step, 10.0 * (9 if step <= 6 else 12 if step <= 11 else 14) + step) for step in range(1, 15)]
    assert [(step, value) for _, step, value in seen(tmp_path)["train/loss"]] == expected
    assert [(r["step"], r["loss"]) for r in RunLog(tmp_path).read()] == expected


def test_a_full_disk_does_not_end_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = EventFile(tmp_path, CREATED)
    events.begin([])
    assert events._file is not None

    def full(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    events._file.close()
    events._file = type("Full", (), {"write": staticmethod(full), "close": lambda self: None})()  # type: ignore[assignment]
    events.write(update(1))
    events.write(update(2))
    assert capsys.readouterr().err.count("the disk is full") == 1
    again = EventFile(tmp_path, CREATED)
    again.begin([update(1), update(2)])  # made good from the log
    again.close()
    assert [step for _, step, _ in seen(tmp_path)["train/loss"]] == [1, 2]


def test_no_place_for_it_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise StorageError(f"{path}: cannot be written: the disk is full")

    monkeypatch.setattr("yuyan.commands.event_file.write_atomically", refuse)
    events = EventFile(tmp_path, CREATED)
    events.begin([])
    events.write(update(1))
    events.close()
    assert "training goes on" in " ".join(capsys.readouterr().err.split())

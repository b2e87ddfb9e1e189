"""A tracking service is told each step once, sees only numbers, and can neither end nor slow the training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from yuyan.commands import track
from yuyan.commands.made import noted
from yuyan.commands.run import RunConfig, check_same, read_run_config
from yuyan.commands.runlog import RunLog
from yuyan.commands.track import Following, MLflow, WandB
from yuyan.errors import InputError

CONFIG = Path(__file__).parents[3] / "configs" / "tiny" / "gpt.yaml"


class Service:
    """Records what it is told."""

    def __init__(self, identity: str = "abc", breaks: bool = False):
        self.identity, self.breaks, self.told, self.closed = identity, breaks, list[Mapping[str, Any]](), 0

    def send(self, records: list[Mapping[str, Any]]) -> None:
        if self.breaks:
            raise ConnectionError("no answer")
        self.told += records

    def close(self) -> None:
        self.closed += 1


def line(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, "tokens": step, "seconds": float(step)}


def test_lines_are_sent_together_and_the_last_at_the_end() -> None:
    service, clock, remembered = Service(), [0.0], list[int]()
    following = Following(service, 0, remembered.append, clock=lambda: clock[0])
    for step in range(1, 8):
        clock[0] += 2.0
        following.write(line(step))
    assert [r["step"] for r in service.told] == [1, 2, 3, 4, 5, 6] and remembered == [3, 6]
    following.close()
    assert [r["step"] for r in service.told] == [1, 2, 3, 4, 5, 6, 7]
    assert remembered == [3, 6, 7] and service.closed == 1


def test_a_service_that_fails_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    service, remembered = Service(breaks=True), list[int]()
    following = Following(service, 0, remembered.append, clock=iter(range(0, 1000, 6)).__next__)
    for step in range(1, 6):
        following.write(line(step))
    following.close()
    assert not service.closed and remembered == []
    assert capsys.readouterr().err.count("ConnectionError: no answer") == 1


def asked(**keys: object) -> RunConfig:
    return read_run_config(CONFIG, [f"track.{key}={value}" for key, value in keys.items()])


def test_a_run_that_goes_on_is_the_same_there_and_no_step_is_sent_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, identities = list[Service](), list[str | None]()

    def open_(self: WandB, folder: Path, name: str, config: dict[str, Any], identity: str | None) -> Service:
        assert name == "tiny-gpt" and config["train.context"] == 128
        services.append(Service())
        identities.append(identity)
        return services[-1]

    monkeypatch.setattr(WandB, "open", open_)
    (tmp_path / "made.json").write_text("{}")
    for cut, until in ((0, 9), (6, 12), (3, 5), (5, 15)):
        log = RunLog(tmp_path)
        log.begin(cut, asked(kind="wandb"))
        for step in range(cut + 1, until + 1):
            log.write(line(step))
        log.close()
    assert identities == [None, "abc", "abc", "abc"]
    assert [r["step"] for service in services for r in service.told] == list(range(1, 16))
    assert noted(tmp_path)["track"] == {"kind": "wandb", "identity": "abc", "known": 15}


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(track.importlib, "import_module", missing)
    with pytest.raises(InputError, match=rf"track\.kind: {kind} is not installed .*pip install {kind}") as error:
        RunLog(tmp_path).begin(0, asked(kind=kind))
    assert "\n" not in str(error.value)


def test_a_service_that_cannot_begin_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(*args: object) -> Service:
        raise RuntimeError("no\nserver")

    monkeypatch.setattr(MLflow, "open", open_)
    with pytest.raises(InputError, match=r"^track: mlflow cannot begin: no server"):
        RunLog(tmp_path).begin(0, asked(kind="mlflow"))


def test_track_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    check_same(asked(kind="mlflow"), asked(kind="none"), tmp_path)


@pytest.mark.slow
def test_mlflow_itself_has_each_step_once(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("alembic")
    (tmp_path / "made.json").write_text("{}")
    for cut, until in ((0, 4), (2, 6)):
        log = RunLog(tmp_path)
        log.begin(cut, asked(kind="mlflow"))
        for step in range(cut + 1, until + 1):
            log.write(line(step))
        log.close()
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    identity = noted(tmp_path)["track"]["identity"]
    history = client.get_metric_history(identity, "train/loss")
    assert [(m.step, m.value) for m in history] == [(step, 1.0 / step) for step in range(1, 7)]
    run = client.get_run(identity)
    assert run.info.status == "FINISHED" and run.data.params["train.context"] == "128"


@pytest.mark.slow
def test_wandb_itself_writes_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "made.json").write_text("{}")
    log = RunLog(tmp_path)
    log.begin(0, asked(kind="wandb"))
    for step in range(1, 4):
        log.write(line(step))
    log.close()
    identity = json.loads((tmp_path / "made.json").read_text())["track"]["identity"]
    written = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/*.wandb"))
    assert len(written) == 1 and b"train/loss" in written[0].read_bytes()

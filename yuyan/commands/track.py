"""Services that follow a run, only where its config asks for one: Weights & Biases, MLflow.

Their packages are loaded when they are asked for, and only then. Nothing leaves the machine unless the config says so:
W&B writes offline, MLflow into a file of the run, until `mode` or `uri` say otherwise. A run that goes on is the same run
there; steps that were sent once are not sent again, so no step is there twice. A service that fails is no reason to lose
the training: it is warned of once, and left alone from then on.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from yuyan.commands.event_file import scalars
from yuyan.config import Config
from yuyan.console import say, warn
from yuyan.errors import InputError

SEND_SECONDS = 5.0  # between two sendings: a service answers slower than a step of a small model


class Tracker(Protocol):
    """What follows a run: is told each line of its log. `identity` finds the run again in a later session."""

    identity: str

    def send(self, records: list[Mapping[str, Any]]) -> None: ...

    def close(self) -> None: ...


class NoTrack(Config):
    """No service."""

    kind: Literal["none"] = "none"


class WandB(Config):
    """Weights & Biases (the package `wandb`)."""

    kind: Literal["wandb"] = "wandb"
    project: str = Field("yuyan", min_length=1)
    """The project there."""
    mode: Literal["offline", "online"] = "offline"
    """offline writes into the run's folder, to be sent with `wandb sync`; online sends at once."""

    def open(self, folder: Path, name: str, config: dict[str, Any], identity: str | None) -> Tracker:
        """Begin, or go on as `identity`. Raises InputError if the package is not there."""
        return _WandB(_package("wandb", "wandb"), self, folder, name, config, identity)


class MLflow(Config):
    """MLflow (the package `mlflow` or `mlflow-skinny`)."""

    kind: Literal["mlflow"] = "mlflow"
    experiment: str = Field("yuyan", min_length=1)
    """The experiment there."""
    uri: str | None = None
    """The tracking server or store, such as http://localhost:5000; by default the file `mlflow.db` of the run."""

    def open(self, folder: Path, name: str, config: dict[str, Any], identity: str | None) -> Tracker:
        """Begin, or go on as `identity`. Raises InputError if the package is not there."""
        return _MLflow(_package("mlflow", "mlflow-skinny"), self, folder, name, config, identity)


Track = Annotated[NoTrack | WandB | MLflow, Field(discriminator="kind")]


def begun(settings: WandB | MLflow, folder: Path, name: str, config: dict[str, Any], identity: str | None) -> Tracker:
    """The tracker of the settings. Raises InputError if its package is not there, or does not take it."""
    try:
        return settings.open(folder, name, config, identity)
    except InputError:
        raise
    except Exception as error:  # as below
        said = " ".join(str(error).split())[:300]
        raise InputError(f"track: {settings.kind} cannot begin: {said}; see track.kind, or leave track out") from error


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"track.kind: {module} is not installed ({error}); pip install {package}, or leave track out"
        ) from None


class _WandB:
    def __init__(
        self, wandb: Any, settings: WandB, folder: Path, name: str, config: dict[str, Any], identity: str | None
    ):
        self.settings, self.folder = settings, folder
        self.run = wandb.init(
            project=settings.project, name=name, dir=str(folder), mode=settings.mode, config=config, id=identity,
            resume="allow" if identity else None, settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.identity = str(self.run.id)

    def send(self, records: list[Mapping[str, Any]]) -> None:
        for record in records:
            self.run.log({**scalars(record), "step": record["step"]})

    def close(self) -> None:
        self.run.finish()
        if self.settings.mode == "offline":
            say(f"for Weights & Biases: wandb sync {self.folder / 'wandb'}/offline-run-*-{self.identity}")


class _MLflow:
    def __init__(
        self, mlflow: Any, settings: MLflow, folder: Path, name: str, config: dict[str, Any], identity: str | None
    ):
        tracking, entities = importlib.import_module("mlflow.tracking"), importlib.import_module("mlflow.entities")
        self._metric = entities.Metric
        self.client = tracking.MlflowClient(tracking_uri=settings.uri or f"sqlite:///{folder.absolute() / 'mlflow.db'}")
        if identity is not None:
            self.identity = identity
            self.client.update_run(identity, status="RUNNING")
            return
        experiment = self.client.get_experiment_by_name(settings.experiment)
        number = self.client.create_experiment(settings.experiment) if experiment is None else experiment.experiment_id
        self.identity = str(self.client.create_run(number, run_name=name).info.run_id)
        for key, value in config.items():
            self.client.log_param(self.identity, key, str(value)[:500])

    def send(self, records: list[Mapping[str, Any]]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self._metric(key, value, now, int(record["step"]))
            for record in records
            for key, value in scalars(record).items()
        ]
        for at in range(0, len(metrics), 1000):  # the most that its protocol takes at once
            self.client.log_batch(self.identity, metrics=metrics[at : at + 1000])

    def close(self) -> None:
        self.client.set_terminated(self.identity)


class Following:
    """A tracker from the point of view of the run's log: not told what it knows, and never in the way of the training.

    `known` is the last step that was sent in earlier sessions; `remember` keeps that number for later ones.
    """

    def __init__(
        self, tracker: Tracker, known: int, remember: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ):
        self._known, self._remember, self._clock, self._last = known, remember, clock, clock()
        self._tracker: Tracker | None = tracker
        self._waiting: list[Mapping[str, Any]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep a line of the log, and send what was kept if it is time."""
        if self._tracker is None or record["step"] <= self._known:
            return
        self._waiting.append(record)
        if self._clock() - self._last >= SEND_SECONDS:
            self._send()

    def close(self) -> None:
        """Send the rest, and end the session there."""
        self._send()
        if self._tracker is not None:
            self._try(self._tracker.close)
        self._tracker = None

    def _send(self) -> None:
        waiting, self._waiting, self._last = self._waiting, [], self._clock()
        if self._tracker is not None and waiting:
            self._try(partial(self._tracker.send, waiting))
        if self._tracker is not None and waiting:
            self._try(partial(self._remember, int(waiting[-1]["step"])))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a service's package raises: its kinds are not ours to know
            self._tracker = None
            warn(f"track: {type(error).__name__}: {error}; training goes on, nothing more is sent")

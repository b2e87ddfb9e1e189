"""What `import yuyan` offers: the same functions that the commands call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yuyan.commands.compare import Comparison, compare_runs
from yuyan.commands.given import Given, config_of
from yuyan.commands.outcome import Trained
from yuyan.commands.runs import Runs, list_runs
from yuyan.commands.train import train_command
from yuyan.tasks.language_model import LanguageModel


def load(path: str | Path, *, weights: str | dict[str, Any] | None = None) -> LanguageModel:
    """A model folder, a run, or a rung of a ladder.

    With `weights` ("float32", "bfloat16", "int8", "int4", or {"kind": "int4", "group": 128}) a decoder is laid out to
    generate fast on this CPU, and does nothing else. Raises InputError, ConfigError or CheckpointCorrupt.
    """
    return LanguageModel.load(path, weights=weights)


def train(
    config: Given, *overrides: str | dict[str, Any], out: str | Path | None = None, resume: bool = False, **keys: Any
) -> Trained:
    """Train what a config describes: a YAML file, a text to learn, plain data, or a RunConfig.

    Overrides are written as on the command line (`"train.steps=50"`), as a mapping (`{"train.steps": 50}`), or as keywords
    with two underscores for the dot (`train__steps=50`). In a notebook the result shows a table and its curve.

    Raises InputError (a mistake in the config or the data), StorageError, CheckpointCorrupt, Interrupted.
    """
    return train_command(config_of(config, overrides, keys), None if out is None else Path(out), resume=resume)


def runs(*folders: str | Path, sort: str = "when") -> Runs:
    """The runs at and below the folders, by default `runs/`. Raises InputError."""
    return list_runs([Path(folder) for folder in folders], sort=sort)


def compare(*folders: str | Path) -> Comparison:
    """Runs side by side: scores with paired differences, settings that differ, curves. Raises InputError."""
    return compare_runs([Path(folder) for folder in folders])

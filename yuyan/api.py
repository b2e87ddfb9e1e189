"""What `import yuyan` offers: the same functions that the commands call."""

from __future__ import annotations

from pathlib import Path

from yuyan.commands.outcome import Trained
from yuyan.commands.run import read_run_config
from yuyan.commands.train import train_command
from yuyan.tasks.language_model import LanguageModel


def load(path: str | Path) -> LanguageModel:
    """A model folder, a run, or a rung of a ladder. Raises InputError or CheckpointCorrupt."""
    return LanguageModel.load(path)


def train(config: str | Path, *overrides: str, out: str | Path | None = None, resume: bool = False) -> Trained:
    """Train what a config file describes; `overrides` are written as on the command line, `train.steps=50`.

    Raises InputError (a mistake in the config or the data), StorageError, CheckpointCorrupt, Interrupted.
    """
    settings = read_run_config(Path(config), overrides)
    return train_command(settings, None if out is None else Path(out), resume=resume)

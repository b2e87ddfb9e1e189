"""`yuyan data FILE --mask RUN`: the exact tokens a task learns from, each with what it is scored against."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from yuyan.commands.task_use import task_and_data
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.tasks.language_model import LanguageModel
from yuyan.text.read import look

SHOWN = 5
COLOURS = ("green", "magenta", "cyan", "yellow", "blue", "red")


def mask_command(model_path: Path, paths: list[Path], settings: list[str]) -> None:
    """Print the first records on standard output: tokens with `/label` where they are scored, the label of a text behind it.

    Raises InputError for a model without a task, DataError for files that cannot be read.
    """
    model = LanguageModel.load(model_path)
    model.trained_task()  # says so if there is none
    task, data = task_and_data(model, paths, settings)
    files = look(paths, data)
    config = task.config.found(files, data)
    records = list(islice(config.read(files, data), SHOWN))
    pieces, names = task.items(records), model.tokenizer.vocabulary
    out = Console(highlight=False, soft_wrap=True)
    for owner, item in zip(pieces.owners, pieces.items, strict=True):
        ids, labels = item["input_ids"], np.asarray(item["labels"])
        line = Text(f"{records[owner].where}: ", style="dim")
        each = labels.shape == ids.shape and not getattr(task.config, "several", False)
        for place, number in enumerate(ids.tolist()):
            label = int(labels[place]) if each else IGNORE
            style = "dim" if label == IGNORE else COLOURS[label % len(COLOURS)]
            line.append(f"{names[number]}{'' if label == IGNORE else '/' + task.labels[label]} ", style=style)
        if not each:
            chosen = np.flatnonzero(labels) if labels.ndim else [int(labels)]
            line.append("=> " + ", ".join(task.labels[i] for i in chosen), style="bold green")
        out.print(line)

"""`yuyan data FILE --mask RUN`: the exact tokens a task learns from, each with what it is scored against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from yuyan.commands.task_use import task_and_data
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.tasks.base import Item, Task
from yuyan.tasks.language_model import LanguageModel
from yuyan.text.read import look
from yuyan.tokens import Tokenizer

SHOWN = 5
COLOURS = ("green", "magenta", "cyan", "yellow", "blue", "red")


def mask_command(model_path: Path, paths: list[Path], settings: list[str]) -> None:
    """Print the first records on standard output: tokens with `/label` where they are scored, the label of a text behind
    it; of a task that writes, `[token]` for what is to be written.

    Raises InputError for a model without a task, DataError for files that cannot be read.
    """
    model = LanguageModel.load(model_path)
    model.trained_task()  # says so if there is none
    task, data = task_and_data(model, paths, settings)
    files = look(paths, data)
    config = task.config.found(files, data)
    records = list(islice(config.read(files, data), SHOWN))
    pieces, names = task.items(records), _names(model.tokenizer)
    out = Console(highlight=False, soft_wrap=True)
    for owner, item in zip(pieces.owners, pieces.items, strict=True):
        line = Text(f"{records[owner].where}: ", style="dim")
        if "start_positions" in item:
            line.append_text(_answered(item, names))
        else:
            line.append_text(_labelled(task, item, names) if task.labels else _written(item, names))
        out.print(line)


def _names(tokenizer: Tokenizer) -> list[str]:
    """The tokens as one can read them: a token of bytes as its text, where it is one."""
    names = list(tokenizer.vocabulary)
    for number, piece in enumerate(tokenizer.pieces.later):
        if piece and not piece.isascii():
            names[number] = piece.decode("utf-8", "ignore") if _is_text(piece) else names[number]
    return names


def _is_text(piece: bytes) -> bool:
    try:
        return piece.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _labelled(task: Task, item: Item, names: Sequence[str]) -> Text:
    """Tokens with their labels, or the label of all of them at the end."""
    line, ids, labels = Text(), item["input_ids"], np.asarray(item["labels"])
    each = labels.shape == ids.shape and not getattr(task.config, "several", False)
    for place, number in enumerate(ids.tolist()):
        label = int(labels[place]) if each else IGNORE
        style = "dim" if label == IGNORE else COLOURS[label % len(COLOURS)]
        line.append(f"{names[number]}{'' if label == IGNORE else '/' + task.labels[label]} ", style=style)
    if not each:
        chosen = np.flatnonzero(labels) if labels.ndim else [int(labels)]
        line.append("=> " + ", ".join(task.labels[i] for i in chosen), style="bold green")
    return line


def _answered(item: Item, names: Sequence[str]) -> Text:
    """What may not be the answer is dim; without an answer the first token is both its beginning and its end."""
    line, start, end = Text(), int(item["start_positions"]), int(item["end_positions"])
    for place, number in enumerate(item["input_ids"].tolist()):
        label = "/start" * (place == start) + "/end" * (place == end)
        style = "bold green" if start <= place <= end else "" if item["answer_mask"][place] else "dim"
        line.append(f"{names[number]}{label} ", style=style)
    if not start:
        line.append("=> no answer here", style="bold green")
    return line


def _written(item: Item, names: Sequence[str]) -> Text:
    """What is read, and in colour and brackets what is learned to be written."""
    line, ids = Text(), item["input_ids"].tolist()
    if "scored" in item:  # which of its own tokens are learned
        for number, learned in zip(ids, item["scored"].tolist(), strict=True):
            line.append(f"[{names[number]}] " if learned else f"{names[number]} ", style="green" if learned else "dim")
        return line
    labels = item["labels"].tolist()
    if "decoder_input_ids" in item:
        line.append("".join(f"{names[i]} " for i in ids) + "=> ", style="dim")
    else:  # the label of a token is the one behind it
        line.append(f"{names[ids[0]]} ", style="dim")
        labels = [(following, label != IGNORE) for following, label in zip([*ids[1:], labels[-1]], labels, strict=True)]
    for each in labels:
        number, learned = each if isinstance(each, tuple) else (each, True)
        line.append(f"[{names[number]}] " if learned else f"{names[number]} ", style="green" if learned else "dim")
    return line

"""From the files of a task to records that a model can be trained on; what was found is said, and written into the config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuyan.commands.companion import planned_network
from yuyan.commands.overlap import say_overlap
from yuyan.commands.parts import (
    divided,
    kept_parts,
    language_of,
    read_parts,
    stored_records,
    tokenizer_for,
    write_parts,
)
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import RunData
from yuyan.config import dump
from yuyan.console import say, table, warn
from yuyan.corpus.by_length import ByLength
from yuyan.errors import ConfigError, DataError
from yuyan.models.network import NetworkModule
from yuyan.store import remove_leftovers
from yuyan.tasks import Converse, TaskConfig
from yuyan.tasks.base import Pieces, Task
from yuyan.tasks.dialogue_text import Dialogue
from yuyan.text.read import look_at_parts
from yuyan.text.split import OrderedSplit, RandomSplit
from yuyan.tokens import Tokenizer

SHOWN = (
    "text", "label", "lines", "words", "tags", "spans", "scheme", "source", "target", "languages", "form", "question",
    "context", "answer", "start", "id",
)  # fmt: skip
"""Keys of a task that say where things are in its files."""
ADOPTED = (*SHOWN, "several", "labels", "counts", "joint", "reads", "unanswerable", "longest", "template")
"""Keys of a task that are found when they are not given."""


@dataclass(frozen=True)
class TaskCorpus:
    """Records in two or three parts, and the training part as items that fit the network."""

    tokenizer: Tokenizer
    task: Task
    parts: dict[str, Sequence[Any]]
    pieces: Pieces
    batch_rows: int
    language: str
    bytes: int

    def rows(self, split: str, length: int, seed: int, *, whole: bool = True) -> ByLength | None:
        """The items of the training part."""
        assert split == "train"
        sizes = [len(item["input_ids"]) for item in self.pieces.items]
        chosen = self.task.drawn(self.pieces)
        return ByLength(self.pieces.items, sizes, self.batch_rows, length, seed=seed, chosen=chosen)

    def settled(self, network: NetworkModule) -> Any:
        """The config of the task, with what is chosen on the validation data."""
        records = self.parts["validation"]
        return (
            self.task.settled(self.task.answer(network, records), records)
            if self.task.config.unsettled
            else self.task.config
        )

    @property
    def tokens(self) -> int:
        """Of the training part."""
        return sum(len(item["input_ids"]) for item in self.pieces.items)

    def tokens_of(self, split: str) -> int:
        """About how many tokens a part has, by its characters."""
        characters = {name: sum(len(record.text) for record in self.parts[name]) for name in ("train", split)}
        return self.tokens * characters[split] // max(1, characters["train"])

    def describe(self) -> str:
        """What a model card says of the training data."""
        return f"{len(self.parts['train']):,} labelled texts ({self.bytes / 1e6:.2f} MB)"


def make_task(config: RunConfig, folder: Path) -> TaskCorpus:
    """Read and divide the records, train or load the tokenizer, check lengths; what is there already is used again.

    Raises DataError, ConfigError, StorageError.
    """
    assert config.task is not None
    for place in (folder, folder / "tokenizer"):
        remove_leftovers(place)
    settings, parts = _parts(config, config.task, folder)
    settings = settings.with_labels(parts["train"]).suited(planned_network(config))
    texts = settings.texts(parts["train"])
    tokenizer = tokenizer_for(config, folder, texts, settings.control if isinstance(settings, Converse) else ())
    if isinstance(settings, Converse):
        settings, tokenizer = settings.equipped(tokenizer)
    task = settings.build(tokenizer, config.train.context)
    pieces = task.items(parts["train"])
    if not pieces.items:
        raise DataError(f"{config.data.sources[0]}: there is nothing in it that can be learned")
    _show(config, task, parts, pieces)
    return TaskCorpus(
        tokenizer, task, dict(parts), pieces, config.train.batch_rows,
        language_of([record.text for record in parts["train"]]), sum(len(text.encode()) for text in texts),
    )  # fmt: skip


def adopt_task(config: RunConfig, stored: RunConfig) -> RunConfig:
    """The config with what was found for its task when the run began, where it leaves it open."""
    if config.task is None or stored.task is None or type(config.task) is not type(stored.task):
        return config
    found = {
        key: getattr(stored.task, key)
        for key in ADOPTED
        if key in type(stored.task).model_fields and getattr(config.task, key) is None
    }
    return config.model_copy(update={"task": config.task.model_copy(update=found)})


# ---------------------------------------------------------------- reading and dividing


def _parts(config: RunConfig, task: TaskConfig, folder: Path) -> tuple[TaskConfig, dict[str, list[Any]]]:
    """The records of each part, and the task with what was found about their files when they were first read."""

    def write(place: Path) -> None:
        nonlocal task
        task = _write(config.data, task, place)

    parts = kept_parts(config.data, folder, write, lambda file: stored_records(file, task.record))
    return task, parts


def together(record: Any) -> str:
    """Records with the same one go to the same part."""
    return record.group if isinstance(record, Dialogue) else str(record.text)


def _write(data: RunData, task: TaskConfig, place: Path) -> TaskConfig:
    files = look_at_parts(data)
    task = task.found(files["train"], data.plain)
    for name, found in files.items():
        say(f"{name}: {', '.join(_named(each) for each in found.sources[:4])}{_columns(task)}")
    parts: dict[str, list[Any]] = read_parts(files, lambda found: task.read(found, data.plain))
    if not data.validation:
        parts = _divided(parts, data)
    write_parts(place, files, parts, lambda record: json.dumps(record._asdict(), ensure_ascii=False) + "\n")
    return task


def _named(each: Any) -> str:
    return f"{each.source.name} ({each.source.format}, {each.encoding.name})"


def _columns(task: TaskConfig) -> str:
    found = dump(task)
    said = ", ".join(f"task.{key}={found[key]}" for key in SHOWN if found.get(key) is not None)
    return f"; read with {said}" if said else ""


def _divided(parts: dict[str, list[Any]], data: RunData) -> dict[str, list[Any]]:
    """Training records for validation, and for a test where there is none: by a hash of the text, so that the same text
    is never in two parts.
    """
    split = data.split
    if not isinstance(split, RandomSplit):
        kind = "ordered" if isinstance(split, OrderedSplit) else split.kind
        raise ConfigError(
            f"data.split.kind {kind}: the records of a task are divided by random, or give data.validation"
        )
    if "test" in parts:
        split = split.model_copy(update={"test": 0.0})
    return divided(parts["train"], together, split) | {name: part for name, part in parts.items() if name != "train"}


# ---------------------------------------------------------------- saying


def _show(config: RunConfig, task: Task, parts: dict[str, list[Any]], pieces: Pieces) -> None:
    """Counts by label and part, lengths, contradictions, what stands in training and test."""
    labels = f", {len(task.labels)} labels" if task.labels else ""
    table(f"{config.name}: {task.config.kind}{labels}", *task.described(parts))
    cut = f"; {pieces.too_long:,} longer than {config.train.context}: {task.config.too_long}" if pieces.too_long else ""
    say(f"training texts: {len(parts['train']):,}, the longest of {pieces.longest:,} tokens{cut}")
    if task.looks is not None:
        count = min(task.looks, len(parts["validation"])) if "validation" in parts else 0
        say(f"looks while training are at {f'the answers to {count:,} validation records' if task.looks else 'the loss'}; "
            "at the end all records are answered")  # fmt: skip
    for line in task.remarks(parts):
        warn(line)
    for name in ("validation", "test"):
        if name in parts:
            say_overlap(parts["train"], parts[name], name)

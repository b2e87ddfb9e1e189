"""From the files of a task to records that a model can be trained on; what was found is said, and written into the config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuyan.commands.overlap import say_overlap
from yuyan.commands.records import FILE, check_inputs, check_parts, tokenizer_for
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import RunData
from yuyan.console import say, table, warn
from yuyan.corpus.by_length import ByLength
from yuyan.errors import ConfigError, DataError
from yuyan.models.network import NetworkModule
from yuyan.store import publish_folder, remove_leftovers, verify, write_json
from yuyan.tasks import TaskConfig
from yuyan.tasks.base import Pieces, Task
from yuyan.text import DataConfig
from yuyan.text.language import identify
from yuyan.text.split import OrderedSplit, RandomSplit, split_hash, split_random
from yuyan.text.survey import Survey, survey
from yuyan.tokens import Tokenizer

PARTS = ("train", "validation", "test")
ADOPTED = ("text", "label", "lines", "several", "labels", "counts", "words", "tags", "spans", "joint", "scheme")
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
    settings = settings.with_labels(parts["train"])
    tokenizer = tokenizer_for(config, folder, (record.text for record in parts["train"]))
    task = settings.build(tokenizer, config.train.context)
    pieces = task.items(parts["train"])
    if not pieces.items:
        raise DataError(f"{config.data.sources[0]}: no text has a label that can be learned")
    _show(config, task, parts, pieces)
    texts = [record.text for record in parts["train"]]
    language = identify("\n".join(texts[:2000])).code
    return TaskCorpus(
        tokenizer, task, dict(parts), pieces, config.train.batch_rows, "zh" if language.startswith("zh") else "en",
        sum(len(text.encode()) for text in texts),
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


def _parts(config: RunConfig, task: TaskConfig, folder: Path) -> tuple[Any, dict[str, list[Any]]]:
    """The records of each part: from the files, or as the run has written them down."""
    data = config.data
    place = folder / "data" if data.prepared is None else data.prepared
    if (place / FILE).is_file():
        verify(place)
        if data.prepared is None:
            check_inputs(data, place)
    elif data.prepared is not None:
        raise DataError(f"{data.prepared}: no prepared records here (data.prepared)")
    else:
        task = _write_parts(data, task, place)
    names = json.loads((place / FILE).read_text(encoding="utf-8"))["records"]
    found = {name: [task.record(json.loads(line)) for line in _lines(place / f"{name}.jsonl")] for name in names}
    check_parts(folder, place, names)
    return task, found


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def plain_data(data: RunData) -> DataConfig:
    """How files are to be read."""
    return DataConfig(**{key: getattr(data, key) for key in DataConfig.model_fields})


def surveyed(paths: Sequence[Path], data: DataConfig) -> Survey:
    """A look at the files."""
    return survey(list(paths), data.encoding, replace=data.undecodable == "replace")


def _write_parts(data: RunData, task: TaskConfig, place: Path) -> TaskConfig:
    plain, parts, inputs = plain_data(data), dict[str, list[Any]](), dict[str, str]()
    for name, paths in zip(PARTS, (data.sources, data.validation, data.test), strict=True):
        if not paths:
            continue
        files = surveyed(paths, plain)
        if name == "train":
            task = task.found(files, plain)
        say(f"{name}: {', '.join(_named(each) for each in files.sources[:4])}{_columns(task)}")
        parts[name] = task.read(files, plain)
        inputs |= {f"{name}: {each.name}": each.sha256 for each in files.inputs}
        if not parts[name]:
            raise DataError(f"{paths[0]}: no record that can be used")
    if not data.validation:
        parts = _divided(parts, data)
    with publish_folder(place) as temporary:
        for name, records in parts.items():
            lines = (json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in records)
            (temporary / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        write_json(temporary / FILE, {"inputs": inputs, "records": {name: len(part) for name, part in parts.items()}})
    return task


def _named(each: Any) -> str:
    return f"{each.source.name} ({each.source.format}, {each.encoding.name})"


def _columns(task: TaskConfig) -> str:
    found = {key: getattr(task, key, None) for key in ("text", "label", "lines", "words", "tags", "spans", "scheme")}
    said = ", ".join(f"task.{key}={value}" for key, value in found.items() if value is not None)
    return f"; read with {said}" if said else ""


def _divided(parts: dict[str, list[Any]], data: RunData) -> dict[str, list[Any]]:
    """Training records for validation, and for a test where there is none: by a hash of the text, so that the same text
    is never in two parts.
    """
    split, records = data.split, parts["train"]
    if not isinstance(split, RandomSplit):
        kind = "ordered" if isinstance(split, OrderedSplit) else split.kind
        raise ConfigError(
            f"data.split.kind {kind}: the records of a task are divided by random, or give data.validation"
        )
    if "test" in parts:
        split = split.model_copy(update={"test": 0.0})
    texts = list(dict.fromkeys(record.text for record in records))
    hashes = np.array([split_hash(text, split.seed) for text in texts], np.uint64)
    goes = {texts[i]: name for name, part in split_random(hashes, split).items() for i in part.documents.tolist()}
    divided: dict[str, list[Any]] = {}
    for record in records:
        divided.setdefault(goes[record.text], []).append(record)
    return divided | {name: part for name, part in parts.items() if name != "train"}


# ---------------------------------------------------------------- saying


def _show(config: RunConfig, task: Task, parts: dict[str, list[Any]], pieces: Pieces) -> None:
    """Counts by label and part, lengths, contradictions, what stands in training and test."""
    table(f"{config.name}: {task.config.kind}, {len(task.labels)} labels", *task.described(parts))
    cut = f"; {pieces.too_long:,} longer than {config.train.context}: {task.config.too_long}" if pieces.too_long else ""
    say(f"training texts: {len(parts['train']):,}, the longest of {pieces.longest:,} tokens{cut}")
    for line in task.remarks(parts):
        warn(line)
    for name in ("validation", "test"):
        if name in parts:
            say_overlap(parts["train"], parts[name], name)

"""From records with named parts to rows that a model can be trained on: the data of instructions, preferences, searches.

The files are read, checked and divided as texts are; what came of it is kept in the run as JSON lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yuyan.commands.parts import divided, kept_parts, language_of, read_parts, tokenizer_for, write_parts
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import From, RecordsConfig, RunData
from yuyan.console import say, warn
from yuyan.corpus.records import Item, Lengths, Records, fitted
from yuyan.errors import ConfigError, DataError
from yuyan.objectives import Contrastive, Ctc, Distil, Objective, ObjectiveConfig, Preference, PrefixLM
from yuyan.store import remove_leftovers
from yuyan.text import DataConfig
from yuyan.text.read import look_at_parts
from yuyan.text.records import Record, Shape, read_records, to_json_line
from yuyan.text.split import OrderedSplit, RandomSplit
from yuyan.text.survey import survey
from yuyan.tokens import Tokenizer

SHAPES: dict[type, Shape] = {
    PrefixLM: Shape(("prompt", "answer")),
    Preference: Shape(("prompt", "chosen", "rejected")),
    Contrastive: Shape(("query", "document"), lists=("negatives",), filled=("query", "document")),
    Ctc: Shape(("inputs", "labels"), ids=("inputs", "labels"), filled=("inputs",)),
}
"""What a record has for each objective that can learn from records."""
_CALLED = {"document": "positive"}  # as the objective calls it


@dataclass(frozen=True)
class RecordCorpus:
    """Records in two or three parts, as token ids, and what is known about them."""

    tokenizer: Tokenizer
    parts: dict[str, Sequence[Item]]
    language: str
    bytes: int

    def rows(self, split: str, length: int, seed: int, *, whole: bool = True) -> Records | None:
        """The records of a part as rows, if there is such a part."""
        return Records(self.parts[split], length, seed=seed) if split in self.parts else None

    @property
    def tokens(self) -> int:
        """Of the training part."""
        values = [v for item in self.parts["train"] for v in item.values()]
        return sum(len(ids) for value in values for ids in (value if isinstance(value, list) else [value]))

    def describe(self) -> str:
        """What a model card says of the training data."""
        return f"{len(self.parts['train']):,} records ({self.bytes / 1e6:.2f} MB of text)"


def shape_of(objective: ObjectiveConfig) -> Shape:
    """Which parts the records of an objective have. Raises ConfigError for one that learns from texts."""
    asked = objective.base if isinstance(objective, Distil) else objective
    shape = SHAPES.get(type(asked))
    if shape is None:
        kinds = ", ".join(str(kind.model_fields["kind"].default) for kind in SHAPES)  # type: ignore[attr-defined]
        raise ConfigError(f"data.records: objective.kind {asked.kind} learns from texts; from records learn {kinds}")
    return shape


def make_records(config: RunConfig, folder: Path) -> RecordCorpus:
    """Read and divide the records, train or load the tokenizer, check lengths; what is there already is used again.

    Raises DataError, ConfigError, StorageError.
    """
    shape, settings = shape_of(config.objective), config.data.records
    assert settings is not None
    for place in (folder, folder / "tokenizer"):
        remove_leftovers(place)
    parts = _parts(config.data, shape, settings, folder)
    texts = [text for record in parts["train"] for text in texts_of(record)]
    if not texts and not isinstance(config.tokenizer, From):
        raise ConfigError(
            "tokenizer: the records hold ids and no text to train one on; name the one that the ids are of: "
            "tokenizer.kind=from tokenizer.path=FOLDER"
        )
    tokenizer = tokenizer_for(config, folder, texts)
    objective: Objective = config.objective.build(tokenizer)
    fit: dict[str, Sequence[Item]] = {}
    for name, records in parts.items():
        items, lengths = fitted(
            encoded(records, tokenizer), objective.example, config.train.context, settings.too_long, f"data, {name}"
        )
        fit[name] = items
        if isinstance(config.objective, Ctc) and (short := sum(map(unlabelled, items))):
            warn(
                f"{name}: {short:,} of {len(items):,} records have fewer inputs than their labels need; they are not scored"
            )
        _say(name, lengths, config.train.context)
    return RecordCorpus(tokenizer, fit, language_of(texts), sum(len(text.encode()) for text in texts))


def unlabelled(item: Item) -> bool:
    """Whether the labels cannot be written over the inputs: each needs one, and equal neighbours one between them."""
    labels = item["labels"]
    return len(labels) + int((labels[1:] == labels[:-1]).sum()) > len(item["inputs"])


def _say(name: str, lengths: Lengths, context: int) -> None:
    cut = f"; {lengths.too_long:,} were longer than train.context={context} and are cut" if lengths.too_long else ""
    say(f"{name}: {lengths.records:,} records, the longest of {lengths.longest:,} tokens{cut}")


# ---------------------------------------------------------------- reading and dividing


def _parts(data: RunData, shape: Shape, settings: RecordsConfig, folder: Path) -> dict[str, list[Record]]:
    def read(file: Path) -> list[Record]:
        return list(read_records(survey([file]), shape, {}, DataConfig(sources=(file,))))

    return kept_parts(data, folder, lambda place: _write(data, shape, settings, place), read)


def _write(data: RunData, shape: Shape, settings: RecordsConfig, place: Path) -> None:
    files = look_at_parts(data)
    parts = read_parts(files, lambda found: list(read_records(found, shape, settings.fields, data.plain)))
    if not data.validation and not data.test:
        parts = _divided(parts["train"], data)
    if "validation" not in parts:
        raise DataError("data.validation: there are no records to measure on; see data.split and data.validation")
    write_parts(place, files, parts, to_json_line)


def _divided(records: list[Record], data: RunData) -> dict[str, list[Record]]:
    """Each record goes to a part by a hash of what it says; the same record is never in two."""
    split = data.split
    if isinstance(split, OrderedSplit):
        raise ConfigError("data.split.kind: ordered cuts one long text; records are divided by random, or not at all")
    if not isinstance(split, RandomSplit):
        return {"train": records}
    distinct = {to_json_line(record): record for record in records}
    if len(distinct) < len(records):
        say(f"{len(records) - len(distinct):,} records are there twice; each is taken once")
    return divided(list(distinct.values()), to_json_line, split)


# ---------------------------------------------------------------- tokens


def texts_of(record: Record) -> list[str]:
    """All texts of a record."""
    values = [value for part in record.values() for value in (part if isinstance(part, list) else [part])]
    return [value for value in values if isinstance(value, str)]


def encoded(records: Sequence[Record], tokenizer: Tokenizer) -> list[Item]:
    """The records with bare token ids for texts, under the names that objectives use. Raises DataError for other ids."""
    ids = iter(tokenizer.encode_batch([text for record in records for text in texts_of(record)]))

    def as_ids(value: object) -> np.ndarray:
        return np.asarray(next(ids) if isinstance(value, str) else value, dtype=np.int64)

    items: list[Item] = []
    for number, record in enumerate(records, 1):
        item: Item = {}
        for part, value in record.items():
            several = isinstance(value, list) and all(isinstance(each, str) for each in value)
            item[_CALLED.get(part, part)] = [as_ids(each) for each in value] if several else as_ids(value)
            if not several and isinstance(value, list) and max(value) >= len(tokenizer):
                raise DataError(f"record {number}: {part!r}: {max(value)} is not one of the {len(tokenizer)} tokens")
        items.append(item)
    return items

"""The parts of a run's records: read from the files and divided once, kept in the run, and the same when it goes on.

read_parts, divided     from files to parts
write_parts             train.jsonl, validation.jsonl, test.jsonl, records.json
kept_parts              all of it, or what lies there already, after a look whether the files are still the same
stored_parts            what a run keeps, as it is
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from yuyan.commands.made import note, noted
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import From, RunData
from yuyan.errors import DataError
from yuyan.store import publish_folder, verify, write_json
from yuyan.text.language import identify
from yuyan.text.read import look_at_parts
from yuyan.text.split import RandomSplit, split_hash, split_random
from yuyan.text.survey import Survey
from yuyan.tokens import Tokenizer, load_tokenizer, train_tokenizer

FILE = "records.json"
LOOKED_AT = 2000  # texts by which the language is told
R = TypeVar("R")


def kept_parts(
    data: RunData, folder: Path, write: Callable[[Path], None], read: Callable[[Path], list[R]]
) -> dict[str, list[R]]:
    """The records of each part: as the run has written them down, after `write` has done so if nobody had.

    Raises DataError if the files, or the records of another run, are not those that this run began with.
    """
    place = data.prepared or folder / "data"
    if (place / FILE).is_file():
        verify(place)
        if data.prepared is None:
            check_inputs(look_at_parts(data), place, folder)
    elif data.prepared is not None:
        raise DataError(f"{data.prepared}: no prepared records here (data.prepared)")
    else:
        write(place)
    names = _described(place)["records"]
    found = {name: read(place / f"{name}.jsonl") for name in names}
    _check_parts(folder, place, names)
    return found


def stored_parts(place: Path, record: Callable[[dict[str, Any]], R]) -> dict[str, list[R]]:
    """The records of each part that lie in `place`. Raises DataError for a damaged line."""
    return {name: stored_records(place / f"{name}.jsonl", record) for name in _described(place)["records"]}


def stored_records(file: Path, record: Callable[[dict[str, Any]], R]) -> list[R]:
    """The records of a part, each made of what its line holds. Raises DataError for a damaged line."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            found.append(record(json.loads(line)))
        except ValueError as error:
            raise DataError(f"{file}:{number}: damaged: {error}") from None
    return found


def write_parts(
    place: Path, files: Mapping[str, Survey], parts: Mapping[str, Sequence[R]], line: Callable[[R], str]
) -> None:
    """Write the records of each part, a `line` each, and which files they are from. Raises StorageError."""
    with publish_folder(place) as temporary:
        for name, records in parts.items():
            (temporary / f"{name}.jsonl").write_text("".join(map(line, records)), encoding="utf-8")
        counts = {name: len(records) for name, records in parts.items()}
        write_json(temporary / FILE, {"inputs": _inputs(files), "records": counts})


def read_parts(files: Mapping[str, Survey], read: Callable[[Survey], list[R]]) -> dict[str, list[R]]:
    """The records of each part from its files. Raises DataError for a part without any."""
    parts = {name: read(found) for name, found in files.items()}
    for name, records in parts.items():
        if not records:
            raise DataError(f"{files[name].sources[0].source.name}: no record that can be used")
    return parts


def divided(records: Sequence[R], text: Callable[[R], str], split: RandomSplit) -> dict[str, list[R]]:
    """Each record to a part by a hash of its text; those with the same text to the same part. Raises DataError."""
    texts = list(dict.fromkeys(map(text, records)))
    hashes = np.array([split_hash(each, split.seed) for each in texts], np.uint64)
    goes = {texts[i]: name for name, part in split_random(hashes, split).items() for i in part.documents.tolist()}
    parts: dict[str, list[R]] = {name: [] for name in dict.fromkeys(goes.values())}
    for record in records:
        parts[goes[text(record)]].append(record)
    return parts


def language_of(texts: Sequence[str]) -> str:
    """`zh` if the texts are Chinese, else `en`: the language of reports."""
    return "zh" if identify("\n".join(texts[:LOOKED_AT])).code.startswith("zh") else "en"


def tokenizer_for(config: RunConfig, folder: Path, texts: Iterable[str], control: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer that the config names, or one trained on the texts, with more `control` tokens, and kept in the run."""
    if isinstance(config.tokenizer, From):
        return load_tokenizer(config.tokenizer.path)
    place = folder / "tokenizer"
    if not (place / "tokenizer.json").is_file():
        trained = train_tokenizer(texts, config.tokenizer)
        (trained.with_control(control) if control else trained).save(place)
    return load_tokenizer(place)


def _described(place: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((place / FILE).read_text(encoding="utf-8"))
    return described


def _inputs(files: Mapping[str, Survey]) -> dict[str, str]:
    return {f"{part}: {each.name}": each.sha256 for part, found in files.items() for each in found.inputs}


def check_inputs(files: Mapping[str, Survey], place: Path, folder: Path) -> None:
    """What began in `folder` goes on only with the files it began with. Raises DataError."""
    before, now = _described(place)["inputs"], _inputs(files)
    if different := [key for key in sorted(before | now) if before.get(key) != now.get(key)]:
        raise DataError(
            f"{different[0]}: not the records that {folder} began with, so it cannot go on; put them back, or start "
            "anew with another --out"
        )


def _check_parts(folder: Path, place: Path, names: Iterable[str]) -> None:
    """Tokenizer and model belong to these records."""
    files = json.loads((place / "manifest.json").read_text(encoding="utf-8"))["files"]
    text, before = {name: files[f"{name}.jsonl"]["sha256"] for name in names}, noted(folder).get("text")
    if before is None:
        note(folder, text=text)
    elif before != text:
        raise DataError(f"{place}: not the records that {folder} began with; start anew with another --out")

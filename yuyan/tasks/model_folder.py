"""What the folder of a model says beside its weights: where it is, how far back it looks, what its decoder begins with,
and what other programs put a text between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yuyan.errors import CheckpointCorrupt, InputError
from yuyan.hub.files import read_json
from yuyan.hub.sentence import Sentence
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.models.presets import longest_text
from yuyan.tasks import AnyTask, Converse
from yuyan.tasks.writing import why_silent
from yuyan.tokens import Tokenizer

CONTEXT_FILE = "yuyan.json"
CONFIG_FILES = ("generation_config.json", "config.json")


def model_folder(path: Path) -> Path:
    """The folder with the weights: `path`, or `path/model` of a run. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such model; give a model folder, a run, or a rung of a ladder")
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "rungs").is_dir():
        names = ", ".join(sorted(p.name for p in (path / "rungs").iterdir() if p.is_dir()))
        raise InputError(f"{path}: a ladder holds several models; give {path}/rungs/NAME, with NAME one of {names}")
    if (path / "snapshots").is_dir():
        names = ", ".join(sorted(p.name for p in (path / "snapshots").iterdir()))
        raise InputError(
            f"{path}: a hub's cache holds snapshots; give {path}/snapshots/REVISION, with REVISION one of {names}"
        )
    raise InputError(f"{path}: no model here: there is neither a config.json nor a model/config.json")


def is_ngram(folder: Path) -> bool:
    """Whether the folder holds an n-gram model. Raises DataError if its config.json is not a JSON object."""
    architecture = read_json(folder / "config.json").get("architecture")
    return isinstance(architecture, dict) and architecture.get("kind") == "ngram"


def stored_context(folder: Path, network: NetworkModule | NGram) -> int | None:
    """How far back the model was trained to look: from our file, else from the published config. It is never farther than
    the network has positions: a published RoBERTa counts two rows of its table that stand for none.
    """
    if isinstance(network, NGram):
        return None
    lengths = (_said_context(folder), longest_text(network.config))
    return min((length for length in lengths if length is not None), default=None)


def _said_context(folder: Path) -> int | None:
    ours = folder / CONTEXT_FILE
    if ours.is_file():
        try:
            stored = json.loads(ours.read_text(encoding="utf-8"))["context"]
            return None if stored is None else int(stored)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointCorrupt(ours, 'a mapping with "context"', "something else") from None
    config = read_json(folder / "config.json")
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def stored_start(folder: Path) -> int | None:
    """The token that a decoder with an encoder begins with, if the folder says."""
    found = said_in(folder, "decoder_start_token_id", CONTEXT_FILE, *CONFIG_FILES)
    return next((start for start in found if isinstance(start, int)), None)


def said_in(folder: Path, key: str, *names: str) -> Iterator[Any]:
    """What the files of these names say under a key, one after the other."""
    return (read_json(folder / name).get(key) for name in names if (folder / name).is_file())


def framed(
    tokenizer: Tokenizer, network: NetworkModule | NGram, task: AnyTask | None, sentence: Sentence | None
) -> Tokenizer:
    """The tokenizer whose file says what the model reads a text between: a task all of its frame, a decoder that goes on
    with a text the begin mark alone.
    """
    if isinstance(network, NGram) or isinstance(task, Converse):  # a chat template frames by itself
        return tokenizer
    if task is not None:
        return tokenizer.with_frame(segments=network.config.embedding.type_vocab_size > 1)
    goes_on = network.encoder is None and why_silent(network.config) is None and sentence is None
    return tokenizer.with_begin() if goes_on else tokenizer

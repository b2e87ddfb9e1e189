"""Tensors on disk: safetensors, whole or in shards with an index; old pickles through PyTorch's weights-only reader.

Nothing is taken on trust: a file must lie in the folder itself, be no link out of it, and be whole; what it promises is known
from its header before anything is read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from yuyan import console
from yuyan.errors import CheckpointCorrupt, DataError
from yuyan.hub.links import refuse_link
from yuyan.store import storage_errors, write_atomically, write_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OLD_WEIGHTS, OLD_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SHARD_BYTES = 5 << 30
HEADER_BYTES = 100_000_000  # the most that a header may have by its format


class Stored(NamedTuple):
    """A tensor in a file, not read yet."""

    file: Path
    shape: tuple[int, ...]


class Weights:
    """The tensors of a folder, read one at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stored: dict[str, Stored] = {}
        self._pickled: dict[str, Tensor] = {}
        for name in (WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX):
            if path := self._path(name):
                self._read_index(path) if name in (INDEX, OLD_INDEX) else self._open(path)
                return
        raise DataError(f"{folder}: no weights: there is neither {WEIGHTS} nor {OLD_WEIGHTS}")

    @property
    def elements(self) -> int:
        """How many numbers the files hold."""
        return sum(torch.Size(stored.shape).numel() for stored in self.stored.values())

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Each name with its tensor. Raises CheckpointCorrupt."""
        yield from self._pickled.items()
        files = sorted({stored.file for name, stored in self.stored.items() if name not in self._pickled})
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in list(opened.keys()):
                        if name in self.stored:
                            yield name, opened.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise CheckpointCorrupt(file, "whole safetensors", str(error)) from None

    def _path(self, name: str) -> Path | None:
        """A file of the folder, if it is there. Raises DataError for a link that leads out of it."""
        path = self.folder / name
        refuse_link(path)
        return path if path.is_file() else None

    def _read_index(self, index: Path) -> None:
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            entries = {str(name): str(file) for name, file in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CheckpointCorrupt(index, "a JSON text with a weight_map", "something else") from None
        for file in sorted(set(entries.values())):
            if not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", file):
                raise DataError(f"{index}: {file!r} is not the name of a weight file in this folder")
            path = self._path(file)
            if path is None:
                raise DataError(f"{index}: names {file}, which is not there; fetch the whole folder")
            self._open(path)
        for name, file in entries.items():
            if name not in self.stored or self.stored[name].file.name != file:
                raise CheckpointCorrupt(self.folder / file, f"the tensor {name}", "no such tensor")
        if extra := sorted(set(self.stored) - set(entries)):
            raise DataError(f"{index}: does not list {extra[0]}, which is in {self.stored[extra[0]].file.name}")

    def _open(self, file: Path) -> None:
        if file.suffix == ".bin":
            self._unpickle(file)
            return
        try:
            with safe_open(file, framework="pt") as opened:
                for name in list(opened.keys()):
                    self._add(name, file, tuple(opened.get_slice(name).get_shape()))
        except (SafetensorError, OSError) as error:
            raise CheckpointCorrupt(file, "whole safetensors", str(error)) from None
        refuse_repeated_names(file)

    def _unpickle(self, file: Path) -> None:
        console.say(
            f"note: {file.name} is a pickle; read with PyTorch's weights-only reader, which runs no code from it"
        )
        try:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the reader's refusals have no common type
            raise CheckpointCorrupt(file, "a pickle of tensors alone", str(error).splitlines()[0]) from None
        if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
            raise CheckpointCorrupt(file, "a pickle of named tensors", type(tensors).__name__)
        for name, tensor in tensors.items():
            self._add(str(name), file, tuple(tensor.shape))
            self._pickled[str(name)] = tensor

    def _add(self, name: str, file: Path, shape: tuple[int, ...]) -> None:
        if name in self.stored:
            raise DataError(f"{file}: the tensor {name} is also in {self.stored[name].file.name}")
        self.stored[name] = Stored(file, shape)


def refuse_repeated_names(file: Path) -> None:
    """Raise CheckpointCorrupt if a safetensors header says one name twice, of which its library takes the last."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = opened.read(min(size, HEADER_BYTES))
        json.loads(header, object_pairs_hook=_each_once)
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointCorrupt(file, "whole safetensors", f"a header that cannot be read ({error})") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or shards of at most `shard_bytes` with an index. Raises StorageError."""
    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and size > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor.detach().cpu().contiguous()
        room -= size
    if len(shards) == 1:
        _write(folder / WEIGHTS, shards[0])
        _remove_others(folder, [WEIGHTS])
        return
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write(folder / name, shard)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    placed = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    index: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": placed}
    write_json(folder / INDEX, index)
    _remove_others(folder, [INDEX, *names])


def _remove_others(folder: Path, kept: list[str]) -> None:
    """Remove the weights of a model that was in the folder before, which a reader might take for this one's."""
    with storage_errors(folder):
        for path in (folder / WEIGHTS, folder / INDEX, *folder.glob("model-?????-of-?????.safetensors")):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with write_atomically(path) as temporary:
        save_file(tensors, os.fspath(temporary), metadata={"format": "pt"})

"""A state on disk: one folder with a manifest, its tensors in safetensors, its counters in JSON.

    weights.safetensors optimizer.safetensors state.json       written by one process, from whole tensors
    shard-00001-....safetensors ... state.json                 written by several, each its own parts of the tensors

The parts are written and read by `torch.distributed.checkpoint`, which puts together what the reader asks for, however
many processes wrote it; its safetensors form is used because it holds nothing but tensors. Either form can be read into
either kind of weights. Saving is done from a copy, in a thread of its own, so that no step waits for a disk.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuyan.console import warn
from yuyan.errors import CheckpointCorrupt, StorageError
from yuyan.store import publish_folder, storage_errors
from yuyan.train.world import Processes, World

WEIGHTS, OPTIMIZER, COUNTERS = "weights.safetensors", "optimizer.safetensors", "state.json"
DONE, FAILED = 0, -1  # what the first process tells the others
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class Snapshot(NamedTuple):
    """All that there is to save: tensors by name, which nobody changes any more, and counters."""

    weights: dict[str, Tensor]
    memory: dict[str, Tensor]
    counters: dict[str, Any]

    def write(self, folder: Path, world: World, *, sharded: bool) -> None:
        """Write everything to `folder`, whole or not at all. Raises StorageError.

        Of replicated weights the first process writes, of sharded ones all do, each its own.
        """
        if sharded and isinstance(world, Processes):
            _write_parts(folder, self, world)
        elif world.rank == 0:
            with publish_folder(folder) as temporary:
                save_file(self.weights, temporary / WEIGHTS)
                save_file(self.memory, temporary / OPTIMIZER)
                _write_counters(temporary, self.counters)


class Saver:
    """Writes in a thread of its own, one thing after the other. What failed is raised at the next call.

    `patience` in seconds: how long `close` waits for what is under way, which of several processes one may never end.
    """

    def __init__(self, patience: float | None = None) -> None:
        self.patience = patience
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Have `write` done, after what is being written has been. Raises what that raised."""
        self.finish()
        self._thread = Thread(target=self._work, args=(write,), name="saving", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the last write raised, if it is over."""
        if not self.busy:
            self.finish()

    def finish(self) -> None:
        """Wait until all is written. Raises what that raised, once."""
        if self._thread is not None:
            self._thread.join()
        self._thread, failure, self._failure = None, self._failure, None
        if failure is not None:
            raise failure

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Wait for what is under way, as long as there is patience. A failure that nobody has asked for is said."""
        if self._thread is not None:
            self._thread.join(self.patience)
        if isinstance(self._failure, StorageError):
            warn(str(self._failure))
        self._thread = self._failure = None

    def _work(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._failure = error


# ---------------------------------------------------------------- reading


def counters_of(folder: Path) -> dict[str, Any]:
    """The counters of a saved state. Raises CheckpointCorrupt."""
    try:
        counters = json.loads((folder / COUNTERS).read_text(encoding="utf-8"))
        int(counters["step"]), int(counters["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointCorrupt(folder / COUNTERS, "the counters of a run", "something else") from None
    return dict(counters)


def shapes_of(folder: Path) -> dict[str, torch.Size]:
    """The shape of every tensor of a saved state, without reading one."""
    return {name: shape for name, (shape, _) in _described(folder).items()}


def read_into(folder: Path, wanted: Mapping[str, Tensor]) -> None:
    """Fill the tensors, whole or parts, with what is stored under their names."""
    if not wanted:
        return
    if all(type(tensor) is Tensor for tensor in wanted.values()) and (folder / WEIGHTS).exists():
        stored = load_file(folder / WEIGHTS) | load_file(folder / OPTIMIZER)
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])
        return
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    parts = any(type(tensor) is not Tensor for tensor in wanted.values())
    with _quietly():
        load(dict(wanted), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not parts)


def empty_for(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For every stored `name/key` a tensor to read it into: shared out as `like[name]` is, where it has its shape."""
    found = {}
    for name, (shape, dtype) in _described(folder).items():
        owner = like.get(name.removeprefix("average/") if name.startswith("average/") else name.rpartition("/")[0])
        if owner is not None and owner.shape == shape:
            found[name] = torch.empty_like(owner, dtype=dtype)
        elif name not in like:
            found[name] = torch.empty(shape, dtype=dtype)
    return found


def _described(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of every stored tensor."""
    found = {}
    if (folder / WEIGHTS).exists():
        for file in (folder / WEIGHTS, folder / OPTIMIZER):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (it is no mapping)
                    part = tensors.get_slice(name)
                    found[name] = (torch.Size(part.get_shape()), DTYPES[part.get_dtype()])
        return found
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    for name, described in HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata.items():
        assert isinstance(described, TensorStorageMetadata)
        found[name] = (described.size, described.properties.dtype)
    return found


# ---------------------------------------------------------------- writing parts


def _write_parts(folder: Path, snapshot: Snapshot, world: Processes) -> None:
    """All or none of the processes come back from here without an error."""
    if world.rank:
        number = _told(world)
        if number != FAILED:
            _parts(folder.with_name(f"{folder.name}.tmp-{number}"), snapshot, world)
            number = _told(world)
        if number == FAILED:
            raise StorageError(f"{folder}: rank 0 could not write here")
        return
    word: int | None = FAILED  # what the others wait to hear, if they wait
    try:
        with publish_folder(folder) as temporary:
            word = None
            _told(world, int(temporary.name.rpartition("-")[2]))
            _parts(temporary, snapshot, world)
            word = FAILED
            _write_counters(temporary, snapshot.counters)
        word = DONE
    finally:
        if word is not None:
            _told(world, word)


def _told(world: Processes, number: int = DONE) -> int:
    """What rank 0 says, in the group that belongs to the saving threads."""
    tensor = torch.tensor(number)
    dist.broadcast(tensor, src=0, group=world.background)
    return int(tensor)


def _parts(place: Path, snapshot: Snapshot, world: Processes) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(place), save_distributed=True)
    try:
        with _quietly():
            save(snapshot.weights | snapshot.memory, storage_writer=writer, process_group=world.background)
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        with storage_errors(place / f"part of rank {rank}"):
            raise cause from None


def _write_counters(place: Path, counters: dict[str, Any]) -> None:
    (place / COUNTERS).write_text(json.dumps(counters, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the remark that one process reads by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

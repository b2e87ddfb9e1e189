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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuyan.errors import CheckpointCorrupt, StorageError
from yuyan.store import publish_folder
from yuyan.train.world import Processes, World

WEIGHTS, OPTIMIZER, COUNTERS = "weights.safetensors", "optimizer.safetensors", "state.json"
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
    """Writes in a thread of its own, one thing after the other. What failed is raised at the next call."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Have `write` done, after what is being written has been. Raises what that raised."""
        self.finish()
        self._pool = self._pool or ThreadPoolExecutor(1, "saving")
        self._pending = self._pool.submit(write)

    def check(self) -> None:
        """Raise what the last write raised, if it is over."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait until all is written. Raises what that raised, once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._pending is not None and not self._pending.done()

    def close(self) -> None:
        """Wait, whatever came of it, and end the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._pool = self._pending = None


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
    if world.rank:
        number = _told(world, 0)
        if number < 0:
            raise StorageError(f"{folder}: rank 0 could not write here")
        _parts(folder.with_name(f"{folder.name}.tmp-{number}"), snapshot, world)
        return
    told = False
    try:
        with publish_folder(folder) as temporary:
            _told(world, int(temporary.name.rpartition("-")[2]))
            told = True
            _parts(temporary, snapshot, world)
            _write_counters(temporary, snapshot.counters)
    finally:
        if not told:
            _told(world, -1)


def _told(world: Processes, number: int) -> int:
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
        raise StorageError(f"{place.name.partition('.')[0]}: rank {rank} could not write its part: {cause}") from error


def _write_counters(place: Path, counters: dict[str, Any]) -> None:
    (place / COUNTERS).write_text(json.dumps(counters, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the remark that one process reads by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

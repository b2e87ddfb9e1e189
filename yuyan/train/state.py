"""All that has to be saved for a run to go on as if it had never stopped.

Weights (float32), their average if there is one, the optimizer's memory, a state that is carried from update to update, the position in the data, the random states, and the counters. It is stored as
safetensors and JSON in one folder with a manifest, so a damaged file is found before a single number of it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from yuyan.errors import InputError
from yuyan.nn.cache import Carried
from yuyan.store import verify
from yuyan.train.average import Average
from yuyan.train.checkpoint import Snapshot, counters_of, empty_for, read_into, shapes_of
from yuyan.train.device import CPU, random_states, take_random_state
from yuyan.train.learner import Learner
from yuyan.train.precision import MasterWeights
from yuyan.train.world import World

AVERAGE, CARRIED = "average/", "carried/"


class Resumable(Protocol):
    """Data that knows where it is: `yuyan.corpus.Batches`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class State:
    """A run in progress. `step` counts updates, `tokens` labels scored, `seconds` time spent in all sessions."""

    learner: Learner
    weights: MasterWeights
    optimizer: torch.optim.Optimizer
    batches: Resumable
    average: Average | None = None
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    streak: int = 0
    """Steps in a row, up to now, that were skipped."""
    best: dict[str, Any] = field(default_factory=dict)
    carried: Carried | None = None
    """What a recurrent network takes along from one update to the next."""
    world: World = field(default_factory=World)

    def snapshot(self, *, copy: bool = True) -> Snapshot:
        """All that has to be saved; with `copy` it stays as it is now. All processes have to ask."""
        memory = self._optimizer_tensors() | self._random_tensors()
        if self.average is not None:
            memory |= {AVERAGE + name: tensor for name, tensor in self.average.tensors.items()}
        if self.carried is not None and self.carried.state is not None:
            memory |= {f"{CARRIED}{i}": part.contiguous() for i, part in enumerate(self.carried.state)}
        weights = {name: p.detach() for name, p in self.weights.masters.items()}
        where = None if self.weights.sharded else CPU  # parts stay where they are
        weights, memory = ({name: t.to(where, copy=copy) for name, t in each.items()} for each in (weights, memory))
        return Snapshot(weights, memory, self._counters())

    def save(self, folder: Path) -> None:
        """Write everything to `folder`, whole or not at all. Raises StorageError."""
        self.snapshot(copy=False).write(folder, self.world, sharded=self.weights.sharded)

    def load(self, folder: Path) -> None:
        """Take everything from `folder`. Raises CheckpointCorrupt, or InputError when it belongs to another model."""
        verify(folder)
        self.load_weights(folder)
        masters = self.weights.masters
        memory = empty_for(folder, {name: master.detach() for name, master in masters.items()})
        read_into(folder, memory)
        for name, master in masters.items():
            prefix = f"{name}/"
            self.optimizer.state[master] = {
                key.removeprefix(prefix): tensor.to(master.device) if tensor.ndim else tensor  # counts stay with the processor
                for key, tensor in memory.items() if key.startswith(prefix)
            }  # fmt: skip
        if self.average is not None:
            self.average.tensors = self._averaged(folder, memory)
        counters = counters_of(folder)
        self.step, self.tokens, self.seconds = counters["step"], counters["tokens"], counters["seconds"]
        self.skipped, self.best, self.streak = counters["skipped"], counters["best"], counters.get("streak", 0)
        self.batches.load_state_dict(counters["batches"])
        if self.carried is not None:
            parts = sorted((key, part) for key, part in memory.items() if key.startswith(CARRIED))
            self.carried.state = tuple(part.to(self.world.device) for _, part in parts) or None
            self.carried.seen = int(counters["batches"]["rows"])
        self._take_random_state(memory)

    def load_weights(self, folder: Path) -> None:
        """Only the weights. Raises InputError when names or shapes differ from the model's."""
        masters = self.weights.masters
        self._check_names(folder, {name: shape for name, shape in shapes_of(folder).items() if "/" not in name})
        read_into(folder, {name: master.detach() for name, master in masters.items()})
        self.weights.publish()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, the model computes with the weights that are measured and exported: the average, if there is one."""
        if self.average is None:
            yield
            return
        with self.weights.replaced(self.average.tensors):
            yield

    def exported(self) -> dict[str, Tensor]:
        """Those weights by name, in float32; where processes have parts of them, parts."""
        return dict(self.weights.masters) if self.average is None else self.average.tensors

    def _averaged(self, folder: Path, memory: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {k.removeprefix(AVERAGE): tensor for k, tensor in memory.items() if k.startswith(AVERAGE)}
        if not found:
            raise InputError(f"{folder}: the run was saved without an average of its weights (train.average)")
        self._check_names(folder, {name: tensor.shape for name, tensor in found.items()})
        return found

    def _check_names(self, folder: Path, shapes: dict[str, torch.Size]) -> None:
        """Raises InputError unless tensors of these shapes are named and shaped like the weights."""
        masters = self.weights.masters
        if wrong := sorted(shapes.keys() ^ masters.keys()):
            raise InputError(f"{folder}: belongs to another model: {wrong[0]} is in only one of the two")
        for name, shape in shapes.items():
            if shape != masters[name].shape:
                raise InputError(
                    f"{folder}: belongs to another model: {name} is {tuple(shape)}, here {tuple(masters[name].shape)}"
                )

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {id(master): name for name, master in self.weights.masters.items()}
        return {
            f"{names[id(parameter)]}/{key}": value.contiguous()
            for parameter, memory in self.optimizer.state.items()
            for key, value in memory.items()
        }

    def _counters(self) -> dict[str, Any]:
        return {
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "skipped": self.skipped, "streak": self.streak,
            "best": dict(self.best), "threads": torch.get_num_threads(), "processes": self.world.size,
            "batches": self.batches.state_dict(),
        }  # fmt: skip

    def _random_tensors(self) -> dict[str, Tensor]:
        """The random states of every process: `random/cpu` of the first, `random/cpu/1` of the next."""
        return {
            f"random/{kind}" + (f"/{rank}" if rank else ""): found
            for kind, mine in random_states(self.world.device).items()
            for rank, found in enumerate(self.world.gather(mine))
        }

    def _take_random_state(self, memory: dict[str, Tensor]) -> None:
        """As this process had it; a process that was not there begins with one of its own."""
        rank, device = self.world.rank, self.world.device
        torch.manual_seed(self.step * self.world.size + rank)
        for kind in random_states(device):
            mine = memory.get(f"random/{kind}" + (f"/{rank}" if rank else ""))
            if mine is not None:
                take_random_state(device, kind, mine)


def stored_threads(folder: Path, world: World) -> int | None:
    """With how many threads the saved run computed: another number changes the order of sums on a CPU.

    None if it was another number of processes, whose sums have another order anyway.
    """
    counters = counters_of(folder)
    return int(counters["threads"]) if counters.get("processes", 1) == world.size else None

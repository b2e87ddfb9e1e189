"""All that has to be saved for a run to go on as if it had never stopped.

Weights (float32), their average if there is one, the optimizer's memory, the position in the data, the random states, and the counters. It is stored as
safetensors and JSON in one folder with a manifest, so a damaged file is found before a single number of it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuyan.errors import CheckpointCorrupt, InputError
from yuyan.store import publish_folder, verify
from yuyan.train.average import Average
from yuyan.train.learner import Learner
from yuyan.train.precision import MasterWeights


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
    best: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write everything to `folder`, whole or not at all. Raises StorageError."""
        with publish_folder(folder) as temporary:
            save_file({name: p.detach() for name, p in self.weights.masters.items()}, temporary / "weights.safetensors")
            save_file(self._optimizer_tensors() | _random_tensors(), temporary / "optimizer.safetensors")
            if self.average is not None:
                save_file(self.average.tensors, temporary / "average.safetensors")
            (temporary / "state.json").write_text(json.dumps(self._counters(), indent=1) + "\n")

    def load(self, folder: Path) -> None:
        """Take everything from `folder`. Raises CheckpointCorrupt, or InputError when it belongs to another model."""
        verify(folder)
        self.load_weights(folder)
        tensors = load_file(folder / "optimizer.safetensors")
        for name, master in self.weights.masters.items():
            prefix = f"{name}/"
            self.optimizer.state[master] = {
                key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)
            }
        if self.average is not None:
            self.average.tensors = self._matching(folder / "average.safetensors")
        torch.set_rng_state(tensors["random/cpu"])
        counters = json.loads((folder / "state.json").read_text())
        self.step, self.tokens, self.seconds = counters["step"], counters["tokens"], counters["seconds"]
        self.skipped, self.best = counters["skipped"], counters["best"]
        self.batches.load_state_dict(counters["batches"])

    def load_weights(self, folder: Path) -> None:
        """Only the weights. Raises InputError when names or shapes differ from the model's."""
        tensors, masters = self._matching(folder / "weights.safetensors"), self.weights.masters
        with torch.no_grad():
            for name, tensor in tensors.items():
                masters[name].copy_(tensor)
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
        """Those weights by name, in float32."""
        return dict(self.weights.masters) if self.average is None else self.average.tensors

    def _matching(self, file: Path) -> dict[str, Tensor]:
        """Tensors that are named and shaped like the weights. Raises InputError."""
        if not file.exists():
            raise InputError(f"{file}: not there; the run was saved without it (train.ema)")
        tensors, masters, folder = load_file(file), self.weights.masters, file.parent
        if wrong := sorted(tensors.keys() ^ masters.keys()):
            raise InputError(f"{folder}: belongs to another model: {wrong[0]} is in only one of the two")
        for name, tensor in tensors.items():
            if tensor.shape != masters[name].shape:
                raise InputError(
                    f"{folder}: belongs to another model: {name} is {tuple(tensor.shape)}, here {tuple(masters[name].shape)}"
                )
        return tensors

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {id(master): name for name, master in self.weights.masters.items()}
        return {
            f"{names[id(parameter)]}/{key}": value.contiguous()
            for parameter, memory in self.optimizer.state.items()
            for key, value in memory.items()
        }

    def _counters(self) -> dict[str, Any]:
        return {
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "skipped": self.skipped,
            "best": self.best, "threads": torch.get_num_threads(), "batches": self.batches.state_dict(),
        }  # fmt: skip


def stored_threads(folder: Path) -> int:
    """With how many threads the saved run computed: another number changes the order of sums on a CPU."""
    try:
        return int(json.loads((folder / "state.json").read_text())["threads"])
    except (OSError, ValueError, KeyError):
        raise CheckpointCorrupt(folder / "state.json", "the counters of a run", "something else") from None


def _random_tensors() -> dict[str, Tensor]:
    return {"random/cpu": torch.get_rng_state()}

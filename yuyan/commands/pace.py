"""Which share of the processor's speed a run reaches, step by step.

Model FLOPs utilisation (Chowdhery et al. 2022, section 4.1): operations that the loss and its gradients need, over those
that the processor could have done in that time, as a product of two large matrices shows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yuyan.commands.made import note, noted
from yuyan.commands.run import RunConfig
from yuyan.commands.work import Work, passes_of
from yuyan.config import Config
from yuyan.corpus import Batches
from yuyan.models.cost import flops_per_pair, flops_per_token
from yuyan.models.network import Network, NetworkModule
from yuyan.models.pair import Pair
from yuyan.objectives import ReplacedToken
from yuyan.train import Update
from yuyan.train.device import CPU, name_of, wait_for
from yuyan.train.room import human_size, used_memory

SIZE, SIZE_ON_GPU = 1024, 8192
"""Of the square matrices whose product says what the processor can do."""
SECONDS = 0.3
WAIT_SHARE = 0.05


class Operations(Config):
    """Of one token in training, forward and backward."""

    read: float
    """Of each token that is read."""
    scored: float
    """Of each that is scored, in addition."""


def operations(model: nn.Module, config: RunConfig, batches: Batches) -> Operations | None:
    """None where a row does not say how much is done: records of any length, whose batches are looked at (`work.py`).

    Of a pair both count: a companion that is trained in full, one that is frozen for its forward pass.
    """
    if config.data.records is not None or config.task is not None:
        return None
    if isinstance(model, NetworkModule):
        return _of_network(model.config, batches, passes_of(model))
    if not isinstance(model, Pair):
        return None
    mine = _of_network(model.model.config, batches, passes_of(model.model))
    other = _of_network(model.companion.config, batches, passes_of(model.companion))
    if mine is None or other is None:
        return None
    share = config.objective.rate if isinstance(config.objective, ReplacedToken) else 1.0
    return Operations(read=mine.read + other.read, scored=mine.scored + share * other.scored)


def _of_network(network: Network, batches: Batches, passes: float) -> Operations | None:
    """Of a forward pass, so many times; None for two sides that are not given a text each."""
    length = batches.rows.length
    whole = flops_per_token(network, length)
    read: float = flops_per_token(network.model_copy(update={"head": None}), length)
    scored = whole - read
    if network.encoder is not None and network.decoder is not None:
        row = batches.sample(1)
        if "decoder_input_ids" not in row:
            return None
        source, target = (row[key].shape[1] for key in ("input_ids", "decoder_input_ids"))
        read = flops_per_pair(network, source, target) / length
    return Operations(read=passes * read, scored=passes * scored)


def machine_speed(folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> float:
    """Operations a second of a product of large matrices with the threads that are set: measured once a run, and noted."""
    kind = {"dtype": str(dtype).removeprefix("torch."), "threads": torch.get_num_threads(), "device": name_of(device)}
    found = noted(folder).get("matrix_products", {})
    if all(found.get(key) == value for key, value in kind.items()):
        return float(found["operations_a_second"])
    size = SIZE if device == CPU else SIZE_ON_GPU
    speed = product_speed((size, size, size), dtype, device)
    note(folder, matrix_products={**kind, "operations_a_second": round(speed)})
    return speed


def product_speed(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a product of matrices (M, K) and (K, N), `shape` being M, K, N: at best, so that what else the
    machine does changes little."""
    rows, inner, columns = shape
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(inner, columns, dtype=dtype, device=device)
    started, least = time.monotonic(), float("inf")
    while time.monotonic() - started < SECONDS:
        begun = time.perf_counter()
        left @ right
        wait_for(device)
        least = min(least, time.perf_counter() - begun)
    return 2 * rows * inner * columns / least


@dataclass
class Pace:
    """How fast the steps are, without what is done between them. Call `resume` after that."""

    operations: Operations | None
    speed: float
    """Operations a second that all processes could do."""
    batches: Batches
    works: list[Work] | None = None
    """What counts the operations of batches of records, where `operations` is None."""
    processes: int = 1
    device: torch.device = CPU
    utilisation: float | None = None
    resumed: float = 0.0
    waited: float = 0.0

    def resume(self) -> None:
        """The next step begins."""
        self.resumed, self.waited = time.monotonic(), self.batches.waited

    def record(self, update: Update) -> dict[str, Any]:
        """For the log: seconds of this step, of which so many it waited for data; share of the processor's speed; bytes."""
        seconds, waited = time.monotonic() - self.resumed, self.batches.waited - self.waited
        done = self._done(update)
        self.utilisation = None if done is None else done / max(seconds, 1e-9) / self.speed
        return {
            "step_seconds": round(seconds, 5), "waited": round(waited, 5), "memory": used_memory(device=self.device),
            "mfu": None if self.utilisation is None else round(self.utilisation, 4),
        }  # fmt: skip

    def _done(self, update: Update) -> float | None:
        """Operations of the update; of records those of this process's part, as if the others had as much to do."""
        if self.operations is not None:
            rows = self.batches.batch_rows * self.batches.rows.length
            return self.operations.read * rows + self.operations.scored * update.count
        parts = [work.of(batch) for work in self.works or () for batch in self.batches.handed]
        known = [part for part in parts if part is not None]
        return sum(known) * self.processes if known and len(known) == len(parts) else None

    def line(self, took: dict[str, Any]) -> str:
        """For the progress line, from what `record` gave; it says when the data are too slow."""
        step_seconds, waited = took["step_seconds"], took["waited"]
        used, parts = took["memory"], list[str]()
        if self.utilisation is not None:
            parts.append(f"{self.utilisation:.0%} of peak")
        if used is not None:
            parts.append(human_size(used))
        if waited > WAIT_SHARE * step_seconds:
            parts.append(f"{waited / step_seconds:.0%} waiting for data")
        return "".join(f"  {part}" for part in parts)

"""The processes that train together: which one this is, what they tell each other, and who is missing when one falls silent.

`torchrun` starts the processes and says to each, in its environment, who it is; a process started by hand is alone, and
for it all that follows is free. When a process dies or hangs, the others notice at the next thing they want to do
together, sign a list, wait a moment for the signatures of the rest, and name those that did not come.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from yuyan.errors import YuyanError
from yuyan.train.device import CPU

GRACE = 10.0
"""Seconds that processes which stopped wait for the others to say so."""
SAVING = timedelta(minutes=30)
"""How long the slowest disk may take."""
BROKEN = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket")
OWN, LOST = "own: ", "lost: "


class ProcessLost(YuyanError):
    """Another process died, hangs, or stopped with an error of its own; the message names it."""


class World:
    """This process by itself, and the interface of several."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1

    def __init__(self, device: torch.device = CPU):
        self.device = device

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, in float64."""
        return list(values)

    def first(self, values: Sequence[float]) -> list[float]:
        """What the first process has."""
        return list(values)

    def add(self, tensor: Tensor) -> Tensor:
        """`tensor`, of the same shape everywhere, becomes its sum over the processes, in place."""
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors, of one shape, of all processes in the order of their ranks."""
        return [tensor]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around work that is done together: whoever is missed is named, in a ProcessLost."""
        yield

    def close(self) -> None:
        """Nothing more will be done together."""


class Processes(World):
    """Several processes, in the group that `torchrun` described. `timeout` in seconds: how long to wait for one.

    `background` is a group of the same processes for threads that save: theirs and the steps' messages never mix.
    """

    def __init__(self, *, timeout: float, device: torch.device = CPU):
        super().__init__(device)
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(self.size)))
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        wait = timedelta(seconds=timeout)
        meeting = dist.rendezvous("env://", timeout=max(wait, timedelta(minutes=5)))  # type: ignore[attr-defined]
        store, _, _ = next(iter(meeting))
        # torchrun's store outlives a restart: without this the new processes would look for the old ones
        self._store = dist.PrefixStore(f"yuyan/{restarts()}", store)  # type: ignore[attr-defined]
        self._grace = min(GRACE, timeout)
        self._store.set(f"yuyan/who/{self.rank}", f"{os.getpid()} {socket.gethostname()}")
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", self._store),  # type: ignore[attr-defined]
            rank=self.rank, world_size=self.size, timeout=wait,
        )  # fmt: skip

        self.background = dist.new_group(backend="gloo", timeout=max(wait, SAVING))

    def sum(self, values: Sequence[float]) -> list[float]:
        return [float(value) for value in self.add(torch.tensor(values, dtype=torch.float64))]

    def first(self, values: Sequence[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, src=0)
        return [float(value) for value in tensor]

    def add(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor.contiguous())
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except ProcessLost:
            raise  # signed before
        except RuntimeError as error:
            if not _broken(error):
                self._sign(OWN + _line(error))
                raise
            raise ProcessLost(self._who_is_missing()) from error
        except BaseException as error:
            self._sign(OWN + (_line(error) or type(error).__name__))
            raise

    def close(self) -> None:
        with suppress(RuntimeError):
            dist.destroy_process_group()

    # ------------------------------------------------------------ who is missing

    def _sign(self, message: str) -> None:
        with suppress(RuntimeError):  # the list itself may be lost, with the machine that kept it
            self._store.set(f"yuyan/signed/{self.rank}", message)

    def _who_is_missing(self) -> str:
        """One line about those that stopped by themselves, else about those that did not sign."""
        self._sign(LOST)
        until, signed = time.monotonic() + self._grace, {self.rank: LOST}
        try:
            while time.monotonic() < until and len(signed) < self.size:
                for rank in set(range(self.size)) - signed.keys():
                    if self._store.check([f"yuyan/signed/{rank}"]):
                        signed[rank] = self._store.get(f"yuyan/signed/{rank}").decode()
                if any(message.startswith(OWN) for message in signed.values()):
                    break
                time.sleep(0.05)
            told = [f"rank {rank} stopped: {m.removeprefix(OWN)}" for rank, m in signed.items() if m.startswith(OWN)]
            silent = [self._silent(rank) for rank in sorted(set(range(self.size)) - signed.keys())]
        except RuntimeError:
            told, silent = [], ["another process is gone, and rank 0's machine, which would know, with it"]
        named = told or silent or ["the connection between the processes broke, though all of them run"]
        return f"rank {self.rank} stops: {'; '.join(named)}"

    def _silent(self, rank: int) -> str:
        if not self._store.check([f"yuyan/who/{rank}"]):
            return f"rank {rank} never came"
        pid, _, host = self._store.get(f"yuyan/who/{rank}").decode().partition(" ")
        state = "does not answer" if host != socket.gethostname() or _runs(int(pid)) else "died"
        return f"rank {rank} {state} (process {pid} on {host})"


def under_torchrun() -> bool:
    """Whether `torchrun`, or something that speaks like it, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank() -> int:
    """Which of the processes this is."""
    return int(os.environ.get("RANK", "0"))


def restarts() -> int:
    """How often `torchrun` has started these processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _broken(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in BROKEN)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def _runs(pid: int) -> bool:
    """Whether the process of this machine is there, and not merely its remains."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def share(count: int, rank: int, size: int) -> range:
    """Which of `count` things a process takes: every `size`-th."""
    return range(rank, count, size)


def parts(total: int, most: int) -> Iterator[slice]:
    """`total` numbers in equal parts of at most `most`."""
    pieces = max(1, math.ceil(total / most))
    yield from (slice(total * i // pieces, total * (i + 1) // pieces) for i in range(pieces))

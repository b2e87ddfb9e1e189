"""`yuyan train` as one of several processes under `torchrun`: the first prepares, the others wait for it, then all train.

Nobody waits inside a collective operation while the data are prepared, so that may take as long as it takes: the others
look for a file that the first writes when it is through.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch

from yuyan.commands.batches import AnyCorpus
from yuyan.commands.run import RunConfig
from yuyan.config import fingerprint
from yuyan.console import mute, say
from yuyan.errors import InputError
from yuyan.store import write_json
from yuyan.train.world import Processes, ProcessLost, World, rank

READY = "ready.json"
LOOK_SECONDS, SAY_SECONDS = 0.05, 30.0


def announce(folder: Path) -> None:
    """The data of the run are there: the others may come."""
    write_json(folder / READY, {"launch": _launch()})


def wait_until_ready(folder: Path) -> None:
    """Wait for the first process, aloud; this process says nothing more afterwards."""
    started = said = time.monotonic() - SAY_SECONDS + 2
    while not _is_ready(folder):
        time.sleep(LOOK_SECONDS)
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            say(f"rank {rank()}: waiting for rank 0 to prepare the data ({said - started + SAY_SECONDS - 2:.0f} s)")
    mute()


def join(config: RunConfig, corpus: AnyCorpus, device: torch.device) -> World:
    """Meet the others. Raises InputError where one has another config or other data."""
    try:
        world = Processes(timeout=config.train.parallel.timeout, device=device)
    except RuntimeError as error:
        said = (str(error).splitlines() or [""])[0]
        raise ProcessLost(f"rank {rank()}: the processes did not find each other: {said}") from error
    with world.watched():
        _check_equal(world, "config", int(fingerprint(config)[:12], 16))
        _check_equal(world, "training text", corpus.tokens)
    say(f"{world.size} processes train together, {world.local_size} of them on this machine")
    return world


def _check_equal(world: World, what: str, number: int) -> None:
    found = [int(each) for each in world.gather(torch.tensor(number))]
    if others := [str(rank) for rank, each in enumerate(found) if each != found[0]]:
        raise InputError(
            f"rank {', '.join(others)}: another {what} than rank 0; start all with the same command and files"
        )


def _is_ready(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / READY).read_text(encoding="utf-8"))["launch"] == _launch())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _launch() -> str:
    """What all processes that were started together share, and no others."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "WORLD_SIZE")
    return "/".join(os.environ.get(name, "") for name in names)

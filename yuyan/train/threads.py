"""How many threads to compute with, found by measurement.

More threads are not always faster: a small network's products are over before the threads have met, and on a busy
machine they wait for each other at every one. So a few real steps are timed with one thread and with one a core.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

import torch

from yuyan.console import warn
from yuyan.nn.device import device_of
from yuyan.objectives import Batch
from yuyan.train.device import CPU, random_kept, wait_for
from yuyan.train.learner import Learner
from yuyan.train.world import World

TIMES = 5
SECONDS = 3.0


def fastest_threads(learner: Learner, group: Sequence[Batch]) -> tuple[int, dict[int, float]]:
    """The number of threads with the least median time of a forward and backward pass, and all medians in seconds.

    Weights, gradients and random state are left as they were.
    """
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    candidates = sorted({1, max(1, most // 2), most})
    if len(candidates) == 1:
        return 1, {}
    before = torch.get_num_threads()
    medians: dict[int, float] = {}
    try:
        with random_kept(CPU):
            for threads in candidates:
                torch.set_num_threads(threads)
                medians[threads] = median_seconds(learner, group[0])
    finally:
        torch.set_num_threads(before)
        learner.zero_grad(set_to_none=True)
    return min(medians, key=lambda threads: medians[threads]), medians


def fair_threads(world: World) -> int:
    """This process's part of the machine's cores."""
    return max(1, (os.cpu_count() or 1) // world.local_size)


def take_threads(wanted: int | None, stored: int | None, world: World) -> None:
    """Compute as the saved run did, or as is `wanted`: another number changes the order of sums on a CPU."""
    if stored is None:
        torch.set_num_threads(wanted or fair_threads(world))
        return
    if wanted is not None and wanted != stored:
        warn(
            f"train.threads is {wanted}, and so far the run was computed with {stored}: the order of sums changes, so it "
            "will not be repeated bit for bit"
        )
    elif stored > (os.cpu_count() or 1):
        warn(
            f"the run is computed with {stored} threads, and this machine has {os.cpu_count()} cores; train.threads can "
            "change it, but then the run will not be repeated bit for bit"
        )
    torch.set_num_threads(wanted or stored)


def median_seconds(learner: Learner, batch: Batch) -> float:
    """Of a forward and backward pass of `batch`; gradients are left behind."""
    spent: list[float] = []
    started, device = time.perf_counter(), device_of(learner)
    learner.train()
    for turn in range(TIMES + 1):
        begun = time.perf_counter()
        learner(batch).total.sum().backward()
        wait_for(device)
        if turn:  # the first one prepares kernels and memory
            spent.append(time.perf_counter() - begun)
        if spent and time.perf_counter() - started > SECONDS:
            break
    return statistics.median(spent)

"""Pieces of work on several threads, and how fast they go. Compiled loops let go of the interpreter's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from yuyan.console import Task

T = TypeVar("T")


def in_parallel(jobs: Sequence[Callable[[], T]], threads: int) -> Iterator[T]:
    """The results of the jobs: in their order with one thread, else as they come. A stop waits only for those begun."""
    if threads == 1:
        for job in jobs:
            yield job()
        return
    left = iter(jobs)
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[T]] = set()
        while True:
            running |= {pool.submit(job) for job in islice(left, 2 * threads - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


class Speed:
    """Moves a bar and says how fast."""

    def __init__(self, bar: Task, unit: str):
        self.bar, self.unit, self.started, self.done = bar, unit, time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(1e-9, time.monotonic() - self.started)

    def more(self, amount: int, note: str = "") -> None:
        """So much more is done."""
        self.done += amount
        rate = self.done / self.seconds
        self.bar.set(self.done, f"{rate / 1000:,.0f}k {self.unit}  {note}".rstrip())

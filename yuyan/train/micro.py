"""How many rows to compute at once, found by measurement.

Larger micro-batches have larger products, and smaller ones stay in the processor's caches and need less memory; which is
faster depends on the network and the machine. The result of an update differs only in the order of its sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yuyan.nn.device import device_of
from yuyan.objectives import Batch
from yuyan.train.device import random_kept
from yuyan.train.learner import Learner
from yuyan.train.threads import median_seconds

ENOUGH = 1.03  # a smaller micro-batch is taken if it costs no more than this, as it needs less memory


def sizes(rows: int, most: int | None = None) -> list[int]:
    """The whole of an update's rows, its half, its quarter ... down to one row, in at most `most` rows."""
    found = [rows]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return [size for size in found if most is None or size <= most] or [1]


def fastest_rows(
    learner: Learner, batch_of: Callable[[int], Batch], candidates: Sequence[int]
) -> tuple[int, dict[int, float]]:
    """The number of rows with about the least time a row, and the seconds a row of all that were tried.

    It stops at the first size that is a tenth slower than the best. Weights, gradients and random state are left as they were.
    """
    seconds = dict[int, float]()
    try:
        with random_kept(device_of(learner)):
            for rows in candidates:
                seconds[rows] = median_seconds(learner, batch_of(rows)) / rows
                if seconds[rows] > 1.1 * min(seconds.values()):
                    break
    finally:
        learner.zero_grad(set_to_none=True)
    least = min(seconds.values())
    return min(rows for rows in seconds if seconds[rows] <= ENOUGH * least), seconds

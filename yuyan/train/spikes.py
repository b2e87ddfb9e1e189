"""Losses that stand out from those before them: how far, in robust standard deviations.

The median and the median deviation do not move with the outliers they are to find; a mean and a standard deviation would.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

WINDOW, FEWEST = 128, 20
TO_SIGMA = 1.4826  # the median deviation of a normal distribution is 0.6745 standard deviations


class Spikes:
    """Tell it every loss; it says how many deviations one lies above the median of the last 128, if more than `limit`."""

    def __init__(self, limit: float, losses: Iterable[float | None] = ()):
        self.limit = limit
        self._last = deque((x for x in losses if x is not None and math.isfinite(x)), WINDOW)

    def see(self, loss: float) -> float | None:
        """The deviations of a spike, None for any other loss. A spike is not among what later ones are compared with."""
        if not math.isfinite(loss):
            return None
        found = self._deviations(loss) if len(self._last) >= FEWEST else 0.0
        if found > self.limit:
            return found
        self._last.append(loss)
        return None

    def _deviations(self, loss: float) -> float:
        median = statistics.median(self._last)
        spread = TO_SIGMA * statistics.median(abs(x - median) for x in self._last)
        return (loss - median) / max(spread, 1e-3 * abs(median), 1e-12)

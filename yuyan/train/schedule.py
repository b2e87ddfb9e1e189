"""How the learning rate moves over a run, as a pure function of progress (0 at the first step, 1 at the last).

Progress is steps done over steps planned, or seconds spent over seconds granted; a schedule cannot tell which. It never
counts micro-batches or processes, so it does not change with them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from yuyan.config import Config


class Constant(Config):
    """The full rate after a warm-up."""

    kind: Literal["constant"] = "constant"
    warmup: float = Field(0.02, ge=0, le=1)
    """Share of the run in which the rate rises from 0."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        return _warm(progress, self.warmup)


class Cosine(Config):
    """Half a cosine from the full rate to `floor` (Loshchilov & Hutter 2017, equation 5, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the run in which the rate rises from 0."""
    floor: float = Field(0.1, ge=0, le=1)
    """The last rate, as a share of the full one."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        if progress < self.warmup:
            return _warm(progress, self.warmup)
        along = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * along))


class WarmupStableDecay(Config):
    """Up, level, and down in a straight line (Hu et al. 2024, MiniCPM, section 4; Hagele et al. 2024)."""

    kind: Literal["wsd"] = "wsd"
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the run in which the rate rises from 0."""
    decay: float = Field(0.4, ge=0, le=1)
    """Share of the run, at its end, in which the rate falls."""
    floor: float = Field(0.0, ge=0, le=1)
    """The last rate, as a share of the full one."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        left = max(0.0, 1 - progress)
        down = 1.0 if left >= self.decay else self.floor + (1 - self.floor) * left / self.decay
        return min(_warm(progress, self.warmup), down)


def _warm(progress: float, warmup: float) -> float:
    return 1.0 if progress >= warmup else progress / warmup


Schedule = Annotated[Constant | Cosine | WarmupStableDecay, Field(discriminator="kind")]

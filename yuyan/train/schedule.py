"""How the learning rate moves over a run, as a pure function of progress (0 at its beginning, 1 at its end).

Progress is the middle of a step over the steps planned, or seconds spent over seconds granted; a schedule cannot tell
which. It never counts micro-batches or processes, so it does not change with them.
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


class Linear(Config):
    """Up, then down in a straight line to `floor` (Devlin et al. 2019, section A.2)."""

    kind: Literal["linear"] = "linear"
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the run in which the rate rises from 0."""
    floor: float = Field(0.0, ge=0, le=1)
    """The last rate, as a share of the full one."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        if progress < self.warmup:
            return _warm(progress, self.warmup)
        along = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.floor + (1 - self.floor) * (1 - along)


class WarmupStableDecay(Config):
    """Up, level, and down (Hu et al. 2024, MiniCPM, section 4; Hägele et al. 2024, section 3)."""

    kind: Literal["wsd"] = "wsd"
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the run in which the rate rises from 0."""
    decay: float = Field(0.4, ge=0, le=1)
    """Share of the run, at its end, in which the rate falls."""
    shape: Literal["linear", "1-sqrt"] = "linear"
    """How it falls: in a straight line, or as 1 - sqrt(x), fast at first (Hägele et al. 2024, section 3.1)."""
    floor: float = Field(0.0, ge=0, le=1)
    """The last rate, as a share of the full one."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        left = max(0.0, 1 - progress)
        if left >= self.decay:
            return _warm(progress, self.warmup)
        share = left / self.decay
        fallen = share if self.shape == "linear" else 1 - math.sqrt(1 - share)
        return min(_warm(progress, self.warmup), self.floor + (1 - self.floor) * fallen)


def _warm(progress: float, warmup: float) -> float:
    return 1.0 if progress >= warmup else progress / warmup


Schedule = Annotated[Constant | Cosine | Linear | WarmupStableDecay, Field(discriminator="kind")]

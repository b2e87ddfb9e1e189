"""`yuyan lr`: which learning rate suits a config, found in some hundred steps with a rate that rises from step to step.

The loss first stays, then falls, then rises when steps are too long (Smith 2017, section 3.3). A language model's loss often
stays level over many rates before it rises, and may fall a little more there, as more was read; the lowest of these rates, where
the descent ends, is suggested. All is done on a copy in a temporary folder; only the drawn curve stays.
"""

from __future__ import annotations

import json
import math
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuyan.commands.interrupt import stop_on_signal
from yuyan.commands.run import RUNS, RunConfig, create_run, read_run_config
from yuyan.commands.session import Session
from yuyan.commands.train import settle
from yuyan.config import flatten, to_yaml
from yuyan.console import progress, say
from yuyan.errors import InputError, Interrupted
from yuyan.evaluate.study import rate_page
from yuyan.evaluate.terminal import curve
from yuyan.store import write_text
from yuyan.train import Adafactor, Diverged, Muon, OptimizerConfig, PlainStep, Plan, train
from yuyan.train.device import choose_device
from yuyan.train.world import World

SPAN = 300.0  # times below and above the config's own rate
WINDOW = 0.03  # of the steps: the deviation of the bell by which losses are averaged
LOST = 1.25  # times the loss at the start: the end of the search
LEVEL = 0.2  # of the steepest fall: where the loss falls no faster than this, its descent is over
LAG = 8  # steps until a loss shows what a rate does: where it comes to rest, the rates have risen past what made it so
FEWEST = 20
RECENT = 5


@dataclass(frozen=True)
class Rising:
    """From `low` times the full rate to `high` times it, by the same factor at each step."""

    low: float
    high: float

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate with."""
        return float(self.low * (self.high / self.low) ** progress)


@dataclass(frozen=True)
class Found:
    """What was tried, and what follows from it. `losses` in nats; the smoothed ones belong to the same rates."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


def rate_command(
    place: Path,
    overrides: Sequence[str],
    out: Path | None,
    *,
    steps: int,
    low: float | None = None,
    high: float | None = None,
) -> Found:
    """Find a rate for the config in `place`, draw the curve, say what to write. Raises InputError, Interrupted."""
    config = read_run_config(place, overrides)
    for option, value in (("--low", low), ("--high", high)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{option} {value:g}: a learning rate is a number above 0")
    if low is not None and high is not None:
        _check_ascending(low, high)
    with tempfile.TemporaryDirectory(prefix="yuyan-lr-") as temporary:
        config, rates, losses, language = _tried(config, Path(temporary) / "run", steps, low, high)
    if len(rates) < FEWEST:
        raise InputError(
            f"the loss was lost after {len(rates)} steps, at a rate of {rates[-1]:.1e}; give a lower --low"
        )
    smoothed = smooth(losses)
    found = Found(rates, losses, smoothed, suggest(rates, smoothed))
    page = out or RUNS / f"{config.name}-lr.html"
    write_text(page, rate_page({
        "title": config.name, "rates": rates, "losses": losses, "smoothed": smoothed, "suggestion": found.suggestion,
        "rate": config.train.optimizer.lr, "steps": len(rates), "config": to_yaml(config),
    }, language))  # fmt: skip
    _show(found, config, page)
    chosen = flatten({"train": {"optimizer": settings_of(config.train.optimizer, found.suggestion)}})
    command = ["yuyan", "train", str(place), *overrides, *(f"{key}={value}" for key, value in chosen.items())]
    say(f"now try:\n  {shlex.join(command)}")
    return found


def settings_of(optimizer: OptimizerConfig, rate: float) -> dict[str, Any]:
    """What to write for a rate, with all that was no default when it was tried: an optimizer that is chosen with the network
    has its defaults where it is named. The AdamW beside Muon was tried with its own rate, as many times the config's.
    """
    settings: dict[str, Any] = {"kind": optimizer.kind, **optimizer.model_dump(exclude_defaults=True), "lr": rate}
    if isinstance(optimizer, Muon):
        own = {"lr": float(f"{optimizer.rest.lr * rate / optimizer.lr:.2g}")}
        settings["rest"] = settings.get("rest", {}) | own
    return settings


def _highest(optimizer: OptimizerConfig, steps: int) -> float:
    """Up to which rate an optimizer does what it is told in all of so many steps."""
    return steps**-0.5 if isinstance(optimizer, Adafactor) else math.inf


def _check_ascending(low: float, high: float) -> None:
    if not low < high:
        raise InputError(f"--low {low:g} is not below --high {high:g}")


def _tried(
    config: RunConfig, folder: Path, steps: int, low: float | None, high: float | None
) -> tuple[RunConfig, list[float], list[float], str]:
    """The config with nothing left open, rates, their losses, and the language of the text."""
    create_run(config, folder)
    config, corpus = settle(config, folder)
    length = {"steps": steps, "epochs": None, "budget": None, "average": None}
    config = config.model_copy(update={"train": config.train.model_copy(update=length)})
    settings, rate = config.train, config.train.optimizer.lr
    highest = _highest(settings.optimizer, steps)
    low, high = rate / SPAN if low is None else low, min(rate * SPAN, highest) if high is None else high
    if high > highest:
        raise InputError(
            f"--high {high:g}: adafactor takes no rate above {highest:.2g} at step {steps}; give at most that"
        )
    _check_ascending(low, high)
    session = Session(config, folder, corpus, World(choose_device(settings.device)))
    session.choose_threads()
    session.settle_steps()
    step = PlainStep(
        Plan(steps=steps), Rising(low / rate, high / rate), clip=settings.clip, penalty=settings.penalty  # type: ignore[arg-type]
    )  # fmt: skip
    rates, losses = list[float](), list[float]()
    with (
        closing(session.log), closing(session.saver), stop_on_signal() as stop,
        progress("looking for a learning rate", steps) as bar,
    ):  # fmt: skip
        try:
            for update in train(session.state, session.batches, step):
                if stop:
                    raise Interrupted(f"stopped by {stop.signal}; nothing was kept")
                if update.skipped or not math.isfinite(update.loss):
                    break
                losses.append(update.loss)
                rates.append(rate * step.schedule.factor((update.step - 0.5) / steps))
                bar.set(update.step, f"rate {rates[-1]:.1e}  loss {update.loss:.3f}")
                if len(losses) > FEWEST and np.mean(losses[-RECENT:]) > LOST * np.mean(losses[:RECENT]):
                    break
        except Diverged:
            pass
    return config, rates, losses, corpus.language


def smooth(losses: Sequence[float]) -> list[float]:
    """At each step the mean of the losses before and after it, by a bell: it lags behind nothing."""
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(1.0, WINDOW * len(losses))) ** 2)
    smoothed: list[float] = (weights @ np.asarray(losses) / weights.sum(1)).tolist()
    return smoothed


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """The rate at which the descent of the loss ends, to two digits."""
    fall = -np.gradient(smoothed, np.log(rates))
    steepest = int(fall.argmax())
    level = np.flatnonzero(fall[steepest:] < LEVEL * fall[steepest])
    end = steepest + int(level[0]) if len(level) else len(rates) - 1
    return float(f"{rates[max(0, end - LAG)]:.1e}")


def _show(found: Found, config: RunConfig, page: Path) -> None:
    say(f"loss over learning rate, {found.rates[0]:.1e} to {found.rates[-1]:.1e}:")
    for line in curve([math.log10(rate) for rate in found.rates], found.smoothed):
        say(line)
    say(f"suggested: {found.suggestion:g} (the config says {config.train.optimizer.lr:.2g}); drawn in {page}")
    say("write this, and keep the other keys as they are:")
    chosen = json.dumps(settings_of(config.train.optimizer, found.suggestion)).replace('"', "")
    say(f"  train:\n    optimizer: {chosen}")

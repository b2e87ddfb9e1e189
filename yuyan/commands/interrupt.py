"""Ctrl-C, SIGTERM and SIGHUP ask a command to stop.

Anywhere they are a `KeyboardInterrupt`, so that temporary files and processes are cleaned up. A training run takes the
first one as a request, which it grants at the next safe place; a second Ctrl-C stops it at once. A signal that was
ignored from the start, as SIGHUP is under `nohup`, stays ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class StopRequest:
    """Whether somebody asked to stop, and how."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Collect signals until the block ends. Outside the main thread nothing can be caught, and nothing changes."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number).name

    with _caught(("SIGINT", "SIGTERM", "SIGHUP"), ask):
        yield request


@contextmanager
def interrupt_on_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP too are a KeyboardInterrupt until the block ends."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _caught(("SIGTERM", "SIGHUP"), interrupt):
        yield


@contextmanager
def _caught(names: tuple[str, ...], handler: Handler) -> Iterator[None]:
    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

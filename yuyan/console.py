"""What the user sees while something runs: progress, tables, plain sentences. All of it goes to standard error.

On a terminal a bar moves; elsewhere one plain line comes every few seconds, so that a log file stays readable.
Results that another program may read (generated text, JSON) belong on standard output and do not pass through here.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from yuyan.errors import ConfigError

T = TypeVar("T")
PLAIN_LINE_SECONDS = 5.0
LINE_SECONDS = "YUYAN_LINE_SECONDS"
"""The variable that says how many seconds lie between two lines where there is no terminal (5); 0 is a line at each step."""
_INTERRUPTIBLE = "interruptible work"
ABANDONED = "abandoned work"
"""The name of a thread that hangs: nobody waits for it any more."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """One plain line."""
    console.print(text, markup=False)


def warn(text: str) -> None:
    """One line that the user should not miss."""
    console.print(f"warning: {text}", style="yellow", markup=False)


def mute() -> None:
    """Say nothing any more in this process, but for `complain`: one of several speaks for all."""
    console.quiet = True


def complain(text: str) -> None:
    """What ended the program: heard in any case."""
    console.quiet = False
    console.print(text, style="red", markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are texts, the others numbers."""
    if console.quiet:
        return
    grid = Table(title=Text(title, style="italic") if title else None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(Text(column), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))  # a cell is a text, whatever brackets it has
    wide = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160)
    wide.print(grid)


def line_seconds() -> float:
    """Seconds between two plain lines. Raises ConfigError if the variable holds no number of seconds."""
    said = os.environ.get(LINE_SECONDS) or str(PLAIN_LINE_SECONDS)
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ConfigError(f"{LINE_SECONDS}: expected a number of seconds, such as 30; got {said!r}")
    return seconds


class Task:
    """Something under way: tell it how far it got."""

    def __init__(self, description: str, total: float | None):
        self.description, self.total, self.done = description, total, 0.0
        self.note = ""

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.done += amount
        self._show()

    def set(self, done: float, note: str = "") -> None:
        """So much is done in all; `note` is shown behind the bar."""
        self.done, self.note = done, note
        self._show()

    def _show(self) -> None:
        return None


class _Bar(Task):
    def __init__(self, description: str, total: float | None, bar: Progress):
        super().__init__(description, total)
        self.bar = bar
        self.id = bar.add_task(description, total=total, note="")

    def _show(self) -> None:
        self.bar.update(self.id, completed=self.done, note=self.note)


class _Lines(Task):
    def __init__(self, description: str, total: float | None):
        super().__init__(description, total)
        self.started = self.last = time.monotonic()
        self.every = line_seconds()
        self.before: float | None = None  # what was done already when this task went on

    def _show(self) -> None:
        now = time.monotonic()
        if self.before is None:
            self.before = self.done
        if now - self.last < self.every:
            return
        self.last = now
        share = f" {100 * self.done / self.total:.0f} %" if self.total else f" {self.done:,.0f}"
        spent = now - self.started
        rate = (self.done - self.before) / spent
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate > 0 else ""
        say(f"{self.description}:{share} after {spent:.0f} s{left}{'  ' + self.note if self.note else ''}")


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Task]:
    """Show that something is under way until the block ends."""
    if console.quiet or not console.is_terminal or os.environ.get("TERM") == "dumb":
        yield _Lines(description, total)
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
    ]
    if total is None:
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn()]
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        yield _Bar(description, total, bar)


def interruptible(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, so that Ctrl-C need not wait for a library which never looks for signals.

    After an interruption the thread runs on, unheard: see `left_running`.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name=_INTERRUPTIBLE, daemon=True).start()
    return done.result()


def left_running() -> bool:
    """Whether `interruptible` work is still under way: the interpreter cannot be taken down in good order then."""
    return any(thread.name in (_INTERRUPTIBLE, ABANDONED) for thread in threading.enumerate())


def track(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """Pass `items` through, showing how far they got."""
    with progress(description, total) as task:
        for item in items:
            yield item
            task.advance()

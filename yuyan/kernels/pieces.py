"""Work shared out between threads: each takes the next piece that nobody has yet, and all go on when all pieces are done.

A thread waits for pieces, never for another thread. On a machine that is busy with other things a thread may not run
for some milliseconds; the others then do its work, and when it comes back it finds all pieces taken. A thread that has
come late may read what has already changed, so whatever it makes before it takes a piece is its own, and only the
pieces it gets are written where others read.

The state of a part of the work is two int64, on lines of the cache of their own: pieces taken, and pieces done.
"""

from __future__ import annotations

from typing import Any

from yuyan.compile import compiled
from yuyan.kernels.vector import fetch, fetch_add, give_way

PART = 128
"""Bytes of the state of one part."""
EACH = 4
"""Pieces for each thread: few enough to cost nothing, enough for a fast thread to do more than a slow one."""


@compiled
def share(count: Any, unit: Any, piece: Any, pieces: Any) -> Any:
    """The piece of 0 to `count`, in whole units."""
    units = (count + unit - 1) // unit
    return min(count, units * piece // pieces * unit), min(count, units * (piece + 1) // pieces * unit)


@compiled
def pieces_of(units: Any, threads: Any) -> Any:
    """How many pieces so many units make: one for a thread alone."""
    return min(units, 1 if threads == 1 else EACH * threads)


@compiled
def take(part: Any, pieces: Any) -> Any:
    """The number of a piece that nobody has yet; -1: there is none."""
    if fetch(part) >= pieces:
        return -1
    piece = fetch_add(part, 1)
    return piece if piece < pieces else -1


@compiled
def done(part: Any) -> Any:
    """One more piece is."""
    fetch_add(part + PART // 2, 1)


@compiled
def wait(part: Any, pieces: Any) -> Any:
    """Until all pieces are done."""
    turns = 0
    while fetch(part + PART // 2) < pieces:
        turns += 1
        if turns > 2000:
            give_way()

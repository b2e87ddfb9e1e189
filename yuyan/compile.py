"""Machine code from Python functions, through Numba, kept between runs.

Numba is slow to load and slower to compile, so modules with compiled functions are imported where they are used, never
at the top of a command, and what was compiled is kept. Its cache holds pickled code, so whoever can write there can run
anything as this user: it lives in a folder of the user's own that nobody else may write to, and where there is no such
folder nothing is kept. A compiled function knows only the file it stands in; the folder's name therefore has a hash of
all files beside it, and a change in a function that another one calls is never missed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile `function` for the types it is first called with; it then runs without the interpreter's lock.

    Sums may be reordered (`fastmath`, but NaN and infinity keep their meaning), so that they fill the vector units. A
    division by zero gives infinity, as in NumPy: a check of each divisor would keep a loop from the vector units.
    """
    with _kept(function) as kept:
        fast = {"reassoc", "contract", "nsz", "arcp", "afn"}
        made: Any = numba.njit(cache=kept, nogil=True, fastmath=fast, boundscheck=False, error_model="numpy")(function)
        return cast(F, made)


def compiled_at(function: Callable[..., object], signature: Any) -> int:
    """Compile `function` now, and return its address: called through that, a large one is not compiled into its callers."""
    with _kept(function) as kept:
        made: Any = numba.cfunc(signature, cache=kept)(function)
    _ADDRESSED.append(made)
    return int(made.address)


_ADDRESSED: list[Any] = []
"""What has an address lives as long as the process."""


@contextmanager
def _kept(function: Callable[..., object]) -> Iterator[bool]:
    """While a function is compiled: Numba's cache is the folder of its package; whether there is any."""
    keep = cache_folder(Path(sys.modules[function.__module__].__file__ or __file__).parent)
    settings: Any = numba.config
    before = settings.CACHE_DIR
    try:
        if keep is not None and not before:  # the user's NUMBA_CACHE_DIR goes first
            settings.CACHE_DIR = str(keep)
        yield bool(keep or before)
    finally:
        settings.CACHE_DIR = before


@cache
def cache_folder(package: Path) -> Path | None:
    """Where the compiled functions of a package are kept: a folder only this user can write to; None if there is none."""
    digest = hashlib.sha256()
    for file in (Path(__file__), *sorted(package.glob("*.py"))):
        digest.update(file.read_bytes())
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yuyan"
        folder = root / "compiled" / f"{package.name}-{digest.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        safe = all(_only_mine(each) for each in (root, folder.parent, folder))
        return folder if safe and os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # no home folder, or a read-only one
        return None


def _only_mine(folder: Path) -> bool:
    if os.name != "posix":
        return True  # a user's profile is private there
    found = folder.lstat()
    mine = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
    return mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

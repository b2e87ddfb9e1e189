"""How a command leaves its folder when it ends early: worth going on with, and said how, or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuyan.errors import InputError, Interrupted, StorageError

WORK = ("log.jsonl", "state", "rungs")
PREPARATION = ("data", "tokenizer", "shards")


@contextmanager
def tidy(folder: Path, go_on: str, *, fresh: bool) -> Iterator[None]:
    """Around the work on `folder`, which nobody else is using.

    An interruption becomes an Interrupted that gives the command to go on with. A `fresh` folder, made by this command,
    is removed when the input turned out wrong or the disk refused before any training was saved, and when an
    interruption came before anything was done: the same command can then be given again.
    """
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if fresh and not _holds(folder, WORK + PREPARATION):
            shutil.rmtree(folder, ignore_errors=True)
            raise Interrupted("stopped; nothing was written") from None
        raise Interrupted(f"stopped; what is done is kept. To go on:\n  {go_on}") from None
    except (InputError, StorageError) as error:
        if fresh and not _holds(folder, WORK):
            shutil.rmtree(folder, ignore_errors=True)
        elif isinstance(error, StorageError):
            raise StorageError(f"{error}. To go on:\n  {go_on}") from error
        raise


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    places = [folder / name for name in names]
    return any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in places)

"""What is on disk is whole, or it is not there.

A file or a folder is written beside its place under a temporary name, synced, and renamed; a folder carries a manifest
with the size and SHA-256 of every file, checked when it is loaded. So a reader never meets half a checkpoint, and a
flipped bit is an error instead of a wrong model.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from yuyan.errors import CheckpointCorrupt, InputError, StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
LOCK = "lock"
_TEMPORARY = ".tmp-"


# ---------------------------------------------------------------- writing


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals into one line that names the path and the remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        remedy = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
            errno.EFBIG: "the file would be larger than this system allows",
            errno.EROFS: "the disk is read-only; choose another folder with --out",
            errno.EACCES: "no permission to write here; choose another folder with --out",
            errno.EPERM: "no permission to write here; choose another folder with --out",
            errno.ENOTDIR: "a part of this path is a file, not a folder; choose another folder with --out",
            errno.ENAMETOOLONG: "the name is too long; choose a shorter one with --out",
        }.get(_number(error), (error.strerror if isinstance(error, OSError) else None) or str(error))
        raise StorageError(f"{_short(path)}: cannot be written: {remedy}") from error


def _number(error: OSError | SafetensorError) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else 0


def _short(path: Path) -> str:
    name = re.sub(rf"{re.escape(_TEMPORARY)}\d+", "", str(path))  # the place it was meant for
    return name if len(name) <= 200 else f"{name[:100]}...{name[-60:]}"


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and takes the place of `path`, else it is removed.

    Raises StorageError; the old file is then untouched.
    """
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync_file(temporary)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, all of it or nothing."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Write `data` as readable JSON, all of it or nothing."""
    write_text(path, to_json(data) + "\n")


def to_json(data: object) -> str:
    """Readable JSON; what JSON has no number for, NaN and the infinities, is null."""
    return json.dumps(_finite(data), ensure_ascii=False, indent=1)


def _finite(data: object) -> object:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it gets a manifest, is synced and takes the place of `path`.

    Raises StorageError; what was at `path` before is then untouched.
    """
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            write_manifest(temporary)
            for file in temporary.rglob("*"):
                _sync_folder(file) if file.is_dir() else _sync_file(file)
            _sync_folder(temporary)
            _take_place(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _take_place(temporary: Path, path: Path) -> None:
    if path.exists():
        old = path.with_name(f"{path.name}.old-{os.getpid()}")
        path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            if not path.exists():
                old.rename(path)
            raise
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(path)
        _sync_folder(path.parent)


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete temporary files and folders that a killed process left in `folder`, and put back a folder that was
    being replaced when its successor never arrived. Returns what was removed."""
    removed = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _TEMPORARY in entry.name:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed.append(entry)
        elif re.search(r"\.old-\d+$", entry.name):
            original = entry.with_name(entry.name.rpartition(".old-")[0])
            if original.exists():
                shutil.rmtree(entry, ignore_errors=True)
                removed.append(entry)
            else:
                entry.rename(original)
    return removed


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line, all of it or nothing. Raises StorageError."""
    line = (json.dumps(_finite(record), ensure_ascii=False) + "\n").encode()
    with storage_errors(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
        except BaseException:
            file.truncate(size)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; what a kill or a loss of power left of a line is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        with suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # a folder cannot be opened for syncing elsewhere
        _sync_file(path)


# ---------------------------------------------------------------- checking


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """List every file of `folder` with its size and SHA-256 in `manifest.json`."""
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path, *, required: bool = True, contents: bool = True) -> None:
    """Check every file against the manifest. Raises CheckpointCorrupt naming the first that differs.

    Without `required` a folder that has no manifest passes: it was written by another tool. Without `contents` only the
    sizes are compared, which needs no reading.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        if required:
            raise CheckpointCorrupt(manifest, "a manifest", "no such file")
        return
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        entries = [(str(name), int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointCorrupt(manifest, "a list of files", "something unreadable") from None
    for name, size, digest in entries:
        file = folder / name
        if not file.is_file():
            raise CheckpointCorrupt(file, f"{size} bytes", "no such file")
        if file.stat().st_size != size:
            raise CheckpointCorrupt(file, f"{size} bytes", f"{file.stat().st_size} bytes")
        if not contents:
            continue
        if (found := sha256(file)) != digest:
            raise CheckpointCorrupt(file, f"SHA-256 {digest[:12]}", found[:12])


class Newest(NamedTuple):
    """The newest checkpoint that verifies, and the newer ones that did not."""

    folder: Path | None
    rejected: list[CheckpointCorrupt]


def newest_checkpoint(folder: Path) -> Newest:
    """The highest-numbered sub-folder of `folder` whose manifest holds."""
    remove_leftovers(folder)
    numbered = (
        [entry for entry in folder.iterdir() if entry.is_dir() and entry.name.isdigit()] if folder.is_dir() else []
    )
    rejected: list[CheckpointCorrupt] = []
    for entry in sorted(numbered, key=lambda entry: int(entry.name), reverse=True):
        try:
            verify(entry)
        except CheckpointCorrupt as error:
            rejected.append(error)
        else:
            return Newest(entry, rejected)
    return Newest(None, rejected)


def keep_last(folder: Path, count: int, *, until: int | None = None) -> None:
    """Delete all but the `count` highest-numbered checkpoints up to number `until`; later ones, damaged, are no use."""
    numbered = sorted((entry for entry in folder.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name))
    if until is not None:
        numbered = [entry for entry in numbered if int(entry.name) <= until]
    for entry in numbered[: max(0, len(numbered) - count)]:
        shutil.rmtree(entry, ignore_errors=True)


# ---------------------------------------------------------------- folders that a command owns


def claim_folder(path: Path, *, what: str) -> Path:
    """Make `path` as a new empty folder. Raises InputError if something is there, StorageError if it cannot be made.

    What a killed process left there half-written does not count.
    """
    with storage_errors(path):
        was_there = path.exists()
        if was_there and path.is_dir() and all(_is_left_over(entry) for entry in path.iterdir()):
            remove_leftovers(path)
            (path / LOCK).unlink(missing_ok=True)
        if was_there and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: already there; choose another place for {what} with --out, or remove it")
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f"probe{_TEMPORARY}{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError:
            if not was_there:
                shutil.rmtree(path, ignore_errors=True)
            raise
    return path


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a dead one's lock is taken over. Raises InputError naming who has it."""
    lock = folder / LOCK
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    with storage_errors(lock), _one_at_a_time(folder):
        holder = _holder(lock)
        if holder is not None and _alive(holder, mine["host"]):
            raise InputError(
                f"{folder}: in use by process {holder['pid']} on {holder['host']}; wait for it or stop it "
                f"(if it is gone, remove {lock})"
            )
        temporary = lock.with_name(f"{LOCK}{_TEMPORARY}{os.getpid()}")
        temporary.write_text(json.dumps(mine))
        temporary.replace(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            if _holder(lock) == mine:
                lock.unlink()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """While this is held nobody else is in it for the same folder: looking at a lock and taking it are one thing.

    The system lets go of it with the process. Where it has no such means the two are only close to each other in time.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def held_by(folder: Path) -> dict[str, Any] | None:
    """The living process that holds `folder`, as `exclusive` writes it: `pid` and `host`."""
    holder = _holder(folder / LOCK)
    return holder if holder is not None and _alive(holder, socket.gethostname()) else None


def _is_left_over(entry: Path) -> bool:
    """Whether a process that is dead left it."""
    if entry.name == LOCK:
        holder = _holder(entry)
        return holder is None or not _alive(holder, socket.gethostname())
    return _TEMPORARY in entry.name


def _holder(lock: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(lock.read_text())
        return holder if {"pid", "host"} <= set(holder) else None
    except (OSError, ValueError, TypeError):
        return None


def _alive(holder: dict[str, Any], host: object) -> bool:
    if holder["host"] != host:
        return True  # another machine cannot be asked
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(holder["pid"]) != os.getpid()

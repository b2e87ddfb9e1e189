"""Whole or not there: atomic files and folders, manifests, locks (rows T2 to T8 and T10 of the fault list)."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from yuyan.errors import CheckpointCorrupt, InputError, StorageError
from yuyan.store import (
    append_line,
    claim_folder,
    exclusive,
    keep_last,
    newest_checkpoint,
    publish_folder,
    read_lines,
    remove_leftovers,
    verify,
    write_atomically,
    write_text,
)


def checkpoint(folder: Path, number: int, size: int = 2000) -> Path:
    place = folder / f"{number:08d}"
    with publish_folder(place) as temporary:
        (temporary / "weights").write_bytes(random.Random(number).randbytes(size))
        (temporary / "state.json").write_text(json.dumps({"step": number}))
    return place


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), write_atomically(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 1)
    with pytest.raises(RuntimeError), publish_folder(place) as temporary:
        (temporary / "weights").write_bytes(b"half")
        raise RuntimeError
    verify(place)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_file_is_found_and_the_older_checkpoint_used(tmp_path: Path, kept: float) -> None:
    older, newer = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    content = (newer / "weights").read_bytes()
    (newer / "weights").write_bytes(content[: int(len(content) * kept)])
    found = newest_checkpoint(tmp_path)
    assert found.folder == older
    assert [error.file for error in found.rejected] == [newer / "weights"]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 1)
    file = place / "weights"
    content, draw = file.read_bytes(), random.Random(0)
    for _ in range(1000):
        bit = draw.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointCorrupt, match="damaged: expected SHA-256"):
            verify(place)
    file.write_bytes(content)
    verify(place)


def test_appended_swapped_and_missing_are_found(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    content = (one / "weights").read_bytes()
    (one / "weights").write_bytes(content + b"x" * 40)
    with pytest.raises(CheckpointCorrupt, match="2040 bytes"):
        verify(one)
    (one / "weights").write_bytes((two / "weights").read_bytes())
    with pytest.raises(CheckpointCorrupt, match="SHA-256"):
        verify(one)
    (one / "weights").unlink()
    with pytest.raises(CheckpointCorrupt, match="no such file"):
        verify(one)
    (two / "manifest.json").unlink()
    with pytest.raises(CheckpointCorrupt, match="a manifest"):
        verify(two)
    verify(two, required=False)
    found = newest_checkpoint(tmp_path)
    assert found.folder is None and len(found.rejected) == 2


def test_a_manifest_that_is_no_manifest(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 1)
    for text in ("", "[]", '{"files": 3}', '{"files": {"weights": {}}}', "\x00"):
        (place / "manifest.json").write_text(text)
        with pytest.raises(CheckpointCorrupt, match="manifest"):
            verify(place)


KILL = """
import os, random, signal, sys
from pathlib import Path
import yuyan.store as store
calls, at = 0, int(sys.argv[2])
def counted(function):
    def wrapper(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapper
for name in ("open", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "close"):
    setattr(os, name, counted(getattr(os, name)))
for name in ("write_bytes", "write_text", "rename", "replace", "mkdir"):
    setattr(Path, name, counted(getattr(Path, name)))
with store.publish_folder(Path(sys.argv[1]) / "00000002") as temporary:
    (temporary / "weights").write_bytes(b"2" * 5000)
    (temporary / "state.json").write_text("{}")
with store.publish_folder(Path(sys.argv[1]) / "00000001") as temporary:  # replaces the one that is there
    (temporary / "weights").write_bytes(b"3" * 5000)
print("calls", calls)
"""


def test_killed_at_every_call_of_a_save(tmp_path: Path) -> None:
    at, finished = 1, False
    while not finished:
        folder = tmp_path / str(at)
        checkpoint(folder, 1)
        done = subprocess.run([sys.executable, "-c", KILL, str(folder), str(at)], capture_output=True, timeout=60)
        finished = done.returncode == 0
        assert finished or done.returncode == -signal.SIGKILL, done.stderr.decode()
        found = newest_checkpoint(folder)
        assert found.folder is not None and not found.rejected, f"killed at call {at}"
        assert not [p for p in folder.iterdir() if not p.name.isdigit()], "leftovers are removed"
        at += 1 if at < 6 else 3
    assert at > 10


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old = checkpoint(tmp_path, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            checkpoint(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    verify(old)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


def test_no_space_names_the_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="disk is full; free some space"),
        write_atomically(tmp_path / "x") as temporary,
    ):
        temporary.write_bytes(b"x")
        raise OSError(28, "No space left on device")


def test_leftovers_of_a_kill_are_removed_and_a_replaced_folder_comes_back(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 1)
    place.rename(tmp_path / "00000001.old-77")
    (tmp_path / "00000002.tmp-77").mkdir()
    assert remove_leftovers(tmp_path) == [tmp_path / "00000002.tmp-77"]
    assert newest_checkpoint(tmp_path).folder == place


def test_keep_last(tmp_path: Path) -> None:
    for number in (5, 40, 300):
        checkpoint(tmp_path, number)
    keep_last(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000040", "00000300"]


def test_a_log_whose_last_line_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, {"step": 1})
    append_line(log, {"step": 2})
    whole = log.read_bytes()
    for cut in ('{"step": 3', '{"step": 3}'):  # with only its end missing it is cut too: the next line would join it
        log.write_bytes(whole + cut.encode())
        assert [record["step"] for record in read_lines(log)] == [1, 2]


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    claim_folder(tmp_path / "new" / "run", what="the run")
    (tmp_path / "new" / "run" / "x").touch()
    with pytest.raises(InputError, match="already there; choose another place for the run with --out"):
        claim_folder(tmp_path / "new" / "run", what="the run")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="already there"):
        claim_folder(tmp_path / "file", what="the run")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        claim_folder(tmp_path / "file" / "run", what="the run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission"):
        claim_folder(tmp_path / "run", what="the run")


def test_two_processes_cannot_have_one_folder(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with exclusive(tmp_path):
            lock = json.loads((tmp_path / "lock").read_text())
        (tmp_path / "lock").write_text(json.dumps(lock | {"pid": sleeper.pid}))
        with pytest.raises(InputError, match=f"in use by process {sleeper.pid} on"), exclusive(tmp_path):
            pass
    finally:
        sleeper.kill()
        sleeper.wait()
    with exclusive(tmp_path):  # its owner is dead: taken over
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


STARTER = """
import sys, time
from pathlib import Path
from yuyan import store
looked = store._alive
def slowly(holder, host):
    alive = looked(holder, host)
    time.sleep(0.3)  # between looking at the lock and taking it
    return alive
store._alive = slowly
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with store.exclusive(folder):
        print("held", flush=True)
        sys.stdin.readline()
except store.InputError:
    print("refused", flush=True)
"""


def test_a_dead_lock_is_taken_over_by_one_of_two_that_start_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "lock").write_text(json.dumps({"pid": dead.pid, "host": socket.gethostname()}))
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for starter in starters:
        assert starter.stdout is not None and starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    assert sorted(starter.stdout.readline() for starter in starters if starter.stdout) == ["held\n", "refused\n"]
    assert (tmp_path / "lock").exists()
    for starter in starters:
        starter.communicate("", timeout=20)
    assert not any(tmp_path.iterdir())

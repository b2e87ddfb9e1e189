"""What a loss of power can take away (row T3): writes that were not synced, in any order.

The functions of the file system are watched. A file is safe once it was synced after its last write, a name once its
folder was. At every rename into place everything inside must be safe already; else the name could outlive its content.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_runs import begin, toy_corpus

from yuyan.store import publish_folder, verify, write_atomically, write_text


class Watch:
    """Which contents are safe, and what happened in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path):
        self.root, self.safe, self.events = root, dict[Path, bytes | tuple[str, ...]](), list[str]()
        self._rename, fsync, rmtree = Path.rename, os.fsync, shutil.rmtree
        opened = os.open

        paths: dict[int, Path] = {}

        def watched_open(path: Any, *arguments: Any, **options: Any) -> int:
            descriptor = opened(path, *arguments, **options)
            paths[descriptor] = Path(path)
            return descriptor

        def watched_sync(descriptor: int) -> None:
            fsync(descriptor)
            self.safe[paths[descriptor]] = content(paths[descriptor])
            self.note("sync", paths[descriptor])

        def watched_remove(path: Any, **options: Any) -> None:
            self.note("remove", Path(path))
            rmtree(path, **options)

        monkeypatch.setattr(os, "open", watched_open)
        monkeypatch.setattr(os, "fsync", watched_sync)
        monkeypatch.setattr(shutil, "rmtree", watched_remove)
        monkeypatch.setattr(Path, "rename", self.renamed(Path.rename))
        monkeypatch.setattr(Path, "replace", self.renamed(Path.replace))

    def renamed(self, original: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def rename(path: Path, target: Path) -> Path:
            if ".tmp-" in path.name:
                for inside in (path, *(path.rglob("*") if path.is_dir() else ())):
                    assert self.safe.get(inside) == content(inside), f"{inside} is not safe when it gets its name"
            self.note("rename", target)
            return original(path, target)

        return rename

    def note(self, what: str, path: Path) -> None:
        name = "." if path == self.root else path.name.split(".tmp-")[0].split(".old-")[0]
        self.events.append(f"{what} {name}{' (old)' if '.old-' in path.name else ''}")


def content(path: Path) -> bytes | tuple[str, ...]:
    return tuple(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else path.read_bytes()


def fill(folder: Path, text: str) -> None:
    (folder / "weights").write_text(text)
    (folder / "inner").mkdir()
    (folder / "inner" / "more").write_text(text)


def test_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch, tmp_path)
    with publish_folder(tmp_path / "new") as temporary:
        fill(temporary, "1")
    verify(tmp_path / "new")
    assert watch.events[-2:] == ["rename new", "sync ."], "the name is safe when the function returns"


def test_a_folder_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with publish_folder(tmp_path / "model") as temporary:
        fill(temporary, "1")
    watch = Watch(monkeypatch, tmp_path)
    with publish_folder(tmp_path / "model") as temporary:
        fill(temporary, "2")
    assert watch.events[-4:] == ["rename model (old)", "rename model", "sync .", "remove model (old)"]
    assert (tmp_path / "model" / "weights").read_text() == "2"


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch, tmp_path)
    write_text(tmp_path / "a.txt", "1")
    with write_atomically(tmp_path / "a.txt") as temporary:
        temporary.write_text("2")
    assert watch.events == ["sync a.txt", "rename a.txt", "sync ."] * 2


def test_the_watch_sees_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuyan.store._sync_file", lambda path: None)
    Watch(monkeypatch, tmp_path)
    with pytest.raises(AssertionError, match="is not safe"), publish_folder(tmp_path / "new") as temporary:
        fill(temporary, "1")


def test_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begin(toy_corpus(tmp_path / "shards"))
    watch = Watch(monkeypatch, tmp_path)
    state.save(tmp_path / "00000000")
    assert watch.events[-2:] == ["rename 00000000", "sync ."]
    assert {"sync weights.safetensors", "sync optimizer.safetensors", "sync state.json"} < set(watch.events)


def test_a_replacement_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with publish_folder(tmp_path / "model") as temporary:
        fill(temporary, "1")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if ".tmp-" in path.name:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(KeyboardInterrupt), publish_folder(tmp_path / "model") as temporary:
        fill(temporary, "2")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    verify(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "1"

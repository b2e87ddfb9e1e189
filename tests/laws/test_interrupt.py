"""Ctrl-C, SIGTERM and SIGHUP in every phase: one line, nothing half-written, and the command it names goes on (row T11)."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from toy_runs import ROOT, STORIES, TRAIN, command, outcome, remains

from yuyan.commands.interrupt import stop_on_signal
from yuyan.console import interruptible, left_running

LADDER = ["ladder", str(STORIES), "--rungs", "unigram,bigram", "--budget", "10s"]


def patched(monkeypatch: pytest.MonkeyPatch, place: str, before: Callable[[], None]) -> None:
    """Let `before` happen whenever the function at `place` (module:name.name) is called."""
    module, _, name = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, leaf = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, leaf)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        before()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, leaf, wrapper)


def only_line(said: str) -> str:
    """The one message of a command that was stopped."""
    assert "Traceback" not in said
    assert said.count("yuyan: ") == 1, said
    return said[said.index("yuyan: ") :]


def command_named(message: str) -> list[str]:
    words = shlex.split(message.splitlines()[-1])
    assert words[0] == "yuyan", message
    return words[1:]


def without_clock(ladder: dict[str, Any]) -> list[Any]:
    return [[rung[key] for key in ("name", "bits_per_byte", "interval", "samples")] for rung in ladder["rungs"]]


# ---------------------------------------------------------------- every phase

LADDER_PHASES = {
    "looking at the files": ("yuyan.text.pipeline:look_at_parts", 1),
    "cleaning": ("yuyan.text.parallel:clean_batch", 1),
    "splitting": ("yuyan.text.pipeline:split_random", 1),
    "the data's report": ("yuyan.text.pipeline:data_report", 1),
    "training the tokenizer": ("yuyan.commands.corpus:train_tokenizer", 1),
    "sharding": ("yuyan.corpus.shard:_Writer.add", 20),
    "counting": ("yuyan.commands.ladder:NGram.fit", 2),
    "measuring": ("yuyan.commands.ladder:measure", 3),
    "samples": ("yuyan.commands.ladder:samples", 2),
    "the report": ("yuyan.commands.ladder:ladder_page", 1),
}
TRAIN_PHASES = {
    "choosing threads, loading": ("yuyan.commands.session:newest_checkpoint", 1),
    "measuring the best model": ("yuyan.commands.session:model_card", 1),
    "the report": ("yuyan.commands.reports:report_of", 1),
    "while a second Ctrl-C comes": ("yuyan.train.checkpoint:save_file", 4),
}
SLOW = ("looking at the files", "splitting", "the data's report", "samples", "choosing threads, loading", "SIGHUP")


def cases(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, place: str, call: int, times: int = 1) -> Callable[[], int]:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    patched(monkeypatch, place, count)
    return lambda: calls


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The ladder that nobody interrupted."""
    out = tmp_path_factory.mktemp("ladders") / "straight"
    assert command(*LADDER, "--out", str(out)) == 0
    found: dict[str, Any] = json.loads((out / "ladder.json").read_text())
    return found


@pytest.mark.parametrize("phase", cases(LADDER_PHASES))
def test_a_ladder_stopped_in(
    phase: str,
    tmp_path: Path,
    ladder: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a ladder"
    with pytest.MonkeyPatch.context() as broken:
        calls = interrupt_at(broken, *LADDER_PHASES[phase])
        assert command(*LADDER, "--out", str(out)) == 130
        assert calls() == LADDER_PHASES[phase][1], "stopped at once"
    message = only_line(capsys.readouterr().err)
    assert remains(tmp_path) == []
    assert not (out / "lock").exists()
    if "nothing was written" in message:
        assert list(tmp_path.iterdir()) == []
        again = [*LADDER, "--out", str(out)]
    else:
        assert "stopped; what is done is kept. To go on:\n" in message
        again = command_named(message)
    assert command(*again) == 0
    assert without_clock(json.loads((out / "ladder.json").read_text())) == without_clock(ladder)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run that nobody interrupted."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert command(*TRAIN, "--out", str(out)) == 0
    return outcome(out)


@pytest.mark.parametrize("phase", cases(TRAIN_PHASES))
def test_a_run_stopped_in(
    phase: str,
    tmp_path: Path,
    straight: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a run"
    with pytest.MonkeyPatch.context() as broken:
        interrupt_at(broken, *TRAIN_PHASES[phase], times=2)
        assert command(*TRAIN, "--out", str(out)) == 130
    message = only_line(capsys.readouterr().err)
    assert remains(tmp_path) == []
    assert not (out / "lock").exists()
    assert command(*command_named(message)) == 0
    assert outcome(out) == straight


@pytest.mark.parametrize("name", cases(["SIGINT", "SIGTERM", "SIGHUP"]))
def test_a_signal_while_training_finishes_the_step_and_saves(
    name: str,
    tmp_path: Path,
    straight: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, calls = tmp_path / "run", 0

    def once() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # two micro-batches a step: in the middle of the third
            signal.raise_signal(getattr(signal, name))

    with pytest.MonkeyPatch.context() as broken:
        patched(broken, "yuyan.train.learner:Learner.forward", once)
        assert command(*TRAIN, "train.micro_tokens=64", "--out", str(out)) == 130
    message = only_line(capsys.readouterr().err)
    assert message.startswith(f"yuyan: stopped by {name} after step 3, all saved. To go on:\n")
    assert [folder.name for folder in (out / "state").iterdir()] == ["00000003"]
    assert command(*command_named(message)) == 0
    assert "going on from step 3" in capsys.readouterr().err
    assert [r["step"] for r in outcome(out)["log"]] == [r["step"] for r in straight["log"]]


def test_what_was_ignored_stays_ignored() -> None:
    """`nohup yuyan train ...` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
            signal.raise_signal(signal.SIGTERM)
            assert stop.signal == "SIGTERM"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_caught() -> None:
    handler, said = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop_on_signal() as stop:
            said.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ctrl_c_does_not_wait_for_a_library_that_never_looks() -> None:
    assert interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)
    assert not left_running()
    go_on = threading.Event()
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        interruptible(lambda: go_on.wait(60))
    assert left_running()
    go_on.set()


# ---------------------------------------------------------------- real processes


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "yuyan", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def when(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begun < 300
        time.sleep(0.01)


def children(of: int) -> set[int]:
    """Processes whose parent is `of`, from /proc."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == of:
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
def test_a_real_process_that_cleans_leaves_no_other_process(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(STORIES.read_bytes() * 60)  # enough for several processes
    process = started("data", str(text), "--out", str(tmp_path / "out"), "--set", "processes=2")
    when(process, lambda: len(children(process.pid)) >= 2)
    workers = children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert only_line(said) == "yuyan: stopped\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["text.txt"]
    begun = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # one that was just starting ends by itself
        assert time.monotonic() - begun < 100
        time.sleep(0.05)


def test_ctrl_c_of_the_real_command_and_the_command_it_names(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = started(*TRAIN, "train.steps=2000", "--out", str(out))
    log = out / "log.jsonl"
    when(process, lambda: log.exists() and log.read_bytes().count(b"\n") > 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    message = only_line(said)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert f"after step {steps[-1]}, all saved" in message
    assert (out / "state" / f"{steps[-1]:08d}" / "manifest.json").exists()
    assert not (out / "lock").exists()
    process = started(*command_named(message))
    when(process, lambda: log.read_bytes().count(b"\n") > len(steps) + 2)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert f"going on from step {steps[-1]}" in said
    assert process.returncode == 130, said

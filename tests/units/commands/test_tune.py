"""The search: its ranges, what it does with trials, and that it goes on after a kill. Real trials are in the slow test."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3.dbapi2
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import toy_tasks
from toy_runs import CONFIG, SETTINGS, refused, tree

from yuyan.commands.run import read_run_config
from yuyan.commands.tune import Order, _Search, tune_command
from yuyan.config import read_yaml
from yuyan.errors import ConfigError, InputError, Interrupted
from yuyan.evaluate.study import study_page

RANGES = """
tune:
  train.optimizer.lr: {log: [1.0e-4, 1.0e-1]}
  model.num_layers: {int: [1, 3]}
  train.optimizer.kind: {choice: [adamw, sgd]}
"""


@pytest.fixture(autouse=True)
def no_waiting_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite syncs after every step of a trial; nothing is lost here but by a power cut."""
    connect = sqlite3.dbapi2.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(sqlite3.dbapi2, "connect", connected)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    text = CONFIG.read_text(encoding="utf-8").replace("stories.txt", str(CONFIG.parent / "stories.txt"))
    (tmp_path / "c.yaml").write_text(text + RANGES, encoding="utf-8")
    return tmp_path / "c.yaml"


class Fake:
    """In the place of a training process: a look a poll, whose score depends on the rate alone."""

    started: ClassVar[list[list[str]]] = []
    kill_in: ClassVar[int | None] = None
    accuracy: ClassVar[bool] = False
    """Whether the measure is one of which more is better."""

    def __init__(self, words: list[str], log: Any):
        self.words, self.returncode, self.looks, self.stopped = words, 0, 0, False
        self.folder = Path(words[words.index("--out") + 1])
        self.folder.mkdir(exist_ok=True)
        self.rate = read_yaml(Path(words[4]))[0]["train"]["optimizer"]["lr"]
        (self.folder / "run.yaml").write_text("{}")
        (self.folder / "log.jsonl").write_text("")
        Fake.started.append(words)
        if len(Fake.started) == Fake.kill_in:
            raise KeyboardInterrupt

    def poll(self) -> int | None:
        if self.looks == 5 or self.stopped:
            return 0
        self.looks += 1
        score = 2.0 + abs(math.log10(self.rate / 3e-3)) + 1 / self.looks
        with (self.folder / "log.jsonl").open("a") as log:
            seen: dict[str, Any] = {"validation": {"bits_per_byte": score}}
            if Fake.accuracy:
                seen = {"validation": {"accuracy": 1 / score, "f1_macro": 0.5}}
            log.write(json.dumps({"step": self.looks, **seen}) + "\n")
        return None

    def terminate(self) -> None:
        self.stopped = True

    def wait(self) -> int:
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr("yuyan.commands.tune._launched", Fake)
    monkeypatch.setattr("yuyan.commands.tune.LOOK_EVERY", 0.0)
    monkeypatch.setattr(Fake, "started", [])
    monkeypatch.setattr(Fake, "kill_in", None)
    monkeypatch.setattr(Fake, "accuracy", False)
    return Fake


def search(config: Path, trials: int, **more: Any) -> dict[str, Any]:
    return tune_command(config, list(SETTINGS), config.parent / "out", Order(trials, **more))


def test_it_finds_prunes_and_writes_a_config_to_train(config: Path, fake: type[Fake]) -> None:
    pytest.importorskip("optuna")
    best = search(config, 9)
    assert 3e-4 < best["train.optimizer.lr"] < 3e-2
    kept = read_run_config(config.parent / "out" / "best.yaml")
    assert kept.train.optimizer.lr == best["train.optimizer.lr"] and not kept.tune
    assert kept.train.optimizer.kind == best["train.optimizer.kind"]
    assert kept.model.num_layers == best["model.num_layers"]  # type: ignore[union-attr]
    assert kept.data.sources == read_run_config(config).data.sources, "the text itself, not what was prepared of it"
    page = (config.parent / "out" / "tune.html").read_text()
    assert "pruned" in page and "complete" in page and page.count("<svg") > 2
    assert len(fake.started) == 9
    search(config, 9)
    assert len(fake.started) == 9, "nothing is left to do"


def test_of_accuracy_more_is_better(config: Path, fake: type[Fake], capsys: pytest.CaptureFixture[str]) -> None:
    """A task is searched as everything else is, but its measures are to be high."""
    pytest.importorskip("optuna")
    fake.accuracy = True
    best = search(config, 9)
    assert 3e-4 < best["train.optimizer.lr"] < 3e-2
    rows = [line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("│ ") and "0." in line]
    found = [float(row[3]) for row in rows]
    assert found == sorted(found, reverse=True) and 0 < found[-1] < found[0] < 0.5
    assert "Accuracy" in (config.parent / "out" / "tune.html").read_text()


def test_a_page_names_keys_as_they_are_and_all_else_in_the_language() -> None:
    trials = [
        {"trial": 0, "state": "complete", "value": 2.5, "train.optimizer.lr": 0.00443037},
        {"trial": 1, "state": "pruned", "value": None, "train.optimizer.lr": 0.1},
    ]
    study = {"title": "诗", "measure": "bits_per_byte", "trials": trials, "importance": {}, "best": "name: 诗"}
    page = study_page(study, "zh")
    assert all(text in page for text in ("train.optimizer.lr", "0.00443", "完成", "提前停止", "每字节比特数", "状态"))
    assert not any(text in page for text in ("complete", "pruned", "bits_per_byte", "训练集"))


@pytest.mark.slow
def test_a_task_is_searched(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    path = toy_tasks.config(tmp_path, toy_tasks.moods(tmp_path / "moods.jsonl"), "{kind: classify}")
    path.write_text(path.read_text() + "tune: {train.optimizer.lr: {choice: [1.0e-7, 3.0e-3]}}\n")
    best = tune_command(path, ["train.epochs=8", "evaluate.every=16"], tmp_path / "out", Order(4, pruner="none"))
    assert best == {"train.optimizer.lr": 3e-3}


def test_a_search_goes_on_with_the_trial_that_was_under_way(config: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("optuna")
    monkeypatch.setattr(Fake, "kill_in", 3)
    with pytest.raises(KeyboardInterrupt):
        search(config, 5, pruner="none")
    monkeypatch.setattr(Fake, "kill_in", None)
    monkeypatch.setattr(Fake, "accuracy", False)
    search(config, 5, pruner="none")
    folders = [Path(words[words.index("--out") + 1]).name for words in fake.started]
    assert folders == ["0000", "0001", "0002", "0002", "0003", "0004"]
    assert "--resume" not in fake.started[2] and fake.started[3][-1] == "--resume"
    settings = [read_yaml(Path(words[4]))[0]["train"]["optimizer"] for words in fake.started]
    assert settings[2] == settings[3], "with the settings it had"


def test_no_trial_begins_when_the_time_is_up(config: Path, fake: type[Fake]) -> None:
    pytest.importorskip("optuna")
    search(config, 50, seconds=1e-9)
    assert len(fake.started) == 1


def test_what_cannot_be_searched(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("optuna")
    for line, said in (
        ("train.optimizer.lrr: {log: [1.0e-4, 1.0e-1]}", r"c.yaml:\d+: train.optimizer.lrr: unknown key; did you mean 'lr'"),
        ("train.clip: {log: [0.0, 1.0]}", "train.clip: log goes from a number above 0 to a larger one"),
        ("train.clip: {int: [0.5, 1.0]}", "train.clip: int takes the lowest and the highest whole number"),
        ("train.clip: {choice: [1.0]}", "a choice is between two values"),
        ("train.clip: {logg: [1.0, 2.0]}", "tune.train.clip"),
        ("model.dropout: {uniform: [-1.0, 0.5]}", "model.dropout: input should be greater than or equal to 0"),
        ("model.dropout: {uniform: [0.0, 1.5]}", "model.dropout: input should be less than 1; got 1.5"),
        ("model.num_layers: {uniform: [1, 4]}", "model.num_layers: input should be a valid integer"),
        ("train.optimizer.kind: {choice: [adamw, adamz]}", "train.optimizer.kind: expected one of .*; got 'adamz'"),
        ("train.schedule.floor: {choice: [0.1, 2.0]}", "train.schedule.floor: input should be less than or equal to 1"),
    ):  # fmt: skip
        config.write_text(config.read_text().partition("tune:")[0] + f"tune:\n  {line}\n")
        refused(capsys, "tune", str(config), "--out", str(config.parent / "out"), said=said)
        assert "out" not in tree(config.parent)
    config.write_text(config.read_text().partition("tune:")[0])
    refused(capsys, "tune", str(config), said="say which keys to search")
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused(capsys, "tune", str(config), said=r"pip install 'yuyan\[tune\]'")


def test_a_key_of_some_kinds_is_drawn_for_these(config: Path, fake: type[Fake]) -> None:
    """Momentum is a setting of Muon and of SGD; a trial with AdamW has none, and goes on."""
    pytest.importorskip("optuna")
    text = config.read_text().replace("[adamw, sgd]", "[adamw, muon]")
    config.write_text(text + "  train.optimizer.momentum: {uniform: [0.8, 0.97]}\n")
    search(config, 8, pruner="none")
    chosen = [read_yaml(Path(words[4]))[0]["train"]["optimizer"] for words in fake.started]
    assert {optimizer["kind"] for optimizer in chosen} == {"adamw", "muon"}
    for optimizer in chosen:
        assert ("momentum" in optimizer) == (optimizer["kind"] == "muon")
        assert 0.8 <= optimizer.get("momentum", 0.9) <= 0.97
    config.write_text(text + "  train.optimizer.beta3: {uniform: [0.8, 0.97]}\n")
    with pytest.raises(ConfigError, match=r"train\.optimizer\.beta3: unknown key"):
        tune_command(config, [], config.parent / "second", Order(2))


def test_why_trials_failed_is_said(
    config: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    trained = _Search._trained

    def some(self: _Search, trial: Any) -> float | None:
        if trial.number in fails:
            raise InputError("model: hidden_size 64 cannot be divided among 3 heads")
        return trained(self, trial)

    monkeypatch.setattr(_Search, "_trained", some)
    fails = {0, 1}
    with pytest.raises(InputError, match="no trial came to its end: 2 trials failed: model: hidden_size 64 cannot"):
        search(config, 2)
    search(config, 4)
    assert "warning: 2 trials failed: model: hidden_size 64 cannot be divided" in capsys.readouterr().err
    assert "failed: model: hidden_size 64 cannot be" in (config.parent / "out" / "tune.html").read_text()


def test_another_search_is_refused_and_failing_trials_end_it(config: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("optuna")
    search(config, 1)
    config.write_text(config.read_text().replace("[1, 3]", "[1, 4]"))
    with pytest.raises(InputError, match=r"a search with another tune.model.num_layers"):
        search(config, 2)
    config.write_text(config.read_text().replace("{int: [1, 4]}", "{choice: [1, 2]}").replace("tiny-gpt", "other"))
    monkeypatch.setattr("yuyan.commands.tune._Search._with", lambda *_, **__: (_ for _ in ()).throw(InputError("no")))
    with pytest.raises(InputError, match="the first 3 trials failed: no"):
        tune_command(config, list(SETTINGS), config.parent / "second", Order(9))


@pytest.mark.slow
def test_killed_in_a_real_trial_and_gone_on(config: Path) -> None:
    """kill -9 of the search in its second trial; the trial it leaves behind ends by itself, and the search goes on."""
    pytest.importorskip("optuna")
    out = config.parent / "out"
    words = [sys.executable, "-m", "yuyan", "tune", str(config), *SETTINGS, "--trials", "3", "--out", str(out)]
    first = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (out / "trials" / "0001" / "log.jsonl").exists():
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, "it was over before it was killed"
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (out / "trials").iterdir() if p.is_dir()) == ["0000", "0001", "0002"]
    read_run_config(out / "best.yaml")


def test_stopped_by_a_signal_it_says_how_to_go_on(config: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("optuna")

    def poll(self: Fake) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Fake, "poll", poll)
    with pytest.raises(
        Interrupted,
        match=r"(?s)stopped by SIGTERM in trial 0. To go on:\n  yuyan tune .*c.yaml .* --trials 5 --budget 90s --out .*out$",
    ):
        search(config, 5, seconds=90.0)

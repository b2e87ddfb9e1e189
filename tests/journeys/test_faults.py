"""Faults around a run: places that vanish, two who want one folder, a run that would go on as another, clocks and customs.

Rows T9, T10, T13, T14, T24 and T25 of the fault list.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_runs import CONFIG, SETTINGS, STORIES, TRAIN, command, outcome, refused, remains, tree

from yuyan.train.learner import Learner


def at_pass(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], Any]) -> None:
    """Something happens in the middle of training: at this pass through the network."""
    original, count = Learner.forward, [0]

    def forward(self: Learner, batch: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            happens()
        return original(self, batch)

    monkeypatch.setattr(Learner, "forward", forward)


# ---------------------------------------------------------------- a place that cannot be written (T9)


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "no permission to write here"), (errno.EROFS, "the disk is read-only"), (errno.EIO, "error")],
    ids=lambda each: errno.errorcode.get(each, "") if isinstance(each, int) else "",
)
def test_a_place_that_refuses_is_found_before_anything_is_done(
    number: int, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_bytes

    def refuse(path: Path, data: Any) -> int:
        if path.name.startswith("probe"):
            raise OSError(number, os.strerror(number))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    refused(capsys, *TRAIN, "--out", "run", code=1, said=f"^yuyan: run: cannot be written: .*{said}", place=here)


def test_a_disk_that_fails_for_a_while(
    here: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writing fails (EIO) while a state is saved: the run goes on, and ends as if nothing had been."""
    sync, failing = os.fsync, [False]

    def fail(descriptor: int) -> None:
        if failing[0] and threading.current_thread().name == "saving":  # which may come to it some passes later
            failing[0] = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    at_pass(monkeypatch, 5, lambda: failing.__setitem__(0, True))
    assert command(*TRAIN, "--out", "run") == 0
    assert (
        "warning: run/state/00000006: cannot be written: Input/output error; training goes on"
        in capsys.readouterr().err
    )
    assert outcome(here / "run") == outcome(run)
    assert remains(here) == []


def test_states_that_are_deleted_under_way(here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_pass(monkeypatch, 8, lambda: shutil.rmtree("run/state"))
    assert command(*TRAIN, "--out", "run") == 0
    assert outcome(here / "run") == outcome(run)


def test_a_run_that_is_deleted_under_way(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It trains to its end and its states are written; the text to measure it by is gone, which is one clear line."""
    at_pass(monkeypatch, 8, lambda: shutil.rmtree("run"))
    assert command(*TRAIN, "--out", "run") == 2
    said = capsys.readouterr().err
    assert "warning: run/log.jsonl: cannot be written: No such file or directory" in said
    assert "Traceback" not in said and said.splitlines()[-1].startswith("yuyan: run/data/"), said
    assert sorted(entry.name for entry in (here / "run" / "state").iterdir()) == ["00000015", "00000016"]


# ---------------------------------------------------------------- two trainers, one folder (T10)


def test_a_folder_in_use_is_refused_and_a_dead_ones_taken_over(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, here / "run")
    shutil.rmtree(here / "run" / "state" / "00000016")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (here / "run" / "lock").write_text(json.dumps({"pid": other.pid, "host": socket.gethostname()}))
        said = f"run: in use by process {other.pid} on {socket.gethostname()}; wait for it or stop it"
        refused(capsys, *TRAIN, "--out", "run", "--resume", said=said, place=here)
    finally:
        other.kill()
        other.wait()
    assert command(*TRAIN, "--out", "run", "--resume") == 0
    assert outcome(here / "run") == outcome(run)
    assert not (here / "run" / "lock").exists()


# ---------------------------------------------------------------- going on as another run (T13, T14)

OTHERS = {
    "batch": ("train.batch_tokens=256", r"train\.batch_tokens: 128 there, 256 here"),
    "length": ("train.context=16", r"train\.context: 32 there, 16 here"),
    "schedule": ("train.schedule={kind: cosine}", r"train\.schedule\.\w+: .* there"),
    "rate": ("train.optimizer.lr=0.1", r"train\.optimizer\.lr: .* or --allow-change train\.optimizer\.lr"),
    "seed": ("seed=1", "seed: 0 there, 1 here"),
    "dimensions": ("model.hidden_size=64", r"model\.hidden_size: 32 there, 64 here"),
    "layers": ("model.num_layers=3", r"model\.num_layers: 2 there, 3 here"),
    "tokenizer": ("tokenizer.vocab_size=400", r"tokenizer\.vocab_size: 512 there, 400 here"),
    "objective": ("objective.kind=prefix_lm", r"objective\.kind: "),
    "data": ("data.section_characters=200", r"data\.section_characters: 300 there, 200 here"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_run_goes_on_only_as_what_it_was(
    case: str, here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, here / "run")
    setting, said = OTHERS[case]
    refused(
        capsys, *TRAIN, setting, "--out", "run", "--resume", said=f"cannot go on as another run: .*{said}", place=here
    )


@pytest.mark.parametrize("setting", ["model.hidden_size=64", "model.num_layers=3"])
def test_a_state_of_other_dimensions_is_refused_by_its_shapes(
    setting: str, here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the config was changed with it."""
    shutil.copytree(run, here / "run")
    key, _, value = setting.removeprefix("model.").partition("=")
    config = here / "run" / "run.yaml"
    lines = config.read_text().splitlines()
    changed = [f"{line.partition(':')[0]}: {value}" if line.strip().startswith(f"{key}:") else line for line in lines]
    assert changed != lines
    config.write_text("\n".join(changed) + "\n")
    before = tree(here / "run" / "state")
    assert command("train", "run/run.yaml", "--out", "run", "--resume") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("yuyan: run/state/00000016: belongs to another model: ")
    assert tree(here / "run" / "state") == before


def test_another_tokenizer_is_refused_by_its_content(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the same size, in the place of the one that the run began with."""
    shutil.copytree(run, here / "run")
    text = STORIES.read_text(encoding="utf-8")
    (here / "other.txt").write_text(text.replace("a", "\0").replace("e", "a").replace("\0", "e"), encoding="utf-8")
    assert command(*TRAIN, "train.steps=1", "data.sources=[other.txt]", "--out", "other") == 0
    shutil.rmtree(here / "run" / "tokenizer")
    shutil.copytree(here / "other" / "tokenizer", here / "run" / "tokenizer")
    refused(capsys, *TRAIN, "--out", "run", "--resume", said="tokenizer")


# ---------------------------------------------------------------- clocks, customs, places (T24, T25)


def test_a_clock_that_jumps_changes_nothing(here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day ahead, then two back; the seconds of the log never fall."""
    wall, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall() + ahead[0])
    at_pass(monkeypatch, 5, lambda: ahead.__setitem__(0, 86_400.0))
    at_pass(monkeypatch, 9, lambda: ahead.__setitem__(0, -86_400.0))
    assert command(*TRAIN, "--out", "run") == 0
    assert outcome(here / "run") == outcome(run)
    log = [json.loads(line) for line in (here / "run" / "log.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in log]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] < 600


CUSTOMS = [
    {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "0"},
    {"TZ": "America/Adak", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "9"},
    {"TZ": "UTC", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONHASHSEED": "5"},
]


@pytest.mark.slow
@pytest.mark.parametrize("customs", CUSTOMS, ids=lambda each: each["LC_ALL"])
def test_time_zone_language_and_hash_seed_change_nothing(customs: dict[str, str], here: Path, run: Path) -> None:
    words = [sys.executable, "-m", "yuyan", *TRAIN, "--out", "run"]
    done = subprocess.run(words, env={**os.environ, **customs}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert outcome(here / "run") == outcome(run)


def test_the_order_in_which_a_folder_lists_its_files_changes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the working folder, and text that another run has prepared before."""
    lines = STORIES.read_text(encoding="utf-8").splitlines(keepends=True)
    (here / "texts").mkdir()
    for number in range(4):
        (here / "texts" / f"{number}.txt").write_text("".join(lines[number * 40 : number * 40 + 40]), encoding="utf-8")
    words = ("train", str(CONFIG), *SETTINGS, f"data.sources=[{here / 'texts'}]")
    assert command(*words, "--out", "cold") == 0
    expected = outcome(here / "cold")
    (here / "elsewhere").mkdir()
    with monkeypatch.context() as turned:
        turned.chdir(here / "elsewhere")
        for owner, name in ((Path, "iterdir"), (Path, "rglob"), (Path, "glob"), (os, "listdir")):
            turned.setattr(owner, name, backwards(getattr(owner, name)))
        assert command(*words, "--out", "turned") == 0
    assert outcome(here / "elsewhere" / "turned") == expected
    warm = [*words[:-1], "data={prepared: cold/data}"]
    assert command(*warm, "--out", "warm") == 0
    assert outcome(here / "warm") == expected


def backwards(listing: Callable[..., Any]) -> Callable[..., Any]:
    def turned(*arguments: Any, **options: Any) -> Any:
        found = sorted(listing(*arguments, **options), reverse=True)
        return found if listing.__name__ == "listdir" else iter(found)

    return turned

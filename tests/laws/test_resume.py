"""A run that was stopped and went on is, bit for bit, the run that never stopped (rows T1, T2, T4, T5, T7 of the fault list)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import CONFIG, MODELS, SETTINGS, Toy, advance, begin, differences, outcome, plain, remains, toy_corpus

from yuyan.commands.corpus import make_corpus
from yuyan.commands.made import MADE
from yuyan.commands.provenance import provenance
from yuyan.commands.run import read_run_config
from yuyan.commands.train import run_training, train_command
from yuyan.errors import InputError
from yuyan.store import write_json
from yuyan.tasks.language_model import LanguageModel
from yuyan.train import Adafactor, AdamW, Averaging, Ema, Muon, OptimizerConfig, Polynomial, Sgd
from yuyan.train.optimizer import Rates

STEPS = 14


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards")


# ---------------------------------------------------------------- in one process


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model", sorted(MODELS))
def test_stopped_anywhere_and_resumed(toy: Toy, tmp_path: Path, model: str, dtype: torch.dtype) -> None:
    straight = begin(toy, model, dtype)
    updates = advance(straight, STEPS, STEPS)
    state = straight.batches.state_dict()
    end_of_epoch = state["rows_per_epoch"] // 6
    assert end_of_epoch * 6 < state["rows_per_epoch"] < state["rows"] - 6, "the run crosses an epoch within an update"
    stops = (0, 1, 5, end_of_epoch, end_of_epoch + 1, STEPS - 1, STEPS)
    for stop in stops if dtype == torch.float32 else stops[1::2]:
        first = begin(toy, model, dtype)
        before = advance(first, stop, STEPS)
        first.save(tmp_path / str(stop))
        torch.manual_seed(12345)  # what a new process has instead of the old one's random state
        second = begin(toy, model, dtype)
        second.load(tmp_path / str(stop))
        assert differences(first, second) == []
        after = advance(second, STEPS, STEPS)
        assert [plain(u) for u in before + after] == [plain(u) for u in updates], f"stopped at {stop}"
        assert differences(straight, second) == [], f"stopped at {stop}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model", ["lstm", "nplm"])
def test_stopped_and_resumed_with_a_carried_state(toy: Toy, tmp_path: Path, model: str, dtype: torch.dtype) -> None:
    straight = begin(toy, model, dtype, carry=True)
    updates = advance(straight, STEPS, STEPS)
    end_of_epoch = straight.batches.state_dict()["rows_per_epoch"] // 6
    assert 1 < end_of_epoch < STEPS - 1
    plainly = advance(begin(toy, model, dtype), STEPS, STEPS)
    assert [u.loss for u in plainly] != [u.loss for u in updates], "the rows are others"
    for stop in (1, 4, end_of_epoch, STEPS - 1):
        first = begin(toy, model, dtype, carry=True)
        advance(first, stop, STEPS)
        first.save(tmp_path / str(stop))
        second = begin(toy, model, dtype, carry=True)
        second.load(tmp_path / str(stop))
        after = advance(second, STEPS, STEPS)
        assert [plain(u) for u in after] == [plain(u) for u in updates[stop:]], f"stopped at {stop}"
        assert differences(straight, second) == [], f"stopped at {stop}"


OPTIMIZERS = (Muon(lr=1e-2), Sgd(lr=0.5), Sgd(momentum=0.0), Adafactor(), AdamW(rates=Rates(vector=0.0)))


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("ema", [None, Ema(decay=0.8), Polynomial(power=2)], ids=["last", "average", "polynomial"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: f"{config.kind}")
def test_stopped_and_resumed_with_any_optimizer(
    toy: Toy, tmp_path: Path, model: str, optimizer: OptimizerConfig, ema: Averaging | None
) -> None:
    dtype = torch.float32 if model == "lstm" else torch.bfloat16
    straight = begin(toy, model, dtype, optimizer=optimizer, ema=ema)
    updates = advance(straight, 6, 6)
    for stop in (0, 1, 4):
        first = begin(toy, model, dtype, optimizer=optimizer, ema=ema)
        before = advance(first, stop, 6)
        with first.shown():  # a look at the validation text leaves no trace
            pass
        first.save(tmp_path / str(stop))
        second = begin(toy, model, dtype, optimizer=optimizer, ema=ema)
        second.load(tmp_path / str(stop))
        after = advance(second, 6, 6)
        assert [plain(u) for u in before + after] == [plain(u) for u in updates], f"stopped at {stop}"
        assert differences(straight, second) == [], f"stopped at {stop}"


def test_the_exported_model_is_the_average(tmp_path: Path) -> None:
    train(
        "train.average={kind: ema, decay: 0.9}", "evaluate.every=16", "train.precision=bfloat16", out=tmp_path / "run"
    )
    average = load_file(tmp_path / "run" / "state" / "00000016" / "optimizer.safetensors")
    exported = dict(LanguageModel.load(tmp_path / "run" / "model").network.named_parameters())  # type: ignore[union-attr]
    assert all(torch.equal(average[f"average/model.{name}"], p) for name, p in exported.items())


def test_saving_changes_nothing(toy: Toy, tmp_path: Path) -> None:
    straight = begin(toy)
    updates = advance(straight, 6, 6)
    saved, found = begin(toy), []
    for step in range(1, 7):
        found += advance(saved, step, 6)
        saved.save(tmp_path / str(step))
    assert [plain(u) for u in found] == [plain(u) for u in updates]
    assert differences(straight, saved) == []


def test_dropout_draws_and_the_run_learns(toy: Toy) -> None:
    """Without this the law above could hold for a run in which nothing happens."""
    state = begin(toy)
    batch = state.batches.update(0)[0]  # type: ignore[attr-defined]
    state.learner.train()
    first, second = (state.learner(batch).total.sum().item() for _ in range(2))
    assert first != second, "dropout draws anew"
    state.learner.eval()
    assert state.learner(batch).total.sum().item() == state.learner(batch).total.sum().item()
    losses = [update.loss for update in advance(state, 60, 60)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_state_of_other_data_or_another_model_is_refused(toy: Toy, tmp_path: Path) -> None:
    state = begin(toy)
    advance(state, 2, 4)
    state.save(tmp_path / "state")
    with pytest.raises(InputError, match="other data: rows an epoch: 69 there, 137 here"):
        begin(toy, context=12).load(tmp_path / "state")
    with pytest.raises(InputError, match="belongs to another model"):
        begin(toy, "lstm").load(tmp_path / "state")


# ---------------------------------------------------------------- a whole run, killed

LAUNCHER = """
# Runs `yuyan train` again and again until it is through, each time in a new process; each dies of SIGKILL at a given call
# of the file system (counted from its start), which the last one, 0, never reaches.
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from yuyan.cli import main
import yuyan.commands.train
folder, kills, command = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]

def counted(function, calls=[0]):
    def wrapper(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapper

for at in kills:
    child = os.fork()
    if child == 0:
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        for name in ("write_text", "rename", "replace", "mkdir"):
            setattr(Path, name, counted(getattr(Path, name)))
        going_on = ["--resume"] if (folder / "run.yaml").exists() else []
        sys.argv = ["yuyan", "train", *command, "--out", str(folder), *going_on]
        main()
    status = os.waitpid(child, 0)[1]
    print(json.dumps([at, os.waitstatus_to_exitcode(status)]), flush=True)
"""


def train(*settings: str, out: Path, resume: bool = False) -> None:
    train_command(read_run_config(CONFIG, [*SETTINGS, *settings]), out, resume=resume)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that all others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    train(out=out)
    return out


def killed_at_calls(folder: Path, kills: list[int]) -> list[int]:
    """Exit codes of the processes, one for each call to be killed at."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(folder), json.dumps(kills), str(CONFIG), *SETTINGS],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line)[1] for line in done.stdout.splitlines()]


def test_killed_while_writing(tmp_path: Path, uninterrupted: Path) -> None:
    """At calls of the file system from the first to those of the last checkpoint, then left alone."""
    kills = [1, 40, 110, 61, 0]
    codes = killed_at_calls(tmp_path / "run", kills)
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) >= 4, codes
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    assert remains(tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_while_writing_everywhere(tmp_path: Path, uninterrupted: Path, seed: int) -> None:
    draw = random.Random(seed)
    codes = killed_at_calls(tmp_path / "run", [*(draw.randint(1, 200) for _ in range(12)), 0])
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) >= 5, codes
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    assert remains(tmp_path / "run") == []


def start(folder: Path) -> subprocess.Popen[str]:
    """`python -m yuyan train` in a process of its own, going on if there is something to go on with."""
    going_on = ["--resume"] if (folder / "run.yaml").exists() else []
    return subprocess.Popen(
        [sys.executable, "-m", "yuyan", "train", str(CONFIG), *SETTINGS, "--out", str(folder), *going_on],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_killed_while_training(tmp_path: Path, uninterrupted: Path) -> None:
    """kill -9 of the real command, soon after its seventh line in the log; then it goes on."""
    folder, log = tmp_path / "run", tmp_path / "run" / "log.jsonl"
    process = start(folder)
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 7):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
    finished(start(folder))
    assert outcome(folder) == outcome(uninterrupted)


@pytest.mark.slow
def test_killed_at_random_times(tmp_path: Path, uninterrupted: Path) -> None:
    """kill -9 at 24 random moments of the wall clock, from the import of the program to its last report."""
    draw, kills, number = random.Random(7), 0, 0
    begun = time.monotonic()
    finished(start(tmp_path / "measure"))
    duration = time.monotonic() - begun
    while kills < 24:
        folder, number = tmp_path / str(number), number + 1
        for _ in range(6):
            process = start(folder)
            try:
                process.wait(timeout=draw.uniform(0.2, 1.1) * duration)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            finally:
                process.communicate()
        finished(start(folder))
        assert outcome(folder) == outcome(uninterrupted), f"run {number}"
        assert remains(folder) == []


# ---------------------------------------------------------------- what a resumed run finds


def test_a_finished_run_that_goes_on_stays_as_it_is(tmp_path: Path, uninterrupted: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    train(out=tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


@pytest.mark.parametrize("damage", ["cut", "flip", "append", "no manifest", "gone", "stale lock and leftovers"])
def test_damage_is_found_and_the_older_checkpoint_gives_the_same_run(
    tmp_path: Path, uninterrupted: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    newest = folder / "state" / "00000016"
    weights = newest / "weights.safetensors"
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        weights.write_bytes(content[:5000] + bytes([content[5000] ^ 4]) + content[5001:])
    elif damage == "append":
        weights.write_bytes(content + b"\0" * 40)
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        shutil.rmtree(newest)
    if damage == "stale lock and leftovers":
        sleeper = subprocess.Popen([sys.executable, "-c", ""])
        sleeper.wait()
        (folder / "lock").write_text(json.dumps({"pid": sleeper.pid, "host": os.uname().nodename}))
        (folder / "state" / "00000016.tmp-77").mkdir()
        (folder / "model").rename(folder / "model.old-77")  # killed between the two renames of a replacement
    train(out=folder, resume=True)
    said = capsys.readouterr().err
    assert "going on from step 15" in said
    assert ("damaged" in said and "going back to" in said) == (newest.name in said)
    assert (newest.name in said) == (damage not in ("gone", "stale lock and leftovers"))
    assert outcome(folder) == outcome(uninterrupted)
    assert remains(folder) == []


def test_a_run_on_a_text_that_lies_elsewhere_is_rid_of_leftovers_too(tmp_path: Path) -> None:
    """The rungs of a ladder share one text, so that nobody has looked into their folders before."""
    config = read_run_config(CONFIG, [*SETTINGS, "train.steps=2", "evaluate.every=2"])
    rung = tmp_path / "rung"
    (rung / "model.tmp-77").mkdir(parents=True)
    write_json(rung / MADE, provenance())
    run_training(config, rung, make_corpus(config, tmp_path / "text"))
    assert remains(rung) == []


def test_patience_survives_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks without a better one are counted over all sessions."""
    settings = (
        "evaluate.every=1",
        "evaluate.patience=4",
        "train.optimizer.lr=0.5",
        "train.steps=60",
        "train.save_steps=1",
    )
    train(*settings, out=tmp_path / "straight")
    straight = outcome(tmp_path / "straight")
    last = straight["log"][-1]["step"]
    assert 4 < last < 60, "it stopped early"
    shutil.copytree(tmp_path / "straight", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state" / f"{last:08d}")  # it goes on from the step before
    train(*settings, out=tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == straight
    train(*settings, out=tmp_path / "run", resume=True)  # and a run that has stopped early takes no step more
    assert outcome(tmp_path / "run") == straight

"""Losses that are no number, losses that stand out, data that do not come, memory that is used up (rows T18, T19, T21, T23)."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toy_runs import CONFIG, TRAIN, Toy, advance, begin, command, differences, plain, toy_corpus

from yuyan.commands.runlog import RunLog
from yuyan.commands.session import Session
from yuyan.commands.watch import Watch
from yuyan.corpus import Batches
from yuyan.corpus.batch import DataHangs
from yuyan.objectives import Batch, Loss
from yuyan.train import Diverged, PlainStep, Plan, WarmupStableDecay
from yuyan.train.checkpoint import Saver
from yuyan.train.learner import Learner
from yuyan.train.spikes import Spikes
from yuyan.train.step import OutOfMemory


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards")


def spoiled(monkeypatch: pytest.MonkeyPatch, calls: range, row: int = 1) -> None:
    """In these training passes the loss of one row is not a number."""
    original, count = Learner.forward, [0]

    def forward(self: Learner, batch: Batch) -> Loss:
        loss = original(self, batch)
        if self.training:
            count[0] += 1
            if count[0] in calls:
                loss = loss._replace(total=torch.where(torch.arange(len(loss.total)) == row, torch.nan, loss.total))
        return loss

    monkeypatch.setattr(Learner, "forward", forward)


def test_a_skipped_step_changes_no_weight_and_names_the_row(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begin(toy)
    step = PlainStep(Plan(steps=9), WarmupStableDecay())
    step(state, state.batches.update(0))  # type: ignore[attr-defined]
    before = {name: p.detach().clone() for name, p in state.weights.masters.items()}
    memory = {name: state.optimizer.state[p]["exp_avg"].clone() for name, p in state.weights.masters.items()}
    spoiled(monkeypatch, range(2, 3))
    update = step(state, state.batches.update(6))  # type: ignore[attr-defined]
    assert update.skipped and (state.step, state.skipped, state.streak) == (2, 1, 1)
    assert step.suspects == [3 + 1], "the second row of the second micro-batch of three"
    for name, master in state.weights.masters.items():
        assert torch.equal(master, before[name])
        assert torch.equal(state.optimizer.state[master]["exp_avg"], memory[name])
    assert not step(state, state.batches.update(12)).skipped and state.streak == 0  # type: ignore[attr-defined]


def test_the_policy_stop_stops_at_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begin(toy)
    spoiled(monkeypatch, range(1, 2))
    with pytest.raises(Diverged, match=r"step 1: .* not a number .*train.non_finite"):
        PlainStep(Plan(steps=9), WarmupStableDecay(), non_finite="stop")(state, state.batches.update(0))  # type: ignore[attr-defined]


def test_a_streak_survives_a_stop(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begin(toy)
    spoiled(monkeypatch, range(1, 100))
    advance(state, 4, 30)
    state.save(tmp_path / "state")
    second = begin(toy)
    second.load(tmp_path / "state")
    with pytest.raises(Diverged, match="step 10: 10 losses"):
        advance(second, 30, 30)


def test_a_run_that_comes_to_no_number_goes_back_to_its_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as broken:
        spoiled(broken, range(8 + 6, 100))  # six passes measure the threads, or none
        assert command(*TRAIN, "train.steps=30", "--out", str(folder)) == 1
    said = capsys.readouterr().err
    last = max(int(entry.name) for entry in (folder / "state").iterdir())
    records = [json.loads(line) for line in (folder / "bad_batches.jsonl").read_text().splitlines()]
    assert len(records) == 10 and last < records[0]["step"] <= last + 3
    assert f"The state of step {last} is good" in said and "--allow-change train.optimizer.lr" in said
    rows = records[0]["rows"]
    assert len(rows) == 1 and len(rows[0]["text"]) > 5 and {"epoch", "index"} <= rows[0].keys()
    going_on = (*TRAIN, "train.steps=30", "train.optimizer.lr=0.001", "--out", str(folder), "--resume")
    assert command(*going_on) == 2
    assert "--allow-change train.optimizer.lr" in capsys.readouterr().err
    assert command(*going_on, "--allow-change", "train.context") == 2
    assert "cannot change within a run" in capsys.readouterr().err
    assert command(*going_on, "--allow-change", "train.optimizer.lr") == 0
    rates = [
        r["learning_rate"] for r in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if "loss" in r
    ]
    assert max(rates[last:]) <= 0.001 < max(rates[:last])


def test_spikes_are_found_and_not_learnt() -> None:
    draw = np.random.default_rng(0)
    losses = [3.0 + 0.1 * float(x) for x in draw.normal(size=200)]
    spikes = Spikes(6.0)
    assert [spikes.see(loss) for loss in losses] == [None] * 200
    for _ in range(300):
        found = spikes.see(30.0)
        assert found is not None and 200 < found < 400
    assert spikes.see(3.1) is None and spikes.see(float("nan")) is None
    assert Spikes(6.0, [3.0] * 10).see(30.0) is None, "ten losses say little"


@pytest.mark.slow
def test_a_garbage_batch_leaves_no_trace(toy: Toy) -> None:
    """Row T19: after a batch of noise the run is soon where it would have been."""

    def loss_after(garbage: bool) -> float:
        state = begin(toy)
        step, found = PlainStep(Plan(steps=240), WarmupStableDecay()), []
        for number in range(240):
            group = state.batches.update(6 * number)  # type: ignore[attr-defined]
            if garbage and number == 40:
                for batch in group:
                    batch["labels"] = torch.randint(0, len(toy.tokenizer), batch["labels"].shape)
            found.append(step(state, group).loss)
        return sum(found[-20:]) / 20

    assert loss_after(True) == pytest.approx(loss_after(False), rel=0.05)


class Broken:
    """Rows of which number 20 raises, or never comes."""

    length = 8
    batch = None

    def __init__(self, release: threading.Event | None = None):
        self.release = release

    def __len__(self) -> int:
        return 24

    def rows(self, epoch: int, indices: Any) -> Any:
        if 20 in list(indices):
            if self.release is None:
                raise OSError("the disk is gone")
            self.release.wait(30)
        return np.zeros((len(indices), 9), dtype=np.int64)


def test_data_that_fail_or_hang_say_where() -> None:
    with pytest.raises(OSError, match="gone") as failed:
        list(zip(Batches(Broken(), batch_rows=4, seed=0), range(9), strict=False))
    assert failed.value.__notes__ == ["while reading rows 20 to 23 of epoch 0"]
    release = threading.Event()
    with pytest.raises(DataHangs, match="0 s, while reading rows 20 to 23 of epoch 0"):
        list(zip(Batches(Broken(release), batch_rows=4, seed=0, patience=0.2), range(9), strict=False))
    release.set()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_memory_that_is_used_up(toy: Toy, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    state = begin(toy)

    def forward(self: Learner, batch: Batch) -> Loss:
        raise error

    monkeypatch.setattr(Learner, "forward", forward)
    with pytest.raises(OutOfMemory, match=r"step 1: out of memory with 3 rows, 72 tokens, .*train.micro_tokens=36"):
        PlainStep(Plan(steps=9), WarmupStableDecay())(state, state.batches.update(0))  # type: ignore[attr-defined]


def test_skips_are_repeated_bit_for_bit(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        spoiled(broken, range(5, 7))
        straight = begin(toy)
        updates = advance(straight, 8, 8)
    with monkeypatch.context() as broken:
        spoiled(broken, range(5, 7))
        first = begin(toy)
        before = advance(first, 3, 8)
        first.save(tmp_path / "state")
    second = begin(toy)
    second.load(tmp_path / "state")
    after = advance(second, 8, 8)
    assert [str(plain(u)) for u in before + after] == [str(plain(u)) for u in updates]
    assert differences(straight, second) == []
    assert [u.skipped for u in updates].count(True) == 1


def test_only_the_process_that_writes_says_what_is_good() -> None:
    """Another one counts a step as saved that the first one may have failed to write."""
    session = SimpleNamespace(leads=False, _attempt=lambda write: True, saver=Saver(), step_saved=3)
    assert "step 3" not in Session.last_good(session)  # type: ignore[arg-type]
    session.leads, session.folder = True, Path("runs/mine")
    assert "The state of step 3 is good" in Session.last_good(session)  # type: ignore[arg-type]


def test_a_resumed_run_compares_with_the_losses_that_were_compared_with_before(toy: Toy, tmp_path: Path) -> None:
    """Those that stood out are not among them."""
    state, log = begin(toy), RunLog(tmp_path)
    live = Spikes(6.0)
    for number in range(200):
        loss = 50.0 if number >= 70 else 3.0 + 0.01 * (number % 7)
        found = live.see(loss)
        log.write({"step": number, "loss": loss} | ({} if found is None else {"spike": found}))
    watch = Watch(tmp_path, state.batches, toy.tokenizer, log, 6.0)  # type: ignore[arg-type]
    updates = watch.updates(state, PlainStep(Plan(steps=1), WarmupStableDecay()))
    next(updates)
    assert watch.spikes is not None
    assert live.see(50.0) == watch.spikes.see(50.0)
    assert live.see(50.0) is not None


def test_a_run_that_never_gave_a_number_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = ("train.steps=3", "train.optimizer={kind: sgd, lr: 1.0e+20}")
    assert command(*TRAIN, *lost, "--out", str(tmp_path / "run")) == 1
    assert "no look at the validation text gave a number, so no model was kept" in capsys.readouterr().err


def test_blocks_that_are_not_there_cannot_be_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lstm = ("train", str(CONFIG).replace("gpt", "lstm"), "train.steps=1", "train.context=16")
    assert command(*lstm, "train.activation_checkpointing=true", "--out", str(tmp_path / "run")) == 2
    assert "train.activation_checkpointing: for attention blocks, and this network has none" in capsys.readouterr().err

"""What a run says of its speed and memory, and a micro-batch that it finds itself."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
import toy_tasks
from toy_runs import command

from yuyan.train import CLOCKS

CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "gpt.yaml"
SETTINGS = ("train.steps=3", "train.context=16", "train.batch_tokens=64", "train.threads=1", "evaluate.tokens=100")


def test_speed_and_memory_are_logged_and_rows_are_chosen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    more = ("train.micro_tokens=auto", "train.activation_checkpointing=true")
    assert command("train", str(CONFIG), *SETTINGS, *more, "--out", str(out)) == 0
    updates = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert len(updates) == 3
    for update in updates:
        assert 0 < update["mfu"] < 1
        assert 0 <= update["waited"] <= update["step_seconds"]
        assert update["memory"] > 1_000_000
    made = json.loads((out / "made.json").read_text())
    assert made["micro_rows"]["chosen"] in (1, 2, 4)
    assert made["matrix_products"]["threads"] == 1
    assert "memory: about" in capfd.readouterr().err


def test_looks_come_after_so_many_updates_in_a_run_by_the_clock_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count(0.0, 0.5)
    monkeypatch.setitem(CLOCKS, "wall", lambda: next(seconds))
    settings = (*SETTINGS[1:], "train.steps=null", "train.budget=3s", "evaluate.every=2")
    assert command("train", str(CONFIG), *settings, "--out", str(tmp_path / "run")) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "validation" in record] == [2, 4, 6]


@pytest.mark.parametrize("name", ["t5", "electra"])
def test_two_sides_and_two_networks_have_a_share_of_the_processor(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = str(CONFIG.with_name(f"{name}.yaml"))
    assert command("train", config, "train.steps=2", "train.threads=1", "evaluate.tokens=100", "--out", str(out)) == 0
    updates = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert len(updates) == 2 and all(0 < update["mfu"] < 1 for update in updates)


@pytest.mark.parametrize(
    ("task", "model"),
    [("{kind: classify}", "bert"), ("{kind: rewrite}", "gpt"), ("{kind: rewrite}", "seq2seq")],
)
def test_a_task_has_a_share_of_the_processor(task: str, model: str, tmp_path: Path) -> None:
    data = (toy_tasks.moods if "classify" in task else toy_tasks.pairs)(tmp_path / "data.jsonl")
    config = toy_tasks.config(tmp_path, data, task, f"{{kind: {model}, hidden_size: 48, num_layers: 1}}")
    assert command("train", str(config), "train.epochs=1", "--out", str(tmp_path / "run")) == 0
    shares = of_log(tmp_path / "run")
    assert shares and all(0 < share < 1 for share in shares)


def test_records_have_a_share_of_the_processor(tmp_path: Path) -> None:
    """Answers to learn, and pairs of which one is preferred."""
    base, short = tmp_path / "gpt", ("train.steps=2", "train.threads=1", "evaluate.tokens=100")
    assert command("train", str(CONFIG), *short, "train.context=160", "--out", str(base)) == 0
    for name in ("instruct", "preference"):
        config, out = str(CONFIG.with_name(f"{name}.yaml")), tmp_path / name
        assert command("train", config, *short, f"model.path={base}", "--out", str(out)) == 0
        shares = of_log(out)
        assert len(shares) == 2 and all(0 < share < 1 for share in shares)


def of_log(run: Path) -> list[float]:
    """The shares of a run's updates."""
    return [json.loads(line)["mfu"] for line in (run / "log.jsonl").read_text().splitlines() if '"loss"' in line]

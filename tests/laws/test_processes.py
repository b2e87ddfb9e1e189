"""One process, two or four, each with all weights or a part of each: the same losses, gradient norms and weights.

The batches are so uneven that a mean of means would be far off, and so few that each process cuts its part differently.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import all_together, free_port, together
from safetensors.torch import load_file
from toy_processes import run_to, toy_corpus_for
from toy_runs import CONFIG, SETTINGS, remains

from yuyan.store import newest_checkpoint
from yuyan.tasks.language_model import LanguageModel

Cut = tuple[int, str, int]  # processes, how the weights are held, rows of a micro-batch
WHOLE: Cut = (1, "ddp", 8)


def check(
    out: Path, model: str, cuts: list[Cut], also: dict[str, Any] | None = None, rounding: float = 1e-6, **more: Any
) -> None:
    """Each of the `cuts` is what one process is with the whole batch; `also` is added to theirs, `more` to all.

    Losses may differ by `rounding`; where it is that of bfloat16 a weight may have gone the other way at each of its steps.
    """
    jobs: list[tuple[int, str, dict[str, Any]]] = [
        (size, "toy_processes.trained",
         {"out": str(out), "name": f"{number}", "model": model, "kind": kind, "micro_rows": rows, **more, **(also or {} if number else {})})
        for number, (size, kind, rows) in enumerate((WHOLE, *cuts))
    ]  # fmt: skip
    ended = all_together(out, jobs)
    assert ended[0].codes == [0], ended[0].said
    expected, weights = ended[0].results[0], load_file(out / "0.safetensors")
    assert expected[0]["gradient_norm"] > 0.1, "clipping is at work"
    for number, one in enumerate(ended[1:], 1):
        assert set(one.codes) == {0}, one.said
        for found in one.results:
            for ours, theirs in zip(found, expected, strict=True):
                assert (ours["step"], ours["count"], ours["tokens"]) == (
                    theirs["step"], theirs["count"], theirs["tokens"])  # fmt: skip
                assert ours["loss"] == pytest.approx(theirs["loss"], rel=rounding)
                assert ours["shown"] == pytest.approx(theirs["shown"], rel=rounding)
                assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=20 * rounding)
        got = load_file(out / f"{number}.safetensors")
        assert got.keys() == weights.keys()
        for name, tensor in weights.items():
            near = 2e-5 if rounding < 1e-5 else 2 * 3 * 1e-2
            torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=near, msg=lambda m, n=name: f"{n}: {m}")


def test_two_processes(tmp_path: Path) -> None:
    check(tmp_path, "gpt", [(2, "ddp", 2), (2, "fsdp", 4)], ema=0.8)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_two_and_four_processes(tmp_path: Path, model: str) -> None:
    """8 x 1, 4 x 2, 1 x 8 rows in all, over processes."""
    cuts: list[Cut] = [(1, "fsdp", 1), (2, "ddp", 4), (2, "ddp", 1), (2, "fsdp", 1), (4, "ddp", 2), (4, "fsdp", 1)]
    check(tmp_path, model, cuts)


MUON = {"kind": "muon", "lr": 1e-2, "precision": "float32"}
WAYS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": MUON},
    "muon, gates of a cell": {"optimizer": MUON, "model": "lstm"},
    "sgd": {"optimizer": {"kind": "sgd", "lr": 0.5, "weight_decay": 0.1, "nesterov": True}},
    "adafactor": {"optimizer": {"kind": "adafactor", "weight_decay": 0.1}},
    "penalties": {"l1": 0.01, "l2": 0.1},
    "padding": {"also": {"padded": True}},
    "bfloat16": {"dtype": "bfloat16", "rounding": 2e-3},
    "bfloat16, a cell": {"dtype": "bfloat16", "rounding": 2e-3, "model": "lstm"},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_in(tmp_path: Path, way: str) -> None:
    """What needs a weight as a whole, or goes past the optimizer; and rows that are padded as rows that are not."""
    check(tmp_path, **{"model": "gpt", "cuts": [(2, "ddp", 2), (2, "fsdp", 4)], **WAYS[way]})


# ---------------------------------------------------------------- a state of any number of processes


def stages(folder: Path, parts: list[tuple[int, str, int]], of: int = 8, **more: Any) -> tuple[list[float], list[Any]]:
    """A run in parts, each by so many processes up to an update, each going on from the state of the one before."""
    toy_corpus_for(folder)
    jobs: list[tuple[int, str, dict[str, Any]]] = [
        (size, "toy_processes.run_to",
         {"folder": str(folder), "until": until, "of": of, "kind": kind, "load": number > 0, **more})
        for number, (size, kind, until) in enumerate(parts)
    ]  # fmt: skip
    losses, rows = [], []
    for ended, (size, _, _) in zip(all_together(folder / "out", jobs), parts, strict=True):
        assert ended.codes == [0] * size, ended.said
        assert all(each == ended.results[0] for each in ended.results)
        losses += ended.results[0]["losses"]
        rows += ended.results[0]["rows"]
    return losses, rows


def check_stages(folder: Path, parts: list[tuple[int, str, int]], **more: Any) -> None:
    (folder / "straight").mkdir()
    toy_corpus_for(folder / "straight")
    alone = run_to(str(folder / "straight"), until=8, of=8, kind="ddp", load=False, **more)
    straight, rows = alone["losses"], json.loads(json.dumps(alone["rows"]))
    found, read = stages(folder / "parts", parts, **more)
    assert read == rows, "the same rows at every update"
    assert found == pytest.approx(straight, rel=1e-6)
    expected, got = (load_file(folder / name / "end.safetensors") for name in ("straight", "parts"))
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_one_process_then_two_with_parts_then_one(tmp_path: Path) -> None:
    check_stages(tmp_path, [(1, "ddp", 3), (2, "fsdp", 5), (1, "ddp", 8)])


@pytest.mark.slow
@pytest.mark.parametrize("parts", [
    [(2, "ddp", 3), (1, "ddp", 8)], [(2, "fsdp", 3), (4, "fsdp", 6), (1, "fsdp", 8)],
    [(2, "fsdp", 3), (2, "ddp", 6), (4, "fsdp", 8)], [(4, "ddp", 4), (2, "fsdp", 8)],
], ids=str)  # fmt: skip
def test_any_number_of_processes_goes_on(tmp_path: Path, parts: list[tuple[int, str, int]]) -> None:
    check_stages(tmp_path, parts)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [MUON, {"kind": "adafactor"}, {"kind": "sgd"}], ids=lambda each: each["kind"])
def test_what_an_optimizer_remembers_goes_on_in_any_number(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    """And the average of the weights with it."""
    check_stages(tmp_path, [(2, "fsdp", 3), (1, "ddp", 5), (2, "fsdp", 8)], optimizer=optimizer, ema=0.8)


# ---------------------------------------------------------------- a process that is lost


@pytest.mark.parametrize(
    "how", ["dies", pytest.param("fails", marks=pytest.mark.slow), pytest.param("hangs", marks=pytest.mark.slow)]
)
def test_a_lost_process_is_named(tmp_path: Path, how: str) -> None:
    ended = together(tmp_path, 2, "toy_processes.lost", how=how, timeout=3.0)
    told = ended.results[0]
    expected = {"dies": r"rank 0 stops: rank 1 died \(process \d+ on ", "fails": "rank 1 stopped: page 7 is missing",
                "hangs": "rank 1 does not answer"}[how]  # fmt: skip
    assert re.search(expected, told["said"]), told
    assert told["after"] < 9, "in time"


TOGETHER = (
    "train.batch_tokens=256",
    "train.precision=float32",
    "model.dropout=0",
    "train.parallel.kind=auto",
    "train.parallel.timeout=120",
)


def under_torchrun(folder: Path, *more: str, processes: int = 2, restarts: int = 0) -> subprocess.Popen[str]:
    """`yuyan train` in several processes, as a user starts them."""
    own = [word for word in SETTINGS if not word.startswith(("train.batch_tokens", "model.dropout", "train.threads"))]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", str(restarts),
         "--master-port", str(free_port()), "-m", "yuyan", "train", str(CONFIG), *own, *TOGETHER, *more, "--out", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def started_by_hand(folder: Path, rank: int, port: int, *more: str) -> subprocess.Popen[str]:
    """One of two processes, without `torchrun`, which would end the others when one is dead."""
    own = [word for word in SETTINGS if not word.startswith(("train.batch_tokens", "model.dropout", "train.threads"))]
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": port, "OMP_NUM_THREADS": 1}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "yuyan", "train", str(CONFIG), *own, *TOGETHER, *more, "--out", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **{k: str(v) for k, v in names.items()}},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_command_names_the_dead_one(tmp_path: Path, kind: str) -> None:
    """In time, also where both were about to save; what was saved before is whole."""
    folder, port, more = tmp_path / "run", free_port(), (f"train.parallel.kind={kind}", "train.save_steps=1")
    first, second = (started_by_hand(folder, rank, port, "train.steps=2000", *more) for rank in (0, 1))
    log = folder / "log.jsonl"
    while first.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 7):
        time.sleep(0.01)
    second.kill()
    killed = time.monotonic()
    said, _ = first.communicate(timeout=600)
    second.communicate()
    assert first.returncode == 1, said
    assert f"rank 0 stops: rank 1 died (process {second.pid} on " in said, said
    assert "Traceback" not in said
    assert time.monotonic() - killed < 60, "in time"
    found = newest_checkpoint(folder / "state")
    assert found.folder is not None and not found.rejected, "a whole state to go on with"


# ---------------------------------------------------------------- other objectives

TINY = CONFIG.parent
SMALL = (
    "train.steps=8", "train.context=32", "train.batch_tokens=128", "train.save_steps=5", "evaluate.every=4",
    "evaluate.tokens=300", "train.precision=float32",
)  # fmt: skip
NARROW = (
    "model.hidden_size=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.dropout=0",
    "tokenizer.vocab_size=300",
)


def reported(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "reports" / "00000008.json").read_text())
    return {part: {k: v for k, v in report[part].items() if isinstance(v, float)} for part in ("validation", "test")}


def in_processes(size: int, out: Path, *words: str) -> dict[str, Any]:
    launcher = (
        []
        if size == 1
        else ["torch.distributed.run", "--nproc-per-node", str(size), "--master-port", str(free_port()), "-m"]
    )
    done = subprocess.run([sys.executable, "-m", *launcher, "yuyan", "train", *words, *SMALL, "--out", str(out)],
                          capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return reported(out)


def same(found: dict[str, Any], expected: dict[str, Any], rel: float) -> bool:
    return all(found[part] == pytest.approx(expected[part], rel=rel) for part in expected)


@pytest.mark.slow
def test_preferences_in_two_processes(tmp_path: Path) -> None:
    """Records, a pair of them for each loss, and a second network to compare with."""
    in_processes(1, tmp_path / "gpt", str(TINY / "gpt.yaml"), *NARROW)
    words = (str(TINY / "preference.yaml"), f"model.path={tmp_path / 'gpt'}", "data.records.too_long=truncate")
    alone = in_processes(1, tmp_path / "one", *words)
    assert alone["validation"]["preference_loss"] < 0.69
    for kind in ("ddp", "fsdp"):
        assert same(in_processes(2, tmp_path / kind, *words, f"train.parallel.kind={kind}"), alone, 1e-3), kind


@pytest.mark.slow
def test_a_generator_and_a_model_in_two_processes(tmp_path: Path) -> None:
    """Each process draws other replacements than one alone would, but those do not depend on how the weights are held."""
    words = (str(TINY / "electra.yaml"), *NARROW)
    whole, parts = (in_processes(2, tmp_path / kind, *words, f"train.parallel.kind={kind}") for kind in ("ddp", "fsdp"))
    assert same(parts, whole, 1e-5)


def measured(folder: Path) -> list[float]:
    found = [r["validation"]["bits_per_byte"] for r in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
             if "validation" in r]  # fmt: skip
    report = json.loads((folder / "reports" / "00000016.json").read_text())
    return [*found, report["validation"]["bits_per_byte"], report["test"]["bits_per_byte"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_process_killed_and_started_again_by_torchrun(tmp_path: Path, kind: str) -> None:
    """The same command, two processes, one of them killed in mid-run; the model is the one of a run by one process."""
    command = ("train", str(CONFIG), *SETTINGS, *TOGETHER, "--out", str(tmp_path / "one"))
    assert subprocess.run([sys.executable, "-m", "yuyan", *command], check=False).returncode == 0
    folder = tmp_path / "two"
    process = under_torchrun(folder, f"train.parallel.kind={kind}", "train.save_steps=2", restarts=2)
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 7):
        time.sleep(0.01)
    victim = next(pid for pid in children(process.pid) if "RANK=1" in environment(pid))
    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    assert re.search(rf"exitcode: -9\) local_rank: 1 \(pid: {victim}\)", said), "torchrun names the dead one"
    assert "going on from step" in said, said
    assert measured(folder) == pytest.approx(measured(tmp_path / "one"), rel=1e-5)
    assert LanguageModel.load(folder / "model").network is not None
    assert remains(folder) == [] and not (folder / "lock").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")

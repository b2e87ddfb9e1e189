"""Where a run is computed changes nothing but rounding: on another device (`away.py`) as on the processor, and resumed there.

That every tensor of a run is on one device, and comes back to be measured, saved and exported, is what this shows; how a
GPU rounds, how fast it is, and what is computed by CUDA alone (recurrent networks), it cannot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from away import there, times_waited
from safetensors.torch import load_file
from toy_runs import ROOT, outcome
from toy_tasks import config as task_config
from toy_tasks import moods, pairs

from yuyan.commands.made import noted
from yuyan.commands.run import RunConfig, read_run_config
from yuyan.commands.train import train_command
from yuyan.errors import ConfigError
from yuyan.train.device import CPU, choose_device

STEPS = 6
TINY = ROOT / "configs" / "tiny"
LENGTH = ("train.context=32", "train.batch_tokens=128", f"train.steps={STEPS}", "train.save_steps=4")
SETTINGS = (*LENGTH, "train.threads=1", "train.precision=float32", "evaluate.every=3", "evaluate.tokens=300")  # fmt: skip
SMALL = (
    "model.hidden_size=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.dropout=0.1",
    "tokenizer.vocab_size=300",
)
NPLM = "model={kind: nplm, hidden_size: 16, embedding_size: 16}"
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "next_token": ("gpt", SMALL),
    "documents apart": ("gpt", (*SMALL, "train.documents=apart", "train.activation_checkpointing=true")),
    "bfloat16": ("gpt", (*SMALL, "train.precision=bfloat16", "train.average={kind: ema}")),
    "muon": ("gpt", (*SMALL, "train.optimizer={kind: muon, lr: 0.01}", "train.micro_tokens=32")),
    "adafactor": ("gpt", (*SMALL, "train.optimizer={kind: adafactor, lr: 0.01}", "train.penalty={l2: 0.001}")),
    "nplm": ("gpt", (NPLM, "tokenizer.vocab_size=300", "train.carry_state=true")),
    "sampled": ("gpt", (*SMALL, "objective={kind: next_token, softmax: {kind: sampled, negatives: 50}}")),
    "masked_token": ("bert", SMALL),
    "replaced_token": ("electra", SMALL),
    "span_corruption": ("t5", SMALL),
    "contrastive": ("contrastive", (*SMALL, "data.records.too_long=truncate")),
}
TASKS = {
    "classify": "{kind: classify}",
    "translate": "{kind: translate}",
}


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with there() as device:
        monkeypatch.setattr("yuyan.commands.train.choose_device", lambda wanted: CPU if wanted == "cpu" else device)
        monkeypatch.setattr("yuyan.commands.pace.SIZE_ON_GPU", 64)
        yield device


def config_of(name: str, folder: Path) -> RunConfig:
    if name in TASKS:
        data = (moods if name == "classify" else pairs)(folder / "data.jsonl")
        model = "{kind: t5, hidden_size: 32, num_layers: 1, num_heads: 2}" if name == "translate" else None
        given = (folder, data, TASKS[name]) + (() if model is None else (model,))
        return read_run_config(
            task_config(*given),
            ["train.epochs=null", f"train.steps={STEPS}", "train.save_steps=4", "train.precision=float32"],
        )
    file, settings = CASES[name]
    return read_run_config(TINY / f"{file}.yaml", [*SETTINGS, *settings])


def on(device: str, config: RunConfig) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"device": device})})


def results(folder: Path) -> tuple[list[float], dict[str, torch.Tensor], Any]:
    """Losses of the updates, exported weights, the scores of the report."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    report = json.loads((folder / "reports" / f"{STEPS:08d}.json").read_text(encoding="utf-8"))
    return (
        [r["loss"] for r in records if "loss" in r],
        load_file(folder / "model" / "model.safetensors"),
        report["validation"],
    )


OFTEN = ("next_token", "bfloat16", "muon", "replaced_token", "classify", "translate")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in OFTEN]


@pytest.mark.parametrize("name", [*OFTEN, *SLOW])
def test_as_on_the_processor(name: str, tmp_path: Path, away: torch.device) -> None:
    config = config_of(name, tmp_path)
    train_command(on("cpu", config), tmp_path / "here", resume=False)
    waited = times_waited()
    train_command(config, tmp_path / "there", resume=False)
    assert times_waited() > waited and noted(tmp_path / "there")["matrix_products"]["device"] == "away"
    losses, weights, score = results(tmp_path / "there")
    wanted_losses, wanted_weights, wanted_score = results(tmp_path / "here")
    tolerance = 2e-2 if config.train.precision == "bfloat16" else 1e-4
    assert len(losses) == STEPS and losses == pytest.approx(wanted_losses, rel=tolerance)
    assert weights.keys() == wanted_weights.keys()
    for key, tensor in weights.items():
        torch.testing.assert_close(
            tensor, wanted_weights[key], rtol=10 * tolerance, atol=10 * tolerance, msg=lambda m, k=key: f"{k}: {m}"
        )
    for key, value in score.items():
        if isinstance(value, float):
            assert value == pytest.approx(wanted_score[key], rel=10 * tolerance), key


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "adafactor", *(pytest.param(n, marks=pytest.mark.slow) for n in ("muon", "nplm", "replaced_token"))],
)
def test_stopped_and_resumed_there(name: str, tmp_path: Path, away: torch.device) -> None:
    config = config_of(name, tmp_path)
    train_command(config, tmp_path / "straight", resume=False)
    shutil.copytree(tmp_path / "straight", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state" / f"{STEPS:08d}")
    torch.manual_seed(99)
    train_command(config, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_a_run_goes_on_elsewhere(tmp_path: Path, away: torch.device) -> None:
    config = config_of("next_token", tmp_path)
    train_command(config, tmp_path / "run", resume=False)
    wanted, weights, _ = results(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state" / f"{STEPS:08d}")
    train_command(on("cpu", config), tmp_path / "run", resume=True)
    losses, found, _ = results(tmp_path / "run")
    assert losses == pytest.approx(wanted, rel=1e-4)
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, weights[key], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
@pytest.mark.parametrize("name", ["next_token", "documents apart", "muon", "nplm", "masked_token", "span_corruption"])
def test_as_on_the_processor_on_a_gpu(name: str, tmp_path: Path) -> None:
    config = config_of(name, tmp_path)
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})  # a GPU drops others
    found = []
    for device in ("cpu", "cuda"):
        train_command(on(device, config), tmp_path / device, resume=False)
        found.append(results(tmp_path / device))
    assert noted(tmp_path / "cuda")["matrix_products"]["device"] == torch.cuda.get_device_name()
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    for key, tensor in found[1][1].items():
        torch.testing.assert_close(tensor, found[0][1][key], rtol=1e-2, atol=1e-2)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    config = read_run_config(TINY / "gpt.yaml", [*SETTINGS, *SMALL, "train.device=cuda"])
    with pytest.raises(ConfigError, match=r"train\.device: cuda, but PyTorch finds no GPU here"):
        train_command(config, tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0) and choose_device("cpu") == CPU
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="3 processes on this machine, which has 2 GPUs"):
        choose_device("cuda")

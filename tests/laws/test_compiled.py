"""Compiled blocks compute what plain ones do; they are taken only where they are faster, and never stop a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_objectives import Letters
from toy_runs import ROOT, command

from yuyan.errors import ConfigError
from yuyan.models.presets import T5, Bert, Gpt, Lstm
from yuyan.objectives import Batch, MaskedToken, NextToken, SpanCorruption
from yuyan.train import Learner
from yuyan.train import compile as module
from yuyan.train.compile import compile_blocks, try_compiled
from yuyan.train.recompute import blocks_of, recompute_blocks

SIZES: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
NETWORKS: dict[str, tuple[Any, Any]] = {
    "gpt": (Gpt(**SIZES), NextToken()),
    "bert": (Bert(**SIZES), MaskedToken().build(Letters())),
    "t5": (T5(**SIZES), SpanCorruption().build(Letters())),
}
TRAIN = (
    "train", str(ROOT / "configs" / "tiny" / "gpt.yaml"), "train.steps=3", "train.context=16", "train.batch_tokens=64",
    "train.threads=1", "evaluate.tokens=100",
)  # fmt: skip


def batch(name: str) -> Batch:
    ids = torch.randint(5, 50, (3, 17), generator=torch.Generator().manual_seed(0))
    real = torch.arange(16)[None] < torch.tensor([16, 9, 12])[:, None]
    labels = ids[:, 1:].masked_fill(~real, -100)
    if name == "gpt":
        return {"input_ids": ids[:, :-1], "labels": labels}
    more = {"decoder_input_ids": ids[:, :-1]} if name == "t5" else {}
    return {"input_ids": ids[:, :-1], "attention_mask": real, "labels": labels, **more}


def learned(learner: Learner, name: str) -> tuple[float, dict[str, Tensor]]:
    learner.zero_grad()
    loss = learner(batch(name)).total.sum()
    loss.backward()
    return float(loss.detach()), {n: p.grad.float() for n, p in learner.named_parameters() if p.grad is not None}


def same(learner: Learner, name: str, backend: str, tolerance: float) -> None:
    loss, gradients = learned(learner, name)
    undo = compile_blocks(blocks_of(learner), backend)
    other, others = learned(learner, name)
    assert other == pytest.approx(loss, rel=tolerance)
    assert gradients.keys() == others.keys()
    norms = [float(torch.stack([g.norm() for g in each.values()]).norm()) for each in (gradients, others)]
    assert norms[1] == pytest.approx(norms[0], rel=tolerance)
    undo()
    assert learned(learner, name)[0] == loss


@pytest.mark.parametrize(("name", "again"), [("gpt", False), ("t5", False), ("bert", True)])
def test_compiled_blocks_learn_the_same(name: str, again: bool) -> None:
    preset, objective = NETWORKS[name]
    learner = Learner(preset.build(50, seed=0), objective).train()
    if again:
        recompute_blocks(learner)
    same(learner, name, "aot_eager", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_machine_code_learns_the_same(name: str, dtype: torch.dtype) -> None:
    preset, objective = NETWORKS[name]
    learner = Learner(preset.build(50, seed=0).to(dtype), objective).train()
    same(learner, name, "inductor", 1e-5 if dtype == torch.float32 else 2e-2)


def test_only_passes_with_gradients_are_compiled() -> None:
    learner = Learner(NETWORKS["gpt"][0].build(50, seed=0), NextToken()).train()
    seen = []

    def backend(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        seen.append(graph)
        return graph.forward

    compile_blocks(blocks_of(learner), backend)  # type: ignore[arg-type]
    with torch.no_grad():
        learner(batch("gpt"))
    learner.eval()(batch("gpt"))
    assert not seen
    learner.train()(batch("gpt"))
    assert seen


@pytest.mark.parametrize("faster", [False, True])
def test_what_is_faster_is_taken(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(NETWORKS["gpt"][0].build(50, seed=0), NextToken()).train()
    seconds = iter([1.0, 0.9 if faster else 0.99])
    monkeypatch.setattr(module, "median_seconds", lambda *_: (torch.rand(1), next(seconds))[1])
    state, before = torch.get_rng_state(), [block.forward for block in blocks_of(learner)]
    found = try_compiled(learner, blocks_of(learner), batch("gpt"), measure=True, backend="eager")
    assert found["chosen"] is faster
    assert torch.equal(torch.get_rng_state(), state)
    assert ([block.forward for block in blocks_of(learner)] == before) is not faster


def test_a_compiler_that_fails_stops_nothing() -> None:
    def broken(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        raise RuntimeError("no compiler here")

    learner = Learner(NETWORKS["gpt"][0].build(50, seed=0), NextToken()).train()
    plain = learned(learner, "gpt")[0]
    found = try_compiled(learner, blocks_of(learner), batch("gpt"), measure=False, backend=broken)  # type: ignore[arg-type]
    assert found["chosen"] is False and "no compiler here" in found["failed"]
    assert learned(learner, "gpt")[0] == plain


def test_a_network_without_blocks_is_told() -> None:
    learner = Learner(Lstm(hidden_size=8, num_layers=1).build(50, seed=0), NextToken())
    with pytest.raises(ConfigError, match=r"train\.compile: the network has no attention blocks"):
        compile_blocks(blocks_of(learner))


@pytest.mark.slow
def test_a_run_notes_what_was_chosen_and_goes_on_with_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert command(*TRAIN, "train.compile=auto", "--out", str(out)) == 0
    made = json.loads((out / "made.json").read_text())
    found = made["compile"]
    assert found["chosen"] is (found["seconds_compiled"] * 1.02 <= found["seconds_plain"])
    assert "torch.compile: " in capfd.readouterr().err
    (out / "made.json").write_text(json.dumps(made | {"compile": {"chosen": False}}))
    more = ("--allow-change", "train.steps", "--resume")
    assert command(*TRAIN, "train.compile=auto", "train.steps=5", "--out", str(out), *more) == 0
    assert "torch.compile" not in capfd.readouterr().err  # what was found is not looked for again

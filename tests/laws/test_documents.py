"""Documents that share a row, kept apart, are trained as if each had a row of its own (`train.documents: apart`)."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_runs import SETTINGS, TRAIN, Toy, command, outcome, toy_corpus

from yuyan.commands.companion import check_fit
from yuyan.commands.run import read_run_config
from yuyan.corpus import Batches, Packed
from yuyan.corpus.pack import Apart, PackedRow
from yuyan.errors import ConfigError
from yuyan.models.presets import Bert, Gpt, Lstm
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives import Batch, MaskedToken, NextToken, Objective, collate
from yuyan.train import Constant, Learner, MasterWeights, PlainStep, Plan, State, parameter_kinds
from yuyan.train.optimizer import AdamW

LENGTH, ROWS = 200, 4
MODELS: dict[str, Any] = {
    "gpt": Gpt(hidden_size=32, num_layers=2, num_heads=2, dropout=0.0),
    "lstm": Lstm(hidden_size=32, num_layers=2, dropout=0.0),
    "bert": Bert(hidden_size=32, num_layers=2, num_heads=2, dropout=0.0),
}
FORMATS = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards", mask=True)


def packed(toy: Toy) -> Packed:
    return Packed(toy.shards, LENGTH, seed=0, bos=toy.tokenizer.special.bos, eos=toy.tokenizer.special.eos)


def start(toy: Toy, name: str, dtype: torch.dtype, micro_rows: int = ROWS) -> tuple[State, Objective]:
    """A run with weights so large that nothing is hidden."""
    objective: Objective = NextToken()
    if name == "bert":
        objective = MaskedToken(rate=0.4).build(toy.tokenizer)
    learner = Learner(MODELS[name].build(len(toy.tokenizer), 0), objective)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    kinds, weights = parameter_kinds(learner), MasterWeights(learner, dtype)
    batches = Batches(
        Apart(packed(toy)), batch_rows=ROWS, micro_rows=micro_rows, example=objective.example, collate=collate, seed=0
    )
    return State(learner, weights, AdamW(lr=1e-3).build(weights.masters, kinds), batches), objective


def stretches(documents: torch.Tensor) -> list[tuple[int, slice]]:
    """Row and place of each stretch of one document."""
    found = []
    for row, ids in enumerate(documents.tolist()):
        starts = [0, *(t for t in range(1, len(ids)) if ids[t] != ids[t - 1]), len(ids)]
        found += [(row, slice(a, b)) for a, b in pairwise(starts)]
    return found


def separate(toy: Toy, name: str, batch: Batch) -> Batch:
    """The documents of a packed batch, each in a row of its own, padded."""
    if name == "bert":  # the same tokens have to be hidden
        parts = [{key: batch[key][row, at].numpy() for key in ("input_ids", "labels")}
                 for row, at in stretches(batch["document_ids"])]  # fmt: skip
        return collate(parts)
    whole = packed(toy).rows_with_documents(0, np.arange(ROWS))
    parts = [whole.input_ids[row, at] for row, at in stretches(torch.from_numpy(whole.document_ids))]
    return collate([NextToken().example(ids, np.random.default_rng(0)) for ids in parts if len(ids) > 1])


def gradients(state: State, batch: Batch) -> tuple[float, int, torch.Tensor]:
    state.weights.zero_gradients()
    loss = state.learner.eval()(batch)
    loss.total.sum().backward()
    state.weights.take_gradients()
    found = [p.grad.flatten() for p in state.weights.masters.values() if p.grad is not None]
    return float(loss.total.detach().sum()), int(loss.count.sum()), torch.cat(found)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_separate_documents(toy: Toy, name: str, dtype: torch.dtype) -> None:
    state, _ = start(toy, name, dtype)
    (batch,) = state.batches.update(0)  # type: ignore[attr-defined]
    assert len(stretches(batch["document_ids"])) > 2 * ROWS
    loss, count, found = gradients(state, batch)
    other, others, wanted = gradients(state, separate(toy, name, batch))
    near = 1e-5 if dtype == torch.float32 else 0.02
    assert count == others > ROWS * LENGTH * 0.3
    assert loss == pytest.approx(other, rel=near / 4)
    wrong = float((found - wanted).norm())
    assert wrong < near * float(wanted.norm())
    _, _, away = gradients(state, {key: value for key, value in batch.items() if key != "document_ids"})
    assert float((away - wanted).norm()) > 5 * wrong, "what is not kept apart is told apart"


def test_no_document_predicts_the_next(toy: Toy) -> None:
    ids, documents = Apart(packed(toy)).rows(0, [1])[0]
    example = NextToken().example(PackedRow(ids, documents), np.random.default_rng(0))
    ends = np.flatnonzero(documents[1:] != documents[:-1])
    assert len(ends) > 1
    assert (example["labels"][ends] == IGNORE).all()
    inside = np.setdiff1d(np.arange(LENGTH), ends)
    assert (example["labels"][inside] == ids[1:][inside]).all()


@pytest.mark.parametrize("name", MODELS)
def test_how_a_batch_is_cut_does_not_matter(toy: Toy, name: str) -> None:
    found = []
    for micro_rows in (4, 2, 1):
        state, _ = start(toy, name, torch.float32, micro_rows)
        state.learner.eval()
        step = PlainStep(Plan(steps=2), Constant(warmup=0), clip=0.1)
        found.append([step(state, state.batches.update(first)) for first in (0, ROWS)])  # type: ignore[attr-defined]
    for updates in found[1:]:
        for one, other in zip(found[0], updates, strict=True):
            assert other.count == one.count
            assert other.loss == pytest.approx(one.loss, rel=1e-5)
            assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-3)


def test_stopped_and_resumed(tmp_path: Path) -> None:
    apart = (*TRAIN, "train.documents=apart", "train.context=64")
    assert command(*apart, "--out", str(tmp_path / "straight")) == 0
    assert command(*apart, "--out", str(tmp_path / "cut")) == 0
    shutil.rmtree(tmp_path / "cut" / "state" / "00000016")  # as a kill before the last save leaves it
    assert command(*apart, "--out", str(tmp_path / "cut"), "--resume") == 0
    assert outcome(tmp_path / "straight") == outcome(tmp_path / "cut")


def test_what_cannot_be_kept_apart_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command(
            *TRAIN, "train.documents=apart", "objective.kind=span_corruption", "model.kind=t5", "tokenizer.sentinels=20"
        )
        != 0
    )
    assert read_run_config(Path(TRAIN[1]), SETTINGS).train.documents == "joined"
    assert "train.documents apart" in capsys.readouterr().err
    task = read_run_config(Path(TRAIN[1]), ["train.documents=apart", "task={kind: classify}", "model.kind=bert"])
    with pytest.raises(ConfigError, match="the examples of a task never see each other"):
        check_fit(task)

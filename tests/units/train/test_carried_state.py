"""Rows that continue each other and the state between them: as one long text, whatever the micro-batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import MODELS, Toy, command, toy_corpus

from yuyan.corpus.continued import Continued
from yuyan.models.network import NetworkModule
from yuyan.nn.cache import Carried
from yuyan.objectives import NextToken

LENGTH, TRACKS = 7, 4


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards")


def rows_of(toy: Toy) -> Continued:
    return Continued(toy.shards, LENGTH, TRACKS, seed=0, special=toy.tokenizer.special)


def test_each_row_goes_on_where_that_of_the_update_before_ended(toy: Toy) -> None:
    rows = rows_of(toy)
    assert len(rows) % TRACKS == 0 and len(rows) * LENGTH >= rows.tokens
    every = rows.rows(0, np.arange(len(rows)))
    for track in range(TRACKS):
        mine = every[track::TRACKS]
        assert np.array_equal(mine[1:, 0], mine[:-1, -1])
    assert not np.array_equal(every, rows.rows(1, np.arange(len(rows))))


def test_an_epoch_reads_every_token(toy: Toy) -> None:
    rows = rows_of(toy)
    read = np.bincount(rows.rows(0, np.arange(len(rows)))[:, :-1].ravel(), minlength=len(toy.tokenizer))
    held = np.bincount(toy.shards.flat, minlength=len(toy.tokenizer))
    assert (read >= held).all() and read.sum() - rows.tokens < LENGTH * TRACKS


def network(toy: Toy, model: str) -> NetworkModule:
    """In training mode, so that it carries, but without dropout."""
    built = MODELS[model].model_copy(update={"dropout": 0.0}).build(len(toy.tokenizer), 0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return built.train()


@pytest.mark.parametrize("micro", [1, 2, 3, TRACKS])
@pytest.mark.parametrize("model", ["lstm", "nplm"])
def test_losses_are_those_of_the_whole_text(toy: Toy, model: str, micro: int) -> None:
    rows, built, updates = rows_of(toy), network(toy, model), 5
    ids = torch.from_numpy(rows.rows(0, np.arange(updates * TRACKS))).view(updates, TRACKS, LENGTH + 1)
    built.carried = Carried(TRACKS, len(rows))
    found = torch.zeros(TRACKS)
    for update in ids:
        for part, total in zip(update.split(micro), found.split(micro), strict=True):
            loss = NextToken().loss(built, {"input_ids": part[:, :-1], "labels": part[:, 1:]})
            loss.total.sum().backward()  # the graph of one update is not touched by the next
            total += loss.total.detach()
    built.carried = None
    whole = torch.cat([ids[:, :, :-1].transpose(0, 1).flatten(1), ids[-1, :, -1:]], 1)
    expected = NextToken().loss(built, {"input_ids": whole[:, :-1], "labels": whole[:, 1:]}).total
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_the_text_begins_anew_after_an_epoch_and_a_look_leaves_no_trace(toy: Toy) -> None:
    built = network(toy, "lstm")
    built.carried = carried = Carried(2, 4)
    ids = torch.ones(2, 5, dtype=torch.long)
    built.decode(ids)
    kept = carried.state
    assert kept is not None and carried.seen == 2
    built.eval().decode(ids)
    assert carried.seen == 2 and all(torch.equal(a, b) for a, b in zip(kept, carried.state or (), strict=True))
    built.train().decode(ids)
    assert carried.seen == 4 and carried.state is None


@pytest.mark.slow
def test_a_run_carries_and_a_transformer_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(Path(__file__).parents[3] / "configs" / "tiny" / "lstm.yaml")
    short = ("train.steps=4", "train.context=16", "train.batch_tokens=64", "train.carry_state=true", "train.threads=1")
    assert command("train", config, *short, "--out", str(tmp_path / "run")) == 0
    assert command("train", config.replace("lstm", "gpt"), *short, "--out", str(tmp_path / "other")) == 2
    assert "carry_state: only a network that carries a state" in capsys.readouterr().err

"""How many tokens an epoch predicts for each byte of its text, and how many updates some epochs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_runs import CONFIG, SETTINGS, toy_corpus

from yuyan.commands.batches import batches_for, labels_per_byte, plan_for
from yuyan.commands.corpus import Corpus
from yuyan.commands.run import read_run_config
from yuyan.corpus import Batches, Packed
from yuyan.objectives import NextToken
from yuyan.train.world import World


@pytest.mark.parametrize(("documents", "marks"), [("joined", 2), ("apart", 1)])
def test_an_epoch_predicts_all_tokens_and_the_marks(tmp_path: Path, documents: str, marks: int) -> None:
    toy = toy_corpus(tmp_path / "shards")
    nothing: Any = None
    corpus = Corpus(toy.tokenizer, "char", toy.shards, toy.shards, None, {}, nothing)
    config = read_run_config(CONFIG, [*SETTINGS, f"train.documents={documents}"])
    batches = batches_for(config, corpus, NextToken(), World())
    found = labels_per_byte(config, corpus, batches)
    texts = [toy.tokenizer.decode(toy.shards.document(i).tolist()) for i in range(len(toy.shards))]
    wanted = toy.shards.tokens + marks * len(texts)
    assert found == pytest.approx(wanted / sum(len(text.encode()) for text in texts))
    assert labels_per_byte(read_run_config(CONFIG, ["objective.kind=masked_token"]), corpus, batches) is None


def test_epochs_are_epochs_after_the_batch_was_changed(tmp_path: Path) -> None:
    """`--allow-change train.batch_tokens`: updates of both sizes read as many rows together as were asked for."""
    shards = toy_corpus(tmp_path / "shards").shards
    rows, settings = (
        Packed(shards, 16, seed=0, bos=None, eos=None),
        read_run_config(CONFIG, ["train.steps=null", "train.epochs=2"]),
    )
    small, large = Batches(rows, batch_rows=2, seed=0), Batches(rows, batch_rows=5, seed=0)
    updates = plan_for(settings.train, small).steps
    assert updates == len(rows)
    half = updates // 4
    for one, other in ((small, large), (large, small)):
        one.load_state_dict(one.state_dict() | {"rows": half * one.batch_rows})
        other.load_state_dict(one.state_dict())
        more = (plan_for(settings.train, other, half).steps or 0) - half
        assert 0 <= other.rows_read + more * other.batch_rows - 2 * len(rows) < other.batch_rows

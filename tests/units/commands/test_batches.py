"""How many tokens an epoch predicts for each byte of its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_runs import CONFIG, SETTINGS, toy_corpus

from yuyan.commands.batches import batches_for, labels_per_byte
from yuyan.commands.corpus import Corpus
from yuyan.commands.run import read_run_config
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

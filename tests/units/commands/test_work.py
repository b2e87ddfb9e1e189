"""What a batch of records costs: by the formulas of `models/cost.py`, of real tokens, in every network that takes part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yuyan.commands.work import Work, lengths_of, passes_of, works_of
from yuyan.models.classic import Lstm
from yuyan.models.cost import flops_per_pair, flops_per_token
from yuyan.models.network import Network
from yuyan.models.pair import with_generator, with_reference
from yuyan.models.presets import Bert, Gpt, Seq2Seq
from yuyan.nn.adapt import Lora, adapt
from yuyan.nn.head import LabelHead
from yuyan.objectives import Batch, collate

GPT = Gpt(hidden_size=16, num_layers=2, num_heads=2).network(50)
BERT = Bert(hidden_size=16, num_layers=2, num_heads=2, max_position_embeddings=32).network(50)


def bare(network: Network, length: int) -> int:
    return flops_per_token(network.model_copy(update={"head": None}), length)


def head(network: Network) -> int:
    return flops_per_token(network, 1) - bare(network, 1)


def answers(*sizes: int, name: str = "", asked: int = 2) -> Batch:
    """Texts of a decoder, the first `asked` tokens of which are not scored."""
    rows = [np.arange(size) for size in sizes]
    return collate([{f"{name}input_ids": row, f"{name}labels": np.where(row < asked, -100, row)} for row in rows])


def padded(batch: Batch, more: int = 5) -> Batch:
    """The same texts, with more padding."""
    fill = {key: -100 if key.endswith("labels") else 0 for key in batch}
    return {k: torch.nn.functional.pad(x, (0, more), value=fill[k]) for k, x in batch.items() if x.ndim > 1}


def test_a_text_of_a_decoder_and_its_scores() -> None:
    batch = answers(9, 5)
    expected = 3 * (14 * bare(GPT, 7) + (7 + 3) * head(GPT))
    assert Work(GPT, 3.0).of(batch) == expected
    assert Work(GPT, 3.0).of(padded(batch)) == expected, "padding is no work"
    assert Work(GPT, 3.0).of(answers(9, 9)) == 3 * (18 * bare(GPT, 9) + 14 * head(GPT))


@pytest.mark.parametrize(("pool", "scored"), [("first", 2), ("none", 10)])
def test_labels_of_texts_and_of_tokens(pool: str, scored: int) -> None:
    network = BERT.model_copy(update={"head": LabelHead(labels=("a", "b", "c"), pool=pool)})
    rows = [{"input_ids": np.arange(size), "labels": np.array(1)} for size in (7, 3)]
    assert head(network) == 2 * (16 * 3 + 3)
    assert Work(network, 3.0).of(collate(rows)) == 3 * (10 * bare(network, 5) + scored * head(network))


def test_of_a_preference_the_reference_counts_too() -> None:
    batch = answers(9, 5, name="chosen_") | answers(6, 6, name="rejected_")
    works = works_of(with_reference(GPT.build()))
    assert works is not None and [work.passes for work in works] == [3.0, 1.0]
    once = 14 * bare(GPT, 7) + 12 * bare(GPT, 6) + (10 + 8) * head(GPT)
    assert [work.of(batch) for work in works] == [3 * once, once]
    assert works[0].of(padded(batch)) == 3 * once


def test_queries_and_documents() -> None:
    documents = [np.arange(12).reshape(2, 6) + 1, np.arange(4).reshape(1, 4) + 1]
    batch = collate([{"query_input_ids": np.arange(3), "document_input_ids": d, "document_attention_mask": d > 0}
                     for d in documents])  # fmt: skip
    assert lengths_of(batch, "document_input_ids").tolist() == [6, 6, 4]
    assert Work(BERT, 3.0).of(batch) == 3 * (6 * bare(BERT, 3) + 16 * bare(BERT, 5)), "nothing is scored by the head"


def test_two_sides() -> None:
    network = Seq2Seq(hidden_size=16, num_layers=1).network(50)
    rows = [{"input_ids": np.arange(n), "decoder_input_ids": np.arange(m), "labels": np.arange(m)} for n, m in ((8, 4), (6, 2))]  # fmt: skip
    batch = collate(rows)
    assert Work(network, 3.0).of(batch) == 3 * (2 * flops_per_pair(network, 7, 3) + 6 * head(network))


def test_what_is_frozen_has_no_gradient_of_its_own() -> None:
    module = GPT.build()
    assert passes_of(module) == 3.0 and passes_of(Lstm(hidden_size=16, num_layers=1).build(50, 0)) == 3.0
    adapted = GPT.build()
    adapt(adapted, Lora(rank=1), seed=0)
    assert 2.0 < passes_of(adapted) < 2.3
    assert passes_of(module.requires_grad_(False)) == 1.0
    works = works_of(with_generator(BERT.build()))
    assert works is not None and [work.passes for work in works] == [3.0, 3.0]


def test_what_is_no_text_is_not_known() -> None:
    assert Work(BERT, 3.0).of({"input_features": torch.zeros(2, 3, 4)}) is None
    assert works_of(torch.nn.Linear(2, 2)) is None

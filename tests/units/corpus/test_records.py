"""Records as rows: each once an epoch in an order of its own, lengths counted, cut only by choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yuyan.corpus import Batches
from yuyan.corpus.records import Records, fitted, question_length
from yuyan.errors import DataError
from yuyan.objectives import Contrastive, Ctc, Preference, PrefixLM, collate
from yuyan.tokens.special import Special


class Marks:
    """A tokenizer as objectives see it."""

    special = Special(bos=90, eos=91, pad=92)
    pieces: Any = None

    def __len__(self) -> int:
        return 100


def items(count: int = 11) -> list[dict[str, Any]]:
    return [{"prompt": np.arange(i % 5), "answer": np.arange(1 + i % 3) + 50 + i} for i in range(count)]


def test_each_record_once_an_epoch_in_another_order() -> None:
    rows = Records(items(), 16, seed=3)
    orders = [[int(row["answer"][0]) for row in rows.rows(epoch, np.arange(11))] for epoch in range(3)]
    assert [sorted(order) for order in orders] == [list(range(50, 61))] * 3
    assert len({tuple(order) for order in orders}) == 3
    assert [int(r["answer"][0]) for r in rows.rows(1, [4, 2])] == [orders[1][4], orders[1][2]]
    assert [int(r["answer"][0]) for r in Records(items(), 16, seed=3).rows(2, np.arange(11))] == orders[2]


def test_batches_of_records_are_padded_and_go_on() -> None:
    objective = PrefixLM().build(Marks())

    def batches() -> Batches:
        return Batches(
            Records(items(), 16, seed=3), batch_rows=4, micro_rows=2, example=objective.example, collate=collate, seed=3
        )

    straight = batches()
    groups = [group for _, group in zip(range(6), straight, strict=False)]
    again = batches()
    again.load_state_dict({**again.state_dict(), "rows": 12})
    for group, other in zip(groups[3:], again, strict=False):
        for batch, same in zip(group, other, strict=True):
            assert all(batch[key].equal(same[key]) for key in batch)
    assert all(batch["input_ids"].shape == batch["labels"].shape for group in groups for batch in group)


CASES: list[tuple[Any, dict[str, Any]]] = [
    (PrefixLM(), {"prompt": np.arange(20), "answer": np.arange(4) + 50}),
    (PrefixLM(), {"prompt": np.arange(3), "answer": np.arange(30) + 50}),
    (Preference(), {"prompt": np.arange(9), "chosen": np.arange(12), "rejected": np.arange(3)}),
    (Contrastive(), {"query": np.arange(30), "positive": np.arange(2), "negatives": [np.arange(5), np.arange(40)]}),
]


@pytest.mark.parametrize(("config", "item"), CASES)
def test_what_is_too_long_is_an_error_or_cut(config: Any, item: dict[str, Any]) -> None:
    make, short = config.build(Marks()).example, {key: value[:1] for key, value in item.items()}
    with pytest.raises(DataError, match=r"data: 1 of 2 records are longer than train.context=10 .the longest has \d+"):
        fitted([short, item], make, 10, "error", "data")
    (kept, cut), lengths = fitted([short, item], make, 10, "truncate", "data")
    assert kept is short and lengths.too_long == 1 and lengths.records == 2
    assert question_length(make(cut, np.random.default_rng(0))) == 10
    if "prompt" in item and len(item["prompt"]) > 5:
        assert cut["prompt"].tolist() == item["prompt"][len(item["prompt"]) - len(cut["prompt"]) :].tolist()
    if "answer" in item:
        assert cut["answer"].tolist() == item["answer"][: len(cut["answer"])].tolist() != []


def test_frames_are_never_cut() -> None:
    make = Ctc().build(Marks()).example
    with pytest.raises(DataError, match="they belong together"):
        fitted([{"inputs": np.arange(20), "labels": np.arange(3)}], make, 10, "truncate", "data")

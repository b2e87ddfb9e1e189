"""Batches: shapes, state, errors, and a thread that never outlives its use."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from yuyan.corpus import Batches
from yuyan.errors import ConfigError, DataError, InputError


class Numbers:
    """Rows that say who they are: epoch * 1000 + index, then the places in the row."""

    batch = None

    def __init__(self, count: int = 10, length: int = 4):
        self.count, self.length = count, length

    def __len__(self) -> int:
        return self.count

    def rows(self, epoch: int, indices: ArrayLike) -> NDArray[np.int64]:
        first = epoch * 1000 + np.asarray(indices, np.int64)
        return np.concatenate([first[:, None], np.tile(np.arange(self.length), (len(first), 1))], axis=1)


def names(batches: Batches, count: int) -> list[list[int]]:
    """Which rows each of the next updates holds."""
    iterator = iter(batches)
    found = [[int(i) for micro in update for i in micro["input_ids"][:, 0]] for update in islice(iterator, count)]
    iterator.close()  # type: ignore[attr-defined]
    return found


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    for number in range(50):
        if not any(thread.name == "batches" for thread in threading.enumerate()):
            return
        if number == 0:
            gc.collect()
        time.sleep(0.02)
    raise AssertionError("a thread was left behind")


def test_an_update_is_a_list_of_micro_batches() -> None:
    batches = Batches(Numbers(), batch_rows=5, micro_rows=2, seed=0)
    iterator = iter(batches)
    update = next(iterator)
    assert [micro["input_ids"].shape for micro in update] == [(2, 4), (2, 4), (1, 4)]
    assert all(micro["labels"].dtype == torch.int64 for micro in update)
    for micro in update:
        assert micro["input_ids"][:, 1:].equal(micro["labels"][:, :-1])
    iterator.close()  # type: ignore[attr-defined]


def test_an_update_may_cross_epochs_and_none_is_ragged() -> None:
    batches = Batches(Numbers(10), batch_rows=4, seed=0)
    assert names(batches, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 1000, 1001], [1002, 1003, 1004, 1005]]
    assert batches.position == 4


def test_a_batch_larger_than_an_epoch() -> None:
    assert names(Batches(Numbers(3), batch_rows=7, seed=0), 2) == [
        [0, 1, 2, 1000, 1001, 1002, 2000], [2001, 2002, 3000, 3001, 3002, 4000, 4001],
    ]  # fmt: skip


def test_the_example_gets_the_row_and_its_own_chance() -> None:
    def example(row: NDArray[np.int64], random: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"input_ids": row, "chance": random.random(2)}

    def chances(**settings: Any) -> dict[int, list[float]]:
        batches = Batches(Numbers(), batch_rows=4, example=example, **settings)
        iterator = iter(batches)
        found = {}
        for update in islice(iterator, 6):
            for micro in update:
                for row, chance in zip(micro["input_ids"], micro["chance"], strict=True):
                    found[int(row[0])] = chance.tolist()
        iterator.close()  # type: ignore[attr-defined]
        return found

    first = chances(seed=0)
    assert first == chances(seed=0, micro_rows=3)
    assert len({tuple(chance) for chance in first.values()}) == len(first) == 24
    assert not set(map(tuple, first.values())) & set(map(tuple, chances(seed=1).values()))


def test_examples_are_put_together_by_the_given_function() -> None:
    def collate(examples: Sequence[dict[str, NDArray[Any]]]) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([[int(example["input_ids"][0]), 7] for example in examples])}

    iterator = iter(Batches(Numbers(), batch_rows=2, seed=0, collate=collate))
    assert next(iterator)[0]["input_ids"].tolist() == [[0, 7], [1, 7]]
    iterator.close()  # type: ignore[attr-defined]


def failing_at(index: int, error: Exception) -> Any:
    def example(row: NDArray[np.int64], random: np.random.Generator) -> dict[str, NDArray[Any]]:
        if row[0] == index:
            raise error
        return {"input_ids": row}

    return example


def test_an_error_of_the_data_names_the_row() -> None:
    batches = Batches(Numbers(), batch_rows=4, seed=0, example=failing_at(1003, DataError("too odd")))
    iterator = iter(batches)
    for _ in range(3):
        next(iterator)
    with pytest.raises(DataError, match="row 3 of epoch 1: too odd"):
        next(iterator)
    assert batches.position == 3


def test_a_mistake_of_ours_keeps_its_type_and_names_the_row() -> None:
    batches = Batches(Numbers(), batch_rows=4, seed=0, example=failing_at(2, ZeroDivisionError("oops")))
    with pytest.raises(ZeroDivisionError) as caught:
        next(iter(batches))
    assert caught.value.__notes__ == ["while making an example of row 2 of epoch 0"]


def test_an_error_while_reading_rows_names_them() -> None:
    class Broken(Numbers):
        def rows(self, epoch: int, indices: ArrayLike) -> NDArray[np.int64]:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(iter(Batches(Broken(), batch_rows=4, seed=0)))
    assert caught.value.__notes__ == ["while reading rows 0 to 3 of epoch 0"]


def test_the_thread_ends_when_the_loop_is_left() -> None:
    for _ in Batches(Numbers(), batch_rows=2, seed=0):
        break
    # nothing closed it by hand: leaving the loop drops the iterator


def test_the_thread_ends_when_the_consumer_fails() -> None:
    def consume() -> None:
        for _ in Batches(Numbers(), batch_rows=2, seed=0):
            raise RuntimeError("in the step")

    with pytest.raises(RuntimeError, match="in the step"):
        consume()


def test_a_program_ends_though_nobody_closed_the_iterator() -> None:
    script = """
import numpy as np
from yuyan.corpus import Batches
from yuyan.corpus.records import Records
iterator = iter(Batches(Records([{"x": np.arange(8)}] * 99, 8, seed=0), batch_rows=4, seed=0, example=lambda row, _: row))
next(iterator)
import builtins
builtins.keep = iterator  # alive until the very end
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_updates_are_prepared_ahead_but_not_without_end() -> None:
    made = []

    def example(row: NDArray[np.int64], random: np.random.Generator) -> dict[str, NDArray[Any]]:
        made.append(int(row[0]))
        return {"input_ids": row}

    batches = Batches(Numbers(1000), batch_rows=1, seed=0, example=example)
    iterator = iter(batches)
    next(iterator)
    time.sleep(0.4)
    assert 2 <= len(made) <= 5
    assert batches.position == 1  # what is prepared does not count
    iterator.close()  # type: ignore[attr-defined]


def test_the_consumer_does_not_wait_for_what_is_prepared() -> None:
    def slow(row: NDArray[np.int64], random: np.random.Generator) -> dict[str, NDArray[Any]]:
        time.sleep(0.03)
        return {"input_ids": row}

    iterator = iter(Batches(Numbers(), batch_rows=1, seed=0, example=slow))
    next(iterator)
    waited = 0.0
    for _ in range(6):
        time.sleep(0.06)  # the step
        started = time.monotonic()
        next(iterator)
        waited += time.monotonic() - started
    assert waited < 0.1
    iterator.close()  # type: ignore[attr-defined]


def test_state_is_checked_against_the_data() -> None:
    state = Batches(Numbers(10), batch_rows=4, seed=0).state_dict()
    for other, what in (
        (Batches(Numbers(11), batch_rows=4, seed=0), "rows an epoch: 10 there, 11 here"),
        (Batches(Numbers(10, length=5), batch_rows=4, seed=0), "tokens a row: 4 there, 5 here"),
        (Batches(Numbers(10), batch_rows=4, seed=1), "the seed: 0 there, 1 here"),
    ):
        with pytest.raises(InputError, match=what):
            other.load_state_dict(state)


def test_loading_while_iterating_is_a_mistake() -> None:
    batches = Batches(Numbers(), batch_rows=2, seed=0)
    iterator = iter(batches)
    next(iterator)
    batches.load_state_dict(batches.state_dict() | {"rows": 6})
    with pytest.raises(RuntimeError, match="start a new iteration"):
        next(iterator)
    assert names(batches, 1) == [[6, 7]]


def test_a_batch_must_be_shared_equally() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_tokens: 7 rows cannot be shared equally by 2 processes"):
        Batches(Numbers(), batch_rows=7, seed=0, rank=0, world_size=2)
    with pytest.raises(ConfigError, match=r"train\.batch_tokens: 0 rows"):
        Batches(Numbers(), batch_rows=0, seed=0)
    with pytest.raises(ConfigError, match="micro-batch"):
        Batches(Numbers(), batch_rows=2, micro_rows=0, seed=0)
    with pytest.raises(ConfigError, match="rank: 2"):
        Batches(Numbers(), batch_rows=2, seed=0, rank=2, world_size=2)

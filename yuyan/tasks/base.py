"""What a task is: an objective over records, which also has a head, gives answers, and says what they are worth.

    config.found(files) -> config        columns and formats, found and written down
    config.read(files) -> records        each with the place it comes from
    config.with_labels(records) -> config
    config.build(tokenizer, length) -> task
    task.items(records) -> pieces that fit the network
    task.example, task.loss              as every objective: `Learner(network, task)` trains it
    task.answer(network, records) -> answers
    task.scores(answers, records) -> numbers with intervals

A task with a head of labels says which by `head`; one that writes its answers keeps the network's head (None).
B texts of a batch, T tokens, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from yuyan.errors import DataError
from yuyan.metrics.score import Scores
from yuyan.models.network import NetworkModule
from yuyan.nn.device import device_of, moved
from yuyan.nn.head import LabelHead
from yuyan.objectives import Objective, collate
from yuyan.objectives.base import Example

Item = dict[str, Any]
"""A piece of a record, as arrays: `input_ids` (T,) with the marks around it, and what it is to be answered with."""
READ = ("input_ids", "token_type_ids")
"""What a network is given of an item."""
BATCH_TOKENS = 8192  # of one forward pass when answering, padding included


class Record(Protocol):
    """A row of the data, as a named tuple of what JSON can say."""

    @property
    def where(self) -> str:
        """`file:line`."""
        ...


class Pieces(NamedTuple):
    """Records as items that fit the network: `owners` says of each item which record it belongs to."""

    items: list[Item]
    owners: list[int]
    longest: int
    """Tokens of the longest record, whole."""
    too_long: int
    """How many records were longer than what the network reads."""


class Answer(Protocol):
    """What a task says to one record."""

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        ...


class Task(Objective, Protocol):
    """One file in this package each; the contract is `tests/contracts/test_tasks.py`."""

    @property
    def config(self) -> Any:
        """What built it."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What is told apart; nothing for a task that writes."""
        ...

    @property
    def looks(self) -> int | None:
        """How many validation records are answered at a look while training: None for about `evaluate.tokens`, 0 for none,
        and then looks are at the loss."""
        ...

    def head(self, like: NetworkModule) -> LabelHead | None:
        """The head that the network is to have; None keeps its own."""
        ...

    def items(self, records: Sequence[Any], *, labelled: bool = True) -> Pieces:
        """The records as items. Raises DataError, with places and counts, where one is too long and must not be cut."""
        ...

    def answer(self, network: NetworkModule, records: Sequence[Any]) -> list[Any]:
        """One answer a record."""
        ...

    def scores(self, answers: Sequence[Any], records: Sequence[Any], *, draws: int) -> Scores:
        """What the answers are worth; `draws` for intervals by bootstrap, 0 for none."""
        ...

    def drawn(self, pieces: Pieces) -> np.ndarray | None:
        """The items of an epoch, where some are to come several times; None is every item once."""
        ...

    def described(self, parts: Mapping[str, Sequence[Any]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: what is in the data."""
        ...

    def remarks(self, parts: Mapping[str, Sequence[Any]]) -> list[str]:
        """What is odd about the data, a line each."""
        ...

    def settled(self, answers: Sequence[Any], records: Sequence[Any]) -> Any:
        """The config with what is chosen on validation data when training is over."""
        ...


def too_long(sizes: Sequence[int], length: int | None, records: Sequence[Record], policies: str) -> DataError:
    """What to say of records that do not fit."""
    over = [i for i, size in enumerate(sizes) if length is not None and size > length]
    return DataError(
        f"{records[over[0]].where}: {sizes[over[0]]:,} tokens, and the model reads {length:,}; {len(over):,} of "
        f"{len(sizes):,} records are too long (the longest has {max(sizes):,}): choose task.too_long={policies}, or train "
        f"with train.context={max(sizes)}"
    )


def and_others(count: int) -> str:
    """The end of a sentence that names one of `count` + 1."""
    return "" if count == 0 else ", and 1 other" if count == 1 else f", and {count:,} others"


def by_length(items: Sequence[Item], tokens: int = BATCH_TOKENS) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Items in batches of like length: their numbers, and the inputs as a batch."""
    order = sorted(range(len(items)), key=lambda number: len(items[number]["input_ids"]))
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(items[order[end]]["input_ids"]) <= tokens:
            end += 1
        chosen = order[start:end]
        inputs: list[Example] = [
            {key: np.asarray(items[number][key]) for key in READ if key in items[number]} for number in chosen
        ]
        yield chosen, collate(inputs)
        start = end


def segments(network: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
    """The segments of a batch's tokens, for a network that tells them apart."""
    return batch.get("token_type_ids") if network.config.embedding.type_vocab_size > 1 else None


@torch.no_grad()
def label_scores(network: NetworkModule, items: Sequence[Item]) -> list[np.ndarray]:
    """The scores of the labels: (L,) of each item, or (T, L) where every token is scored; in float64."""
    was_training = network.training
    network.eval()
    found: list[np.ndarray] = [np.zeros(0)] * len(items)
    for numbers, inputs in by_length(items):
        batch = moved(inputs, device_of(network))
        scores = network.classify(batch["input_ids"], batch.get("attention_mask"), segments(network, batch))
        for row, number in zip(scores.double().cpu().numpy(), numbers, strict=True):
            found[number] = row[: len(items[number]["input_ids"])] if row.ndim == 2 else row
    network.train(was_training)
    return found

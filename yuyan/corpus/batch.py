"""Batches for training: the only part of the data that has a state, and its state is one number.

An update takes `batch_rows` rows, whatever the number of processes; row g of the run is row g mod R of epoch g div R
(R rows an epoch), so a batch may begin in one epoch and end in the next and is never ragged. Rank r of w takes the r-th
of w equal parts, cut into micro-batches. Which rows an update sees therefore depends on its number alone, not on ranks,
micro-batches, prefetching, or where the run was interrupted.

B rows of a micro-batch, T = length.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from yuyan.console import ABANDONED
from yuyan.corpus.order import EXAMPLE, generator
from yuyan.errors import ConfigError, DataError, InputError, YuyanError

Batch = dict[str, Tensor]
Example = dict[str, NDArray[Any]]
AHEAD = 2  # updates prepared in advance
PATIENCE = 600.0  # seconds that one update may take to prepare


class DataHangs(YuyanError):
    """The data of an update do not come; the message says of which row."""


class Rows(Protocol):
    """Rows by (epoch, index), such as `Packed`: arrays of ids, or records with named parts."""

    length: int

    @property
    def batch(self) -> int | None:
        """The rows of an update, where the order of an epoch is made for so many."""
        ...

    def __len__(self) -> int: ...

    def rows(self, epoch: int, indices: ArrayLike) -> Sequence[Any] | NDArray[np.int64]: ...


def next_token(row: NDArray[np.int64], random: np.random.Generator) -> Example:
    """T + 1 tokens as T inputs and T labels."""
    return {"input_ids": row[:-1], "labels": row[1:]}


def stack(examples: Sequence[Example]) -> Batch:
    """Examples of equal shapes as one batch."""
    return {key: torch.from_numpy(np.stack([example[key] for example in examples])) for key in examples[0]}


class Batches:
    """Iterate to get, for each update, the list of its micro-batches, without end.

    `example` makes a question of a row; its randomness is a generator that depends on (seed, epoch, index) alone.
    `collate` puts examples together. `position` is the number of updates handed out. Raises ConfigError when the batch
    cannot be shared equally by the processes.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_rows: int,
        micro_rows: int | None = None,
        example: Callable[[Any, np.random.Generator], Example] = next_token,
        collate: Callable[[Sequence[Example]], Batch] = stack,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        patience: float = PATIENCE,
    ):
        if batch_rows < 1 or batch_rows % world_size:
            raise ConfigError(
                f"train.batch_tokens: {batch_rows} rows cannot be shared equally by {world_size} processes; "
                f"give a multiple of {world_size} rows of train.context"
            )
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: {rank} is not one of {world_size} processes")
        if micro_rows is not None and micro_rows < 1:
            raise ConfigError(f"micro-batch: at least 1 row; got {micro_rows}")
        self.rows, self.batch_rows, self.seed = rows, batch_rows, seed
        self.micro_rows = min(micro_rows or batch_rows, batch_rows // world_size)
        self._share, self._rank = batch_rows // world_size, rank
        self._example, self._collate = example, collate
        self._patience, self._reading = patience, ""
        self._consumed = 0  # rows, over all processes
        self.handed: Sequence[Batch] = ()
        """This process's micro-batches of the update handed out last."""
        self.waited = 0.0
        """Seconds that updates were waited for in all: more than a little says that the data are slower than the training."""

    @property
    def position(self) -> int:
        """Updates handed out so far."""
        return self._consumed // self.batch_rows

    @property
    def rows_read(self) -> int:
        """Rows handed out so far, over all processes, whatever the size of the updates was."""
        return self._consumed

    def state_dict(self) -> dict[str, Any]:
        """All there is to save: the position, and what it counts."""
        return {
            "rows": self._consumed, "rows_per_epoch": len(self.rows), "length": self.rows.length, "seed": self.seed,
            "batch": self.rows.batch,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after `state`, also with other ranks or micro-batches. Raises InputError if the data are others."""
        mine = self.state_dict()
        if (there := state.get("batch", mine["batch"])) != mine["batch"]:
            raise InputError(
                f"train.batch_tokens: {there} rows an update there, {mine['batch']} here, and the order of these rows is made for it; "
                "go on with as many, or start a new run"
            )
        for key, what in (("rows_per_epoch", "rows an epoch"), ("length", "tokens a row"), ("seed", "the seed")):
            if state[key] != mine[key]:
                raise InputError(f"cannot go on with other data: {what}: {state[key]} there, {mine[key]} here")
        self._consumed = int(state["rows"])

    def last_rows(self) -> list[tuple[int, int]]:
        """(epoch, index) of every row, over all processes, of the update handed out last."""
        numbers = range(max(0, self._consumed - self.batch_rows), self._consumed)
        return [divmod(number, len(self.rows)) for number in numbers]

    def row(self, epoch: int, index: int) -> NDArray[np.int64]:
        """One row, as an objective is given it."""
        row: NDArray[np.int64] = self.rows.rows(epoch, [index])[0]
        return row

    def update(self, first: int) -> list[Batch]:
        """This rank's micro-batches of the update that begins with row `first` of the run: pure."""
        begin = first + self._rank * self._share
        numbers = np.arange(begin, begin + self._share)
        return [
            self._micro(numbers[i : i + self.micro_rows]) for i in range(0, self._share, self.micro_rows)
        ]  # fmt: skip

    def sample(self, count: int) -> Batch:
        """The first `count` rows of the run as one micro-batch."""
        return self._micro(np.arange(count))

    def _micro(self, numbers: NDArray[np.int64]) -> Batch:
        epochs, indices = np.divmod(numbers, len(self.rows))
        examples: list[Example] = []
        for epoch in np.unique(epochs):
            of_epoch = indices[epochs == epoch]
            for row, index in zip(self._read(int(epoch), of_epoch), of_epoch.tolist(), strict=True):
                examples.append(self._ask(row, int(epoch), index))
        return self._collate(examples)

    def _read(self, epoch: int, indices: NDArray[np.int64]) -> Sequence[Any] | NDArray[np.int64]:
        self._reading = f"reading rows {indices.min()} to {indices.max()} of epoch {epoch}"
        try:
            return self.rows.rows(epoch, indices)
        except Exception as error:
            error.add_note(f"while reading rows {indices.min()} to {indices.max()} of epoch {epoch}")
            raise

    def _ask(self, row: Any, epoch: int, index: int) -> Example:
        self._reading = f"making an example of row {index} of epoch {epoch}"
        try:
            return self._example(row, np.random.Generator(generator(self.seed, epoch, index, EXAMPLE)))
        except YuyanError as error:
            raise DataError(f"row {index} of epoch {epoch}: {error}") from error
        except Exception as error:
            error.add_note(f"while making an example of row {index} of epoch {epoch}")
            raise

    def __iter__(self) -> Iterator[list[Batch]]:
        with closing(_Ahead(self.update, self._consumed, self.batch_rows)) as ahead:
            while True:
                asked = time.monotonic()
                try:
                    first, batches = ahead.take(self._patience)
                except queue.Empty:
                    raise DataHangs(
                        f"the data have not come for {self._patience:.0f} s, while {self._reading}: is the disk still there?"
                    ) from None
                self.waited += time.monotonic() - asked
                if first != self._consumed:
                    raise RuntimeError("the position was changed while iterating; start a new iteration after loading")
                self._consumed, self.handed = self._consumed + self.batch_rows, batches
                yield batches


class _Made(NamedTuple):
    first: int
    batches: list[Batch]
    error: BaseException | None


class _Ahead:
    """A thread that prepares updates in order, a few in advance, until it is closed or the program ends.

    It is no daemon: one that is stopped inside a library while Python shuts down would abort the process.
    """

    def __init__(self, make: Callable[[int], list[Batch]], first: int, stride: int):
        self._made: queue.Queue[_Made] = queue.Queue(maxsize=AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make, first, stride), name="batches")
        self._thread.start()

    def _work(self, make: Callable[[int], list[Batch]], first: int, stride: int) -> None:
        while self._wanted():
            try:
                made = _Made(first, make(first), None)
            except BaseException as error:
                made = _Made(first, [], error)
            self._put(made)
            if made.error is not None:
                return
            first += stride

    def _wanted(self) -> bool:
        return not self._closed.is_set() and threading.main_thread().is_alive()

    def _put(self, made: _Made) -> None:
        while self._wanted():
            try:
                self._made.put(made, timeout=0.1)
                return
            except queue.Full:
                continue

    def take(self, patience: float) -> tuple[int, list[Batch]]:
        """The next update; what went wrong while making it is raised here, and queue.Empty after `patience` seconds."""
        try:
            made = self._made.get(timeout=patience)
        except queue.Empty:
            self._thread.name = ABANDONED  # it will never answer: nobody waits for it any more
            raise
        if made.error is not None:
            raise made.error
        return made.first, made.batches

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._closed.set()
        while not self._made.empty():  # let a waiting `put` go on
            try:
                self._made.get_nowait()
            except queue.Empty:
                break
        if self._thread.name != ABANDONED:
            self._thread.join()

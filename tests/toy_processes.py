"""What tests let several processes do."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from toy_runs import MODELS, Toy, toy_corpus

from yuyan import store
from yuyan.config import Config
from yuyan.corpus import Batches, Packed, Shards
from yuyan.errors import DataError, StorageError
from yuyan.objectives import Batch, NextToken
from yuyan.store import newest_checkpoint
from yuyan.tokens import load_tokenizer
from yuyan.train import (
    Average,
    Constant,
    Ema,
    Learner,
    OptimizerConfig,
    PlainStep,
    Plan,
    State,
    Update,
    checkpoint,
    parameter_kinds,
)
from yuyan.train import train as updates_of
from yuyan.train.checkpoint import Saver
from yuyan.train.parallel import Ddp, Fsdp
from yuyan.train.parts import whole
from yuyan.train.penalty import Penalty
from yuyan.train.world import Processes, ProcessLost, World, under_torchrun

VOCABULARY, ROWS, LENGTH, CLIP, STEPS = 60, 8, 20, 0.1, 3
WAIT = 60.0  # seconds: the machine may be busy
OPTIMIZERS: TypeAdapter[Any] = TypeAdapter(OptimizerConfig)
KINDS: dict[str, type[Config]] = {"ddp": Ddp, "fsdp": Fsdp}


def uneven(update: int, padded: bool = False) -> Batch:
    """Eight rows of which 1, 2, 4 ... tokens are scored: a mean of means would be far off; or those and padding alone."""
    draw = torch.Generator().manual_seed(update)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=draw)
    labels = ids[:, 1:].clone()
    for row, scored in enumerate((1, 2, 4, 8, 20, 3, 20, 5)):
        labels[row, scored:] = -100
    if not padded:
        return {"input_ids": ids[:, :-1], "labels": labels}
    real = labels != -100
    return {"input_ids": torch.where(real, ids[:, :-1], 7), "labels": labels, "attention_mask": real}


def toy_learner(model: str, vocabulary: int = VOCABULARY) -> Learner:
    """Without dropout, and with weights so large that nothing is hidden."""
    learner = Learner(MODELS[model].model_copy(update={"dropout": 0.0}).build(vocabulary, 0), NextToken())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return learner


def toy_corpus_at(folder: Path) -> Toy:
    """The toy corpus, written before by a test: `toy_corpus_for`."""
    tokenizer = load_tokenizer(folder.parent / "tokenizer")
    return Toy(tokenizer, Shards.open(folder, tokenizer=tokenizer))


def toy_corpus_for(folder: Path) -> None:
    """Write the corpus that the processes read."""
    toy_corpus(folder / "shards").tokenizer.save(folder / "tokenizer")


class NoData:
    """Batches come from the test."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def begun(
    world: World, kind: str, model: str, *, dtype: str = "float32", optimizer: dict[str, Any] | None = None,
    ema: float | None = None, vocabulary: int = VOCABULARY,
) -> State:  # fmt: skip
    """A run before its first step; `optimizer` and `ema` as a config has them."""
    learner = toy_learner(model, vocabulary)
    kinds = parameter_kinds(learner)
    weights = KINDS[kind]().place(learner, getattr(torch, dtype), world)  # type: ignore[attr-defined]
    chosen = OPTIMIZERS.validate_python(optimizer or {"kind": "adamw", "lr": 1e-2})
    average = None if ema is None else Average(Ema(decay=ema), weights.masters)
    return State(learner, weights, chosen.build(weights.masters, kinds), NoData(), average, world=world)


def trained(
    out: str, name: str, model: str, kind: str, micro_rows: int, padded: bool = False, l1: float = 0.0, l2: float = 0.0,
    **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Three updates on this process's part of uneven batches, and what is shown after each; weights in OUT/NAME.

    With an average of the weights it is the average that is shown, and that is written too.
    """
    world: World = Processes(timeout=WAIT) if under_torchrun() else World()
    state = begun(world, kind, model, **more)
    penalty = Penalty(l1=l1, l2=l2) if l1 or l2 else None
    step = PlainStep(Plan(steps=STEPS), Constant(warmup=0), clip=CLIP, world=world, penalty=penalty)
    updates, part = list[dict[str, Any]](), ROWS // world.size
    with world.watched() if world.size > 1 else nullcontext():
        for number in range(STEPS):
            mine = {k: v[world.rank * part :][:part] for k, v in uneven(number, padded).items()}
            group = [{k: v[i : i + micro_rows] for k, v in mine.items()} for i in range(0, part, micro_rows)]
            state.learner.train()
            update: Update = step(state, group)
            updates.append(update._asdict() | {"seconds": 0.0, "shown": shown(state)})
        found = {key: whole(tensor).detach().clone() for key, tensor in kept(state).items()}
    if world.rank == 0:
        save_file(found, Path(out) / f"{name}.safetensors")
    world.close()
    return updates


def shown(state: State) -> float:
    """The loss, on a batch of its own, of the model that is measured and exported."""
    state.learner.eval()
    with state.shown(), torch.no_grad():
        loss = state.weights.inside(lambda: state.learner.objective.loss(state.learner.model, uneven(99)))
    return float(loss.total.sum())


def kept(state: State) -> dict[str, torch.Tensor]:
    """Weights and their average."""
    average = {} if state.average is None else {f"average {k}": t for k, t in state.average.tensors.items()}
    return {**state.weights.masters, **average}


def run_to(folder: str, until: int, of: int, kind: str, load: bool, **more: Any) -> dict[str, Any]:
    """A toy run, begun or gone on with, up to update `until` of `of`: losses, rows read, saved in FOLDER/<until>."""
    world: World = Processes(timeout=WAIT) if under_torchrun() else World()
    corpus = toy_corpus_at(Path(folder) / "shards")
    special = corpus.tokenizer.special
    rows = Packed(corpus.shards, 24, seed=0, bos=special.bos, eos=special.eos)
    batches = Batches(rows, batch_rows=8, micro_rows=2, seed=0, rank=world.rank, world_size=world.size)
    state = begun(world, kind, "gpt", vocabulary=len(corpus.tokenizer), **more)
    state.batches = batches
    newest = newest_checkpoint(Path(folder) / "state").folder if load else None
    if newest is not None:
        state.load(newest)
    losses, read = [], []
    step = PlainStep(Plan(steps=of), Constant(warmup=0), world=world)
    with world.watched() if world.size > 1 else nullcontext():
        if state.step < until:
            for update in updates_of(state, batches, step):
                losses.append(update.loss)
                read.append(batches.last_rows())
                if update.step == until:
                    break
        state.save(Path(folder) / "state" / f"{until:08d}")
        found = {key: whole(tensor).detach().clone() for key, tensor in kept(state).items()}
        for key, master in state.weights.masters.items():
            found |= {f"{name} of {key}": whole(each).clone() for name, each in state.optimizer.state[master].items()}
        world.sum([0.0])  # nobody looks for the state before it is there
    if world.rank == 0:
        save_file(found, Path(folder) / "end.safetensors")
    world.close()
    return {"losses": losses, "rows": read}


def saved_on_bad_disks(folder: str) -> dict[str, Any]:
    """Parts of a state saved, the disk of one process full at one place after the other; what each process was told."""
    world, place, said = Processes(timeout=WAIT), Path(folder), []
    state = begun(world, "fsdp", "gpt")
    saver = Saver()

    def save(number: int) -> str:
        saver.begin(partial(state.snapshot().write, place / f"{number:08d}", world, sharded=True))
        try:
            saver.finish()
        except StorageError as error:
            return str(error).replace(str(place), "")
        return ""

    said.append(save(1))
    for number, (rank, broken) in enumerate(BAD_DISKS, 2):
        with broken() if world.rank == rank else nullcontext():
            said.append(save(number))
    found = newest_checkpoint(place).folder if world.rank == 0 else None
    told = {"said": said, "newest": found and found.name, "left": sorted(entry.name for entry in place.iterdir())}
    world.sum([0.0])
    told["last"] = save(9)
    state.load(place / "00000009")
    world.close()
    return told


@contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may be larger than 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_room(place: object, name: str) -> Iterator[None]:
    """The function says that the disk is full."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, full)
        yield


BAD_DISKS: list[tuple[int, Callable[[], AbstractContextManager[None]]]] = [
    (1, small_files),
    (0, small_files),
    (0, partial(no_room, Path, "mkdir")),
    (0, partial(no_room, checkpoint, "_write_counters")),
    (0, partial(no_room, store, "_take_place")),
]


def lost(how: str, timeout: float) -> dict[str, Any]:
    """Rank 1 of the processes dies, hangs or fails at its third meeting; what the others say, and after how long."""
    world = Processes(timeout=timeout)
    started = 0.0
    try:
        with world.watched():
            for meeting in range(100):
                if world.rank == 1 and meeting == 3:
                    if how == "dies":
                        os._exit(9)
                    if how == "fails":
                        raise DataError("page 7 is missing")
                    time.sleep(6 * timeout)  # hangs
                started = time.monotonic()
                world.sum([1.0])
    except (ProcessLost, DataError) as error:
        return {"said": str(error), "after": time.monotonic() - started}
    return {"said": "nothing", "after": 0.0}

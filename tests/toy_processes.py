"""What tests let several processes do."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from toy_runs import MODELS, Toy, toy_corpus

from yuyan.config import Config
from yuyan.corpus import Batches, Packed, Shards
from yuyan.errors import DataError
from yuyan.objectives import Batch, NextToken
from yuyan.store import newest_checkpoint
from yuyan.tokens import load_tokenizer
from yuyan.train import AdamW, Constant, Learner, PlainStep, Plan, State, parameter_kinds
from yuyan.train import train as updates_of
from yuyan.train.parallel import Ddp, Fsdp
from yuyan.train.world import Processes, ProcessLost, World, under_torchrun

VOCABULARY, ROWS, LENGTH, CLIP, STEPS = 60, 8, 20, 0.1, 3
KINDS: dict[str, type[Config]] = {"ddp": Ddp, "fsdp": Fsdp}


def uneven(update: int) -> Batch:
    """Eight rows of which 1, 2, 4 ... tokens are scored: a mean of means would be far off."""
    draw = torch.Generator().manual_seed(update)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=draw)
    labels = ids[:, 1:].clone()
    for row, scored in enumerate((1, 2, 4, 8, 20, 3, 20, 5)):
        labels[row, scored:] = -100
    return {"input_ids": ids[:, :-1], "labels": labels}


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


def trained(
    out: str, name: str, model: str, kind: str, micro_rows: int, dtype: str = "float32"
) -> list[dict[str, Any]]:
    """Three updates on this process's part of uneven batches; the first process writes the weights to OUT/NAME."""
    world: World = Processes(timeout=20) if under_torchrun() else World()
    learner = toy_learner(model)
    kinds = parameter_kinds(learner)
    weights = KINDS[kind]().place(learner, getattr(torch, dtype), world)  # type: ignore[attr-defined]
    state = State(learner, weights, AdamW(lr=1e-2).build(weights.masters, kinds), NoData())
    step, updates = PlainStep(Plan(steps=STEPS), Constant(warmup=0), clip=CLIP, world=world), []
    part = ROWS // world.size
    with world.watched() if world.size > 1 else nullcontext():
        for number in range(STEPS):
            mine = {k: v[world.rank * part :][:part] for k, v in uneven(number).items()}
            group = [{k: v[i : i + micro_rows] for k, v in mine.items()} for i in range(0, part, micro_rows)]
            updates.append(step(state, group))
        found = {key: weights.whole(master).clone() for key, master in weights.masters.items()}
    if world.rank == 0:
        save_file(found, Path(out) / f"{name}.safetensors")
    world.close()
    return [u._asdict() | {"seconds": 0.0} for u in updates]


def run_to(folder: str, until: int, of: int, kind: str, load: bool) -> dict[str, Any]:
    """A toy run, begun or gone on with, up to update `until` of `of`: losses, rows read, saved in FOLDER/<until>."""
    world: World = Processes(timeout=20) if under_torchrun() else World()
    corpus = toy_corpus_at(Path(folder) / "shards")
    learner = toy_learner("gpt", len(corpus.tokenizer))
    kinds = parameter_kinds(learner)
    weights = KINDS[kind]().place(learner, torch.float32, world)  # type: ignore[attr-defined]
    special = corpus.tokenizer.special
    rows = Packed(corpus.shards, 24, seed=0, bos=special.bos, eos=special.eos)
    batches = Batches(rows, batch_rows=8, micro_rows=2, seed=0, rank=world.rank, world_size=world.size)
    state = State(learner, weights, AdamW(lr=1e-2).build(weights.masters, kinds), batches, world=world)
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
        found = {key: weights.whole(master).clone() for key, master in weights.masters.items()}
        found |= {
            f"mean {key}": weights.whole(state.optimizer.state[m]["exp_avg"]).clone()
            for key, m in weights.masters.items()
        }
        world.sum([0.0])  # nobody looks for the state before it is there
    if world.rank == 0:
        save_file(found, Path(folder) / "end.safetensors")
    world.close()
    return {"losses": losses, "rows": read}


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

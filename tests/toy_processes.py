"""What tests let several processes do."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from toy_runs import MODELS

from yuyan.config import Config
from yuyan.objectives import Batch, NextToken
from yuyan.train import AdamW, Constant, Learner, PlainStep, Plan, State, parameter_kinds
from yuyan.train.parallel import Ddp, Fsdp
from yuyan.train.world import Processes, World, under_torchrun

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


def toy_learner(model: str) -> Learner:
    """Without dropout, and with weights so large that nothing is hidden."""
    learner = Learner(MODELS[model].model_copy(update={"dropout": 0.0}).build(VOCABULARY, 0), NextToken())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return learner


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

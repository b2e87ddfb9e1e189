"""How a corpus becomes updates: rows a batch, and how many updates a run takes."""

from __future__ import annotations

import math

from yuyan.commands.augment import question_of
from yuyan.commands.corpus import Corpus
from yuyan.commands.records import RecordCorpus
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import TrainConfig, seconds_of
from yuyan.commands.tasks import TaskCorpus
from yuyan.corpus import Batches
from yuyan.errors import InputError
from yuyan.objectives import Objective, collate
from yuyan.train import Plan
from yuyan.train.world import World

AnyCorpus = Corpus | RecordCorpus | TaskCorpus


def batches_for(config: RunConfig, corpus: AnyCorpus, objective: Objective, world: World) -> Batches:
    """The batches of a run, as far as this process takes part in them. Raises InputError."""
    settings = config.train
    try:
        rows = corpus.rows("train", settings.context, config.seed)
    except InputError as error:
        raise InputError(f"train.context: {error}") from None
    assert rows is not None
    return Batches(
        rows, batch_rows=settings.batch_rows, micro_rows=settings.micro_rows,
        example=question_of(config, corpus, objective), collate=collate, seed=config.seed, rank=world.rank, world_size=world.size,
    )  # fmt: skip


def plan_for(settings: TrainConfig, batches: Batches) -> Plan:
    """How long to train."""
    if settings.epochs is not None:
        return Plan(steps=max(1, math.ceil(settings.epochs * len(batches.rows) / batches.batch_rows)))
    return Plan(steps=settings.steps, seconds=None if settings.budget is None else seconds_of(settings.budget))

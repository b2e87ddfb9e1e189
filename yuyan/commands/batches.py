"""How a corpus becomes updates: rows a batch, and how many updates a run takes."""

from __future__ import annotations

import math

from yuyan.commands.augment import question_of
from yuyan.commands.corpus import Corpus
from yuyan.commands.records import RecordCorpus
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import TrainConfig, seconds_of
from yuyan.commands.tasks import TaskCorpus
from yuyan.corpus import Batches, Packed
from yuyan.corpus.batch import Rows
from yuyan.corpus.pack import Apart, arranged
from yuyan.errors import ConfigError, InputError
from yuyan.models.network import NetworkModule
from yuyan.nn.cache import Carried
from yuyan.nn.stack import Stack
from yuyan.objectives import NextToken, Objective, collate
from yuyan.train import Plan
from yuyan.train.world import World

AnyCorpus = Corpus | RecordCorpus | TaskCorpus


def batches_for(config: RunConfig, corpus: AnyCorpus, objective: Objective, world: World) -> Batches:
    """The batches of a run, as far as this process takes part in them. Raises InputError."""
    settings = config.train
    if settings.carry_state and config.data.sampling is not None:
        raise ConfigError("train.carry_state: not with data.sampling, which draws documents anew")
    try:
        if settings.carry_state and isinstance(corpus, Corpus):
            rows: Rows | None = corpus.continued(settings.context, settings.batch_rows, config.seed)
        else:
            rows = corpus.rows("train", settings.context, config.seed)
    except InputError as error:
        raise InputError(f"train.context: {error}") from None
    assert rows is not None
    return Batches(
        arranged(rows, settings.documents) if isinstance(rows, Packed) else rows, batch_rows=settings.batch_rows, micro_rows=settings.micro_rows,
        example=question_of(config, corpus, objective), collate=collate, seed=config.seed, rank=world.rank, world_size=world.size,
    )  # fmt: skip


def labels_per_byte(config: RunConfig, corpus: AnyCorpus, batches: Batches) -> float | None:
    """Tokens that an epoch predicts for each byte of its text: what turns a loss per token into one per byte.

    None where the two are not of the same text: records, other objectives, changed or chosen texts.
    """
    rows = batches.rows.packed if isinstance(batches.rows, Apart) else batches.rows
    if not (isinstance(corpus, Corpus) and isinstance(rows, Packed) and isinstance(config.objective, NextToken)):
        return None
    if config.data.augment or config.data.sampling or not corpus.train.bytes:
        return None
    first = len(corpus.train) if isinstance(batches.rows, Apart) else 0  # which nothing predicts then
    return (rows.tokens - first) / corpus.train.bytes


def plan_for(settings: TrainConfig, batches: Batches, updates: int = 0) -> Plan:
    """How long to train, where `updates` were taken; they may have been of another size than those to come."""
    if settings.epochs is not None:
        rows, size = len(batches.rows), batches.batch_rows
        beyond = batches.rows_read - updates * size  # what so many updates of this size would have read
        return Plan(steps=max(1, math.ceil((settings.epochs * rows - beyond) / size)))
    return Plan(steps=settings.steps, seconds=None if settings.budget is None else seconds_of(settings.budget))


def carried_for(config: RunConfig, network: NetworkModule, batches: Batches, world: World) -> Carried | None:
    """The state that is to be carried from update to update, if the config asks for it. Raises ConfigError."""
    if not config.train.carry_state:
        return None
    why = ""
    if network.encoder is not None or network.decoder is None or isinstance(network.config.decoder, Stack):
        why = "only a network that carries a state can: rnn, gru, lstm, nplm"
    elif not isinstance(config.objective, NextToken) or config.task is not None or config.data.records is not None:
        why = "only next_token on texts reads rows that go on"
    elif world.size > 1:
        why = "only one process can train so"
    if why:
        raise ConfigError(f"train.carry_state: {why}")
    return Carried(batches.batch_rows, len(batches.rows))

"""How well a model does on held-out data, measured the same way at every look: a way for each kind of objective.

Whatever writes text is measured by the likelihood of whole documents, in bits per byte, so that it can be compared with any
other language model. Everything else is measured by what it was asked to do (`yuyan.evaluate.held_out`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from yuyan.commands.batches import AnyCorpus
from yuyan.commands.companion import kept
from yuyan.commands.corpus import Corpus
from yuyan.commands.records import RecordCorpus
from yuyan.commands.run import RunConfig
from yuyan.commands.tasks import TaskCorpus
from yuyan.console import progress
from yuyan.corpus import Packed, Shards
from yuyan.corpus.by_length import ByLength
from yuyan.corpus.pack import Documents, arranged
from yuyan.evaluate.held_out import HeldOut, held_out
from yuyan.evaluate.likelihood import DocumentScores, Likelihood, score_documents, summarise
from yuyan.evaluate.task_score import TaskScore
from yuyan.metrics.interval import DRAWS
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.objectives import Distil, NextToken, ObjectiveConfig, Preference, PrefixLM, ReplacedToken
from yuyan.tokens import Tokenizer
from yuyan.train.world import World, share

PIECE = 1024  # tokens
Score = Likelihood | HeldOut


class Measure(Protocol):
    """Measures what was trained (a network, or a pair with its companion) on a part of the held-out data.

    `limit` is about how many tokens to read; None reads all. Of a part that is not there the score is None.
    """

    def __call__(self, trained: nn.Module, split: str, limit: int | None) -> Score | None: ...


def measure_for(config: RunConfig, corpus: AnyCorpus, context: int | None, world: World) -> Measure:
    """The way to measure what a run trains; `context` is how many tokens the network reads.

    The processes of `world` share the documents; an objective's own questions are asked by each of them.
    """
    if isinstance(corpus, TaskCorpus):
        return OfTask(corpus)
    asked = config.objective.base if isinstance(config.objective, Distil) else config.objective
    if isinstance(corpus, Corpus) and isinstance(asked, NextToken | PrefixLM):
        return OfDocuments(corpus, context, world)
    return OfObjective(asked, corpus, config.train.context, config.train.documents, config.seed)


@dataclass(frozen=True)
class OfDocuments:
    """Bits per byte of documents."""

    corpus: Corpus
    context: int | None
    world: World

    def __call__(self, trained: nn.Module, split: str, limit: int | None) -> Likelihood | None:
        shards = self.corpus.shards(split)
        if shards is None:
            return None
        if limit is not None:  # a look, which has the bar of the training around it
            return measure(kept(trained), self.corpus.tokenizer, shards, limit, self.context, self.world)
        with progress(f"measuring on the {split} text", (shards.tokens + len(shards)) / self.world.size) as bar:
            return measure(kept(trained), self.corpus.tokenizer, shards, limit, self.context, self.world, bar.advance)


@dataclass(frozen=True)
class OfObjective:
    """The loss of the objective, and its other marks, with the same questions at every look."""

    objective: ObjectiveConfig
    corpus: Corpus | RecordCorpus
    length: int
    documents: Documents
    seed: int

    def __call__(self, trained: nn.Module, split: str, limit: int | None) -> HeldOut | None:
        rows = self.corpus.rows(split, self.length, self.seed, whole=False)
        if rows is None:
            return None
        built = self.objective.build(self.corpus.tokenizer)
        model = trained if isinstance(self.objective, ReplacedToken | Preference) else kept(trained)
        count = None if limit is None else max(1, limit // self.length)
        held = arranged(rows, self.documents) if isinstance(rows, Packed) else rows
        return held_out(model, built, self.objective.kind, held, seed=self.seed, limit=count)


@dataclass(frozen=True)
class OfTask:
    """What the answers of a task are worth; on the way perhaps only the loss of the right ones, as the task says."""

    corpus: TaskCorpus

    def __call__(self, trained: nn.Module, split: str, limit: int | None) -> TaskScore | HeldOut | None:
        records, task = self.corpus.parts.get(split), self.corpus.task
        if records is None:
            return None
        if limit is not None and task.looks:
            records = _spread(records, task.looks)
        elif limit is not None and (tokens := self.corpus.tokens_of(split)) > limit:
            records = _spread(records, max(1, len(records) * limit // tokens))
        if limit is not None and task.looks == 0:
            items = task.items(records).items
            rows = ByLength(items, [len(item["input_ids"]) for item in items], len(items), 0, seed=0)
            return held_out(kept(trained), task, task.config.kind, rows, seed=0)
        answers = task.answer(kept(trained), records)
        return TaskScore.of(task.scores(answers, records, draws=0 if limit is not None else DRAWS), len(records))


def _spread(records: Sequence[Any], count: int) -> list[Any]:
    """So many of them, evenly spread."""
    return [records[i] for i in np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int))]


def better(score: Score, best: float | None) -> bool:
    """Whether a score is better than the best so far; NaN is none."""
    if best is None:
        return math.isfinite(score.value)
    return score.value > best if score.better == "higher" else score.value < best


def measure(
    model: NetworkModule | NGram,
    tokenizer: Tokenizer,
    shards: Shards,
    limit: int | None,
    context: int | None,
    world: World | None = None,
    told: Callable[[int], None] | None = None,
) -> Likelihood:
    """The likelihood of `shards`, or of pieces of them, evenly spread, of about `limit` tokens in all.

    Each process of a `world` measures a part of them, and all get the same answer; `told` hears of tokens that are done.
    """
    special = tokenizer.special
    assert special.bos is not None and special.eos is not None
    documents: list[np.ndarray] = [shards.document(i) for i in range(len(shards))]
    sizes = [int(size) for size in shards.document_bytes]
    if limit is not None and shards.tokens > limit:
        documents = _pieces(documents, limit)
        sizes = [len(tokenizer.decode(ids.tolist()).encode()) for ids in documents]
    world = world or World()
    mine = list(share(len(documents), world.rank, world.size))
    scores = score_documents(
        model, [documents[i] for i in mine], [sizes[i] for i in mine], bos=special.bos, eos=special.eos, context=context,
        told=told,
    )  # fmt: skip
    whole = np.zeros((3, len(documents)))
    whole[:, mine] = scores
    nats, tokens, measured = world.add(torch.from_numpy(whole)).numpy()
    return summarise(DocumentScores(nats, tokens.astype(np.int64), measured.astype(np.int64)))


def _pieces(documents: Sequence[np.ndarray], limit: int) -> list[np.ndarray]:
    """Evenly spread pieces of at most PIECE tokens of the documents, about `limit` tokens in all."""
    pieces = [ids[at : at + PIECE] for ids in documents for at in range(0, max(1, len(ids)), PIECE)]
    total = sum(map(len, pieces))
    count = min(len(pieces), max(1, round(len(pieces) * limit / total)))
    return [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, count).astype(np.int64))]

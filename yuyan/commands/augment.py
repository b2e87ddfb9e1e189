"""What `data.augment` asks for: questions of changed texts."""

from __future__ import annotations

import numpy as np

from yuyan.commands.corpus import Corpus
from yuyan.commands.records import RecordCorpus
from yuyan.commands.run import RunConfig
from yuyan.commands.tasks import TaskCorpus
from yuyan.corpus.augment import Frequencies, Make, augmented
from yuyan.objectives import Objective


def question_of(config: RunConfig, corpus: Corpus | RecordCorpus | TaskCorpus, objective: Objective) -> Make:
    """How a row of the training part becomes an example. Raises ConfigError if the tokenizer lacks a token that is needed."""
    if not config.data.augment:
        return objective.example
    tokenizer = corpus.tokenizer
    tokens = Frequencies.of(_ids(corpus), len(tokenizer), tokenizer.special)
    return augmented(objective.example, config.data.augment, tokens)


def _ids(corpus: Corpus | RecordCorpus | TaskCorpus) -> list[np.ndarray]:
    if isinstance(corpus, Corpus):
        return [corpus.train.flat]
    if isinstance(corpus, TaskCorpus):
        return [np.asarray(item["input_ids"]) for item in corpus.pieces.items]
    values = [value for item in corpus.parts["train"] for value in item.values()]
    return [np.asarray(ids) for value in values for ids in (value if isinstance(value, list) else [value])]

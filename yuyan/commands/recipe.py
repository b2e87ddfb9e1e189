"""Sizes and settings of a network, from the text and the time there is: what `model: {kind: auto}` and the ladder take.

The rule: a network of N weights that reads D tokens costs about 6 N D operations (Kaplan et al. 2020, section 2.1), more where
it is small, as small products are slow. The machine's speed is measured, so the time fixes D for each N, and the ratio D / N is
held at what small experiments on this kind of text and time found best (docs/recipes.md, docs/log.md). Small text is read many
times, so dropout grows with the number of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from yuyan.commands.pace import product_speed
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import EvaluateConfig, From, RunData, TrainConfig, seconds_of
from yuyan.models.classic import Gru, Lstm, Nplm, Rnn
from yuyan.models.cost import GATES
from yuyan.models.presets import RECURRENT, Auto, Family, Gpt
from yuyan.text import Prepared
from yuyan.tokens.train import BytePairConfig
from yuyan.train import AdamW, Muon, WarmupStableDecay, resolve
from yuyan.train.device import CPU

if TYPE_CHECKING:
    from yuyan.commands.corpus import Corpus

TOKENS_PER_WEIGHT = 5.0  # small text is read many times: a larger network and fewer readings are better
EFFICIENCY = {"lstm": 0.3, "gru": 0.15, "rnn": 0.15, "nplm": 0.15}  # of the measured matrix speed
HALF_SPEED = 280.0  # the width of a Transformer whose layers run at half of that speed
SCORES = 0.7  # of that speed, in which the scores of all tokens are made
THREAD_WEIGHTS = 1.2e6  # as many for each thread, and the threads bring half of what they do in large products
CONTEXT, SHORTEST_CONTEXT = 256, 32
ROWS = 16  # of a batch


@dataclass(frozen=True)
class Measured:
    """What the machine can do: operations a second in a matrix product of the size a small network makes."""

    operations: float
    alone: float | None = None
    """With one thread, if there are more."""
    threads: int = 1

    def speed(self, weights: float) -> float:
        """That a network of so many weights can make use of: of a small one's products the threads wait longer than they work."""
        if self.alone is None:
            return self.operations
        shared = 1 / (1 + (THREAD_WEIGHTS * self.threads / weights) ** 2)
        return self.alone + max(0.0, self.operations - self.alone) * shared


def measure_machine(device: torch.device = CPU, threads: int | None = None) -> Measured:
    """Time a product of the shapes of a small network in the format that training will use."""
    shape, dtype, before = (4096, 256, 768), resolve("auto", device), torch.get_num_threads()
    threads = threads or before
    try:
        torch.set_num_threads(threads)
        together = product_speed(shape, dtype, device)
        if device != CPU or threads == 1:
            return Measured(together)
        torch.set_num_threads(1)
        return Measured(together, product_speed(shape, dtype, device), threads)
    finally:
        torch.set_num_threads(before)


def vocabulary_for(prepared: Prepared) -> BytePairConfig:
    """A byte-level BPE for the text: about a token for each 500 bytes of text, and room for its common characters."""
    size, characters = 0, dict[str, int]()
    for document in prepared.documents("train"):
        size += len(document.text.encode())
        if size < 8_000_000:
            for character in document.text:
                if character > "\u2e7f":  # scripts whose characters are worth a token each
                    characters[character] = characters.get(character, 0) + 1
    counts = sorted(characters.values(), reverse=True)
    covered = np.cumsum(counts)
    common = int(np.searchsorted(covered, 0.98 * covered[-1])) + 1 if counts else 0
    base = min(8192, max(512, 2 ** round(math.log2(max(size, 1) / 700))))
    return BytePairConfig(vocab_size=-(-(base + common) // 64) * 64)


@dataclass(frozen=True)
class _Size:
    weights: float  # outside the embedding
    tokens: float  # read in all
    epochs: float


def fill(config: RunConfig, corpus: Corpus, machine: Measured) -> RunConfig:
    """The config with the model, and all that was left open, chosen for the text, the time and the machine.

    A config that names its model is returned as it is.
    """
    if not isinstance(config.model, Auto):
        return config
    settings, given = config.train, config.train.model_fields_set
    context = settings.context if "context" in given else _context(corpus)
    batch_tokens = settings.batch_tokens if "batch_tokens" in given else ROWS * context
    family = config.model.family
    if settings.steps is not None:
        tokens = float(settings.steps * batch_tokens)
        size = _Size(tokens / TOKENS_PER_WEIGHT, tokens, tokens / max(1, corpus.tokens))
    else:
        assert settings.budget is not None
        size = _size(family, corpus, seconds_of(settings.budget), machine, config.model.weights)
        if family == "gpt" and "batch_tokens" not in given:
            batch_tokens = _rows(size.tokens, context) * context
    model, rate, decay = (_gpt if family == "gpt" else _nplm if family == "nplm" else _recurrent)(config.model, size)
    adamw = AdamW(lr=rate, weight_decay=decay, beta2=0.98)
    chosen = {
        "context": context, "batch_tokens": batch_tokens, "schedule": WarmupStableDecay(warmup=0.03, decay=0.5),
        "optimizer": Muon(lr=rate, weight_decay=decay, rest=adamw),
    }  # fmt: skip
    train = settings.model_copy(update={key: value for key, value in chosen.items() if key not in given})
    return config.model_copy(update={"model": model, "train": train})


def _size(kind: str, corpus: Corpus, seconds: float, machine: Measured, weights: float | None) -> _Size:
    """`weights`, if any, are those of a named size."""

    def tokens(weights: float) -> float:
        return seconds * machine.speed(weights) / _operations(kind, weights, corpus.vocab_size)

    if weights is None:
        weights = _least(lambda n: tokens(n) / n <= TOKENS_PER_WEIGHT)
    return _Size(weights, tokens(weights), tokens(weights) / max(1, corpus.tokens))


def _operations(kind: str, weights: float, vocabulary: int) -> float:
    """What a token of training costs, as many operations as large products would do in that time."""
    if kind != "gpt":
        return 6 * weights / EFFICIENCY[kind]
    width = _width(weights)
    return 6 * weights * (1 + HALF_SPEED / width) + 6 * vocabulary * width / SCORES


def _least(enough: Callable[[float], bool]) -> float:
    """The least number of weights that is enough, where every larger one is."""
    low, high = 1e3, 1e12
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _rows(tokens: float, context: int) -> int:
    """Rows of a batch for so many tokens in all: where updates are few, more of them are worth more than good gradients. 4,096 tokens
    are best from 1.5 to 8 million (docs/recipes.md); on both sides the batch grows as the root of the tokens, which was not measured."""
    wanted = 4096 * math.sqrt(min(1.0, tokens / 1.5e6) * max(1.0, tokens / 16e6)) / context
    return int(2 ** max(2, round(math.log2(wanted))))


def _layers(weights: float) -> int:
    return 3 if weights < 4.5e5 else 4 if weights < 4e6 else 6


def _width(weights: float) -> float:
    """Of a Transformer."""
    return math.sqrt(weights / (12 * _layers(weights)))


def _gpt(auto: Auto, size: _Size) -> tuple[Gpt, float, float]:
    """A Transformer, its learning rate and its weight decay."""
    layers, hidden = _layers(size.weights), min(768, max(64, round(_width(size.weights) / 32) * 32))
    model = (
        named
        if isinstance(named := auto.named, Gpt)
        else Gpt(hidden_size=hidden, num_layers=layers, num_heads=hidden // 32)
    )
    dropout = round(min(0.4, max(0.0, size.epochs - 5) / 50), 2)
    model = model.model_copy(update={"dropout": dropout})
    return model, 8e-3 * math.sqrt(128 / model.hidden_size), 0.1 if size.epochs < 5 else 0.3


def _recurrent(auto: Auto, size: _Size) -> tuple[Rnn | Gru | Lstm, float, float]:
    """A recurrent network, its learning rate and its weight decay."""
    hidden = min(1024, max(96, round(math.sqrt(size.weights / (2 * GATES[auto.family])) / 32) * 32))
    named = auto.named
    if not isinstance(named, Rnn | Gru | Lstm):
        named = RECURRENT[auto.family](hidden_size=hidden, embedding_size=hidden, num_layers=1)
    rate = 16e-3 if auto.family != "rnn" else 8e-3  # without gates a large step leaves tanh flat
    rate *= math.sqrt(256 / named.hidden_size)
    return named.model_copy(update={"dropout": min(0.4, 2 * _dropout(size.epochs))}), rate, 0.1


def _nplm(auto: Auto, size: _Size) -> tuple[Nplm, float, float]:
    """A neural n-gram model, its learning rate and its weight decay."""
    hidden = min(1024, max(96, round(math.sqrt(size.weights / 2) / 32) * 32))
    named = auto.named
    model = named if isinstance(named, Nplm) else Nplm(hidden_size=hidden, embedding_size=hidden // 2)
    return model.model_copy(update={"dropout": _dropout(size.epochs)}), 8e-3, 0.1


def _dropout(epochs: float) -> float:
    """None while the text is fresh, a fifth when it is read twenty times."""
    return 0.0 if epochs < 3 else round(min(0.2, 0.05 * math.log2(epochs / 1.5)), 2)


def _context(corpus: Corpus) -> int:
    context = CONTEXT
    while context > SHORTEST_CONTEXT and int(corpus.train.tokens) < 20 * context:
        context //= 2
    return max(2, min(context, int(corpus.train.tokens) - 1))


def rung_run(family: Family, corpus: Corpus, seconds: float, machine: Measured, seed: int) -> RunConfig:
    """A network of a family for so much text and time, as a rung of a ladder."""
    config = RunConfig(
        name=family, seed=seed, data=RunData(prepared=Path("../../data")), tokenizer=From(path=Path("../../tokenizer")),
        model=Auto(family=family), train=TrainConfig(budget=f"{seconds:.0f}s"), evaluate=EvaluateConfig(tokens=30_000),
    )  # fmt: skip
    return fill(config, corpus, machine)


def chosen(config: RunConfig, corpus: Corpus) -> str:
    """What the recipe chose, in a line."""
    model, train = config.model, config.train
    assert isinstance(model, Gpt | Rnn | Gru | Lstm | Nplm)
    layers = "" if isinstance(model, Nplm) else f"{model.num_layers} x "
    rate = f"learning rate {train.optimizer.lr:.2g}, " if hasattr(train.optimizer, "lr") else ""
    return (
        f"chosen for {corpus.train.bytes / 1e6:.2f} MB of text and {train.budget or f'{train.steps} steps'}: {model.kind} of "
        f"{layers}{model.hidden_size}, {corpus.vocab_size} tokens, rows of {train.context}, batches of "
        f"{train.batch_tokens} tokens, {rate}dropout {model.dropout:g}; all of it is in run.yaml"
    )

"""Sizes and settings of a ladder's networks, from the text and the time there is.

The rule: a network of N weights that reads D tokens costs about 6 N D operations (Kaplan et al. 2020, section 2.1). The
machine's speed is measured, the budget fixes N D, and the ratio D / N is held at what small experiments on this kind of
text and time found best (docs/log.md). Small text is read many times, so dropout grows with the number of epochs.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from yuyan.commands.run import EvaluateConfig, From, RunConfig, RunData, TrainConfig
from yuyan.models.presets import Gpt, Lstm
from yuyan.nn.initialise import Initialisation
from yuyan.text import Prepared
from yuyan.tokens.train import BytePairConfig
from yuyan.train import AdamW, WarmupStableDecay, resolve

if TYPE_CHECKING:
    from yuyan.commands.corpus import Corpus

TOKENS_PER_WEIGHT = 5.0  # small text is read many times: a larger network and fewer readings are better
EFFICIENCY = {"gpt": 0.25, "lstm": 0.3}  # of the measured matrix speed
CONTEXT, SHORTEST_CONTEXT = 256, 32


@dataclass(frozen=True)
class Measured:
    """What the machine can do: operations a second in a matrix product of the size a small network makes."""

    operations: float


def measure_machine(seconds: float = 0.3) -> Measured:
    """Time a product of the shapes of a small network in the format that training will use."""
    dtype = resolve("auto", torch.device("cpu"))
    a, b = torch.randn(4096, 256, dtype=dtype), torch.randn(256, 768, dtype=dtype)
    a @ b
    count, started = 0, time.monotonic()
    while (spent := time.monotonic() - started) < seconds:
        a @ b
        count += 1
    return Measured(2 * 4096 * 256 * 768 * count / spent)


def vocabulary_for(prepared: Prepared) -> BytePairConfig:
    """A byte-level BPE for the text: about a token for each 500 bytes of text, and room for its common characters."""
    size, characters = 0, dict[str, int]()
    for document in prepared.documents("train"):
        size += len(document.text.encode())
        if size < 8_000_000:
            for character in document.text:
                if character > "\u2e7f":  # scripts whose characters are worth a token each
                    characters[character] = characters.get(character, 0) + 1
    counts, covered = sorted(characters.values(), reverse=True), 0
    common = 0
    while common < len(counts) and covered < 0.98 * sum(counts):
        covered += counts[common]
        common += 1
    base = min(8192, max(512, 2 ** round(math.log2(max(size, 1) / 700))))
    return BytePairConfig(vocab_size=-(-(base + common) // 64) * 64)


@dataclass(frozen=True)
class _Size:
    weights: float  # outside the embedding
    tokens: float  # read in all
    epochs: float


def _size(kind: str, corpus: Corpus, seconds: float, machine: Measured) -> _Size:
    operations = machine.operations * EFFICIENCY[kind] * seconds
    weights = math.sqrt(operations / 6 / TOKENS_PER_WEIGHT)
    tokens = operations / 6 / weights
    return _Size(weights, tokens, tokens / max(1, int(corpus.train.tokens)))


def gpt_run(corpus: Corpus, seconds: float, machine: Measured, seed: int) -> RunConfig:
    """A Transformer for so much text and time."""
    size = _size("gpt", corpus, seconds, machine)
    layers = 4 if size.weights < 4e6 else 6
    hidden = min(768, max(64, round(math.sqrt(size.weights / (12 * layers)) / 32) * 32))
    model = Gpt(
        hidden_size=hidden, num_layers=layers, num_heads=hidden // 32, dropout=_dropout(size.epochs),
        initialisation=Initialisation(std=hidden**-0.5, embedding_std=0.02, zero_output=True),
    )  # fmt: skip
    rate = 4e-3 * math.sqrt(128 / hidden)
    return _run("gpt", model, corpus, seconds, rate, weight_decay=0.1 if size.epochs < 4 else 0.3, seed=seed)


def lstm_run(corpus: Corpus, seconds: float, machine: Measured, seed: int) -> RunConfig:
    """A recurrent network for so much text and time."""
    size = _size("lstm", corpus, seconds, machine)
    hidden = min(1024, max(96, round(math.sqrt(size.weights / 8) / 32) * 32))
    model = Lstm(hidden_size=hidden, embedding_size=hidden, num_layers=1, dropout=min(0.4, 2 * _dropout(size.epochs)))
    return _run("lstm", model, corpus, seconds, 4e-3, weight_decay=0.05, seed=seed)


def _dropout(epochs: float) -> float:
    """None while the text is fresh, a fifth when it is read twenty times."""
    return 0.0 if epochs < 3 else round(min(0.2, 0.05 * math.log2(epochs / 1.5)), 2)


def _run(
    name: str, model: Gpt | Lstm, corpus: Corpus, seconds: float, rate: float, *, weight_decay: float, seed: int
) -> RunConfig:
    context = CONTEXT
    while context > SHORTEST_CONTEXT and int(corpus.train.tokens) < 20 * context:
        context //= 2
    return RunConfig(
        name=name, seed=seed, data=RunData(prepared=Path("../../data")), tokenizer=From(path=Path("../../tokenizer")), model=model,
        train=TrainConfig(
            budget=f"{seconds:.0f}s", context=context, batch_tokens=16 * context,
            optimizer=AdamW(lr=rate, weight_decay=weight_decay, beta2=0.98),
            schedule=WarmupStableDecay(warmup=0.03, decay=0.5),
        ),
        evaluate=EvaluateConfig(tokens=30_000),
    )  # fmt: skip

"""A model whose input embedding begins as word vectors, which stay as they are or are trained on."""

from __future__ import annotations

import hashlib

import torch

from yuyan.console import say, warn
from yuyan.errors import ConfigError, InputError
from yuyan.models.classic import WordVectors
from yuyan.models.network import NetworkModule
from yuyan.tokens import Tokenizer
from yuyan.vectors import load_vectors
from yuyan.vectors.table import Table, table_for

WHOLE = ("word", "char")
"""Tokenizers whose tokens are words, or characters that are words."""


def begin_with_vectors(
    network: NetworkModule, config: WordVectors, tokenizer: Tokenizer, seed: int, stored: str | None
) -> str:
    """Put the vectors of `config` into the embedding of `network`; returns their SHA-256.

    `stored` is the one that the run began with. Raises ConfigError for a tokenizer of pieces and for vectors of another
    size than the embedding, InputError if the vectors are others than when the run began, DataError for damaged ones.
    """
    key = f"model.embedding.from: {config.path}"
    if tokenizer.kind not in WHOLE:
        raise ConfigError(
            f"{key}: the tokenizer cuts words into pieces ({tokenizer.kind}), which have no word vectors; "
            "use tokenizer.kind word, or char for vectors of characters"
        )
    vectors = load_vectors(config.path)
    weight = network.embedding.token.weight
    if vectors.dimensions != weight.shape[1]:
        raise ConfigError(
            f"{key}: vectors of {vectors.dimensions} dimensions do not fit an embedding of {weight.shape[1]}; set "
            f"model.embedding_size (lstm, gru, rnn, bilstm, nplm), model.hidden_size (gpt) or model.architecture.embedding.size (network) to "
            f"{vectors.dimensions}"
        )
    table = table_for(tokenizer.vocabulary, vectors, tokenizer.pieces.control, seed)
    if not table.found:
        raise ConfigError(
            f"{key}: has none of the tokenizer's {len(tokenizer):,} tokens; were they cut in the same way?"
        )
    digest = hashlib.sha256(table.matrix.tobytes()).hexdigest()
    if stored is not None and stored != digest:
        raise InputError(
            f"{key}: other vectors than those the run began with; put them back, or use --out for a new run"
        )
    with torch.no_grad():
        weight.copy_(torch.from_numpy(table.matrix))
    weight.requires_grad_(weight.requires_grad and not config.frozen)
    _tell(table, config)
    return digest


def _tell(table: Table, config: WordVectors) -> None:
    rows = len(table.matrix)
    pieces = f", {table.composed:,} made of pieces" if table.composed else ""
    state = "frozen" if config.frozen else "trained on"
    say(
        f"embedding from {config.path} ({state}): {table.found:,} of {rows:,} tokens found{pieces}, "
        f"{len(table.drawn):,} drawn like them: {' '.join(table.drawn[:8])}"
    )
    if len(table.drawn) > rows / 2:
        warn("more than half of the tokens have no vector; were text and vectors cut into words in the same way?")

"""The variants of the default recipe that bench/recipes.py measures: each changes one thing, but for nanoGPT's, which changes all.

A variant is a function of the run's config (the one that `yuyan ladder` takes for a text and a budget) and its corpus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yuyan.commands.corpus import Corpus
from yuyan.commands.run import RunConfig
from yuyan.corpus.augment import Augmentation, Delete, Replace, Swap, TokenDropout
from yuyan.models.presets import Custom, Gpt
from yuyan.nn.ffn import Mlp
from yuyan.nn.initialise import Initialisation
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.train import AdamW, Cosine, Muon, WarmupStableDecay

Variant = Callable[[RunConfig, Corpus], RunConfig]


def gpt(**changes: Any) -> Variant:
    """The preset with other sizes or settings."""
    return lambda config, corpus: config.model_copy(update={"model": config.model.model_copy(update=changes)})


def training(**changes: Any) -> Variant:
    """Other settings of the training."""
    return lambda config, corpus: config.model_copy(update={"train": config.train.model_copy(update=changes)})


def changed(old: Any, changes: dict[str, Any]) -> Any:
    """A config with other values; a function gets the old one."""
    return old.model_copy(
        update={key: value(getattr(old, key)) if callable(value) else value for key, value in changes.items()}
    )


def optimizer(**changes: Any) -> Variant:
    """Other settings of both optimizers, Muon's and the AdamW beside it; a function gets the old value."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        new = changed(config.train.optimizer, changes)
        if isinstance(new, Muon):
            new = new.model_copy(update={"rest": changed(new.rest, changes)})
        return training(optimizer=new)(config, corpus)

    return change


def stack(initialisation: Initialisation | None = None, **changes: Any) -> Variant:
    """Another seam of the network."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        assert isinstance(config.model, Gpt)
        network = config.model.network(corpus.vocab_size)
        assert network.decoder is not None
        decoder = network.decoder.model_copy(
            update={k: v(network.decoder) if callable(v) else v for k, v in changes.items()}
        )
        return config.model_copy(update={"model": Custom(
            architecture=network.model_copy(update={"decoder": decoder}),
            initialisation=initialisation or config.model.initialisation,
        )})  # fmt: skip

    return change


def rows(factor: float) -> Variant:
    """Another size of the batch."""
    return lambda config, corpus: training(batch_tokens=int(config.train.batch_tokens * factor))(config, corpus)


def width(factor: float) -> Variant:
    """Another width, to a multiple of 32, the rate as the recipe would have it."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        hidden = max(64, round(config.model.hidden_size * factor / 32) * 32)
        scale = (config.model.hidden_size / hidden) ** 0.5
        config = gpt(hidden_size=hidden, num_heads=hidden // 32)(config, corpus)
        return optimizer(lr=lambda old: old * scale)(config, corpus)

    return change


def layers(more: int) -> Variant:
    """Another depth."""
    return lambda config, corpus: gpt(num_layers=config.model.num_layers + more)(config, corpus)


def wide_start(config: RunConfig, corpus: Corpus) -> RunConfig:
    """First weights behind whose matrices numbers are as large as before them."""
    assert isinstance(config.model, Gpt)
    start = Initialisation(std=config.model.hidden_size**-0.5, embedding_std=0.02, zero_output=True)
    return gpt(initialisation=start)(config, corpus)


def regularised(factor: float) -> Variant:
    """`factor` times the dropout that the recipe takes for so many readings."""
    return lambda config, corpus: gpt(dropout=factor * config.model.dropout)(config, corpus)


def mlp(activation: str) -> Variant:
    """A feed-forward layer without a gate, as many weights."""
    return stack(
        ffn=lambda old: Mlp(intermediate_size=old.ffn.intermediate_size * 3 // 2, activation=activation, bias=False)
    )


def muon(**changes: Any) -> Variant:
    """Other settings of Muon, AdamW's as they were."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        assert isinstance(config.train.optimizer, Muon)
        return training(optimizer=changed(config.train.optimizer, changes))(config, corpus)

    return change


def adamw(config: RunConfig, corpus: Corpus) -> RunConfig:
    """No Muon: its AdamW for all, at half the rate, which suits it."""
    assert isinstance(config.train.optimizer, Muon)
    rest = config.train.optimizer.rest
    return training(optimizer=rest.model_copy(update={"lr": rest.lr / 2}))(config, corpus)


def both(first: Variant, second: Variant) -> Variant:
    """Two changes."""
    return lambda config, corpus: second(first(config, corpus), corpus)


def nanogpt(config: RunConfig, corpus: Corpus) -> RunConfig:
    """GPT-2's network and nanoGPT's settings for a small text (its `config/train_shakespeare_char.py`)."""
    assert isinstance(config.model, Gpt)
    network = config.model.network(corpus.vocab_size)
    assert network.decoder is not None
    hidden, old = network.hidden_size, network.decoder
    decoder = old.model_copy(update={
        "norm": LayerNorm(), "ffn": Mlp(intermediate_size=4 * hidden, activation="gelu"), "dropout": 0.0,
        "position": Learned(max_position_embeddings=config.train.context),
        "heads": old.heads.model_copy(update={"qk_norm": None}),
    })  # fmt: skip
    embedding = network.embedding.model_copy(update={"dropout": 0.0})
    whole = network.model_copy(update={"decoder": decoder, "embedding": embedding})
    config = config.model_copy(update={"model": Custom(architecture=whole, initialisation=Initialisation(std=0.02))})
    return training(
        optimizer=AdamW(lr=1e-3, beta2=0.99, weight_decay=0.1), schedule=Cosine(warmup=0.02, floor=0.1)
    )(config, corpus)  # fmt: skip


def augment(*changes: Augmentation) -> Variant:
    """Changes at random to what is read in training."""
    return lambda config, corpus: config.model_copy(
        update={"data": config.data.model_copy(update={"augment": changes})}
    )


VARIANTS: dict[str, tuple[str, Variant]] = {
    "default": ("the default recipe", lambda config, corpus: config),
    "nanogpt": ("nanoGPT's recipe, same width, depth and batch", nanogpt),
    "nanogpt-quarter": ("nanoGPT's recipe, a quarter of the batch", both(nanogpt, rows(0.25))),
    "lr-half": ("half the learning rate", optimizer(lr=lambda old: old / 2)),
    "lr-double": ("twice the learning rate", optimizer(lr=lambda old: old * 2)),
    "cosine": ("cosine to a tenth instead of warm-up, level, decay", training(schedule=Cosine(warmup=0.03))),
    "decay-short": ("decay in the last fifth", training(schedule=WarmupStableDecay(warmup=0.03, decay=0.2))),
    "decay-long": ("decay in the last four fifths", training(schedule=WarmupStableDecay(warmup=0.03, decay=0.8))),
    "batch-half": ("half the batch", rows(0.5)),
    "batch-quarter": ("a quarter of the batch", rows(0.25)),
    "batch-double": ("twice the batch", rows(2)),
    "batch-four": ("four times the batch", rows(4)),
    "narrow": ("0.7 of the width", width(0.7)),
    "wide": ("1.4 of the width", width(1.4)),
    "deeper": ("a layer more", layers(1)),
    "shallower": ("a layer less", layers(-1)),
    "relu2": ("squared ReLU instead of SwiGLU", mlp("relu2")),
    "gelu": ("GELU instead of SwiGLU", mlp("gelu")),
    "gelu-tanh": ("GELU by tanh instead of SwiGLU", mlp("gelu_tanh")),
    "no-qk-norm": (
        "no norm on queries and keys",
        stack(heads=lambda old: old.heads.model_copy(update={"qk_norm": None})),
    ),
    "layer-norm": ("LayerNorm instead of RMSNorm", stack(norm=LayerNorm())),
    "learned": ("learned instead of rotary positions", stack(position=Learned(max_position_embeddings=256))),
    "start-wide": ("first weights of 1 / sqrt(width) and, into the stream, zero", wide_start),
    "start-zero": (
        "projections into the stream zero at first",
        gpt(initialisation=Initialisation(std=0.02, embedding_std=0.02, zero_output=True)),
    ),
    "start-tiny": ("first weights half as large", gpt(initialisation=Initialisation(std=0.01, embedding_std=0.02))),
    "untied": ("a table of its own for the scores", gpt(tied=False)),
    "decay-weak": ("weight decay 0.01", optimizer(weight_decay=0.01)),
    "decay-strong": ("weight decay 1", optimizer(weight_decay=1.0)),
    "dropout": ("dropout 0.1", gpt(dropout=0.1)),
    "dropout-double": ("twice the dropout", regularised(2.0)),
    "dropout-double-decay": ("twice the dropout, weight decay 1", both(regularised(2.0), optimizer(weight_decay=1.0))),
    "dropout-double-narrow": ("twice the dropout, 0.7 of the width", both(regularised(2.0), width(0.7))),
    "adamw": ("AdamW for all, half the rate", adamw),
    "adamw-wide": (
        "AdamW for all, half the rate, from first weights of 1 / sqrt(width), which suit it",
        both(adamw, wide_start),
    ),
    "adamw-batch-double": ("AdamW for all, half the rate, twice the batch", both(adamw, rows(2))),
    "muon-double": ("twice the rate for Muon's matrices", muon(lr=lambda old: old * 2)),
    "muon-half": ("half the rate for Muon's matrices", muon(lr=lambda old: old / 2)),
    "muon-four": ("four rounds of Newton-Schulz instead of five", muon(rounds=4)),
    "token-dropout": ("token dropout 0.1, by any token", augment(TokenDropout(rate=0.1))),
    "token-dropout-unigram": (
        "token dropout 0.1, by tokens as frequent as in the text",
        augment(TokenDropout(rate=0.1, becomes="unigram")),
    ),
    "token-dropout-weak": (
        "token dropout 0.02, by tokens as frequent as in the text",
        augment(TokenDropout(rate=0.02, becomes="unigram")),
    ),
    "delete": ("a twentieth of the tokens left out", augment(Delete(rate=0.05))),
    "swap": ("an exchange of two tokens for each fifty", augment(Swap(rate=0.02))),
    "replace": (
        "a twentieth of the tokens replaced by equally frequent ones",
        augment(Replace(rate=0.05, by="same_frequency")),
    ),
}

SAME_STEP = (
    "lr-half", "lr-double", "cosine", "decay-short", "decay-long", "start-wide", "start-zero", "start-tiny", "decay-weak",
    "decay-strong", "muon-double", "muon-half",
)  # fmt: skip
PACE_OF = dict.fromkeys(SAME_STEP, "default") | {"adamw-wide": "adamw"}
"""Whose pace is theirs: their step does the same work, only with other numbers."""

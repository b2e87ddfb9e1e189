"""The model card: README.md of a model folder, made from what the run recorded and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from yuyan.config import dump
from yuyan.evaluate.quantities import interval

if TYPE_CHECKING:
    from yuyan.commands.corpus import Corpus
    from yuyan.commands.outcome import Trained
    from yuyan.commands.run import RunConfig
    from yuyan.evaluate.likelihood import Likelihood


def model_card(config: RunConfig, result: Trained, corpus: Corpus, context: int | None) -> str:
    """Markdown with the YAML header that model hubs read."""
    header = yaml.safe_dump(
        {"library_name": "transformers", "pipeline_tag": "text-generation", "language": corpus.language,
         "tags": ["yuyan", config.model.kind]},
        sort_keys=False,
    )  # fmt: skip
    scores = "\n".join(
        _row(name, score) for name, score in (("validation", result.validation), ("test", result.test)) if score
    )
    settings = yaml.safe_dump(
        {"model": dump(config.model), "adapt": dump(config.adapt), "train": dump(config.train)}, sort_keys=False
    )
    return f"""---
{header}---

# {config.name}

A causal language model with {result.parameters / 1e6:.2f} M parameters, {_origin(config)} on
{corpus.train.bytes / 1e6:.2f} MB of text ({len(corpus.train):,} documents): {result.tokens:,} tokens seen,
{result.epochs:.1f} epochs, {result.seconds:.0f} seconds.

| held-out text | bits per byte | 95 % interval (bootstrap over documents) | perplexity a token | tokens |
|---|---|---|---|---|
{scores}

The model reads {_context(context)}. {_seen(config)}, true or not, and nothing
was done to make it safe or private.

## Settings

```yaml
{settings}```
"""


def _origin(config: RunConfig) -> str:
    if config.model.kind != "pretrained":
        return "trained from nothing"
    how = {"full": "all weights", "freeze": "some weights", "lora": "low-rank adapters, merged here"}[config.adapt.kind]
    return f"trained further from `{config.model.path.name}` ({how})"


def _seen(config: RunConfig) -> str:
    if config.model.kind == "pretrained":
        return "It repeats what this text and that of its first training say"
    return "It has seen only this text: it repeats what the text says"


def _row(name: str, score: Likelihood) -> str:
    bits, between = f"{score.bits_per_byte:.4f}", interval(score.interval, 4)
    return f"| {name} | {bits} | {between} | {score.perplexity:.2f} | {score.tokens:,} |"


def _context(context: int | None) -> str:
    return "text of any length (its state is carried on)" if context is None else f"at most {context} tokens at once"

"""The model card: README.md of a model folder, made from what the run recorded and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from yuyan.commands.pretrained import Pretrained
from yuyan.config import dump
from yuyan.evaluate.held_out import HeldOut
from yuyan.evaluate.likelihood import Likelihood
from yuyan.evaluate.quantities import interval, percent, significant
from yuyan.evaluate.wording import SHARES, measure_name
from yuyan.objectives import Distil

if TYPE_CHECKING:
    from yuyan.commands.batches import AnyCorpus
    from yuyan.commands.outcome import Trained
    from yuyan.commands.run import RunConfig


_TAGS = {
    "prefix_lm": "text-generation", "next_token": "text-generation", "preference": "text-generation",
    "masked_token": "fill-mask", "span_corruption": "text2text-generation", "contrastive": "sentence-similarity",
    "replaced_token": "feature-extraction", "ctc": "feature-extraction", "classify": "text-classification",
    "tag": "token-classification", "answer": "question-answering", "rewrite": "text2text-generation",
    "summarise": "summarization", "translate": "translation", "converse": "text-generation",
}  # fmt: skip
_MODELS = {
    "next_token": "A causal language model", "prefix_lm": "A causal language model, trained to go on or to answer,",
    "preference": "A causal language model, trained on preferences,", "masked_token": "A masked language model",
    "span_corruption": "An encoder and decoder that restores cut-out spans,",
    "replaced_token": "A discriminator that finds replaced tokens (ELECTRA), made to be trained further,",
    "contrastive": "A model that turns texts into vectors,", "ctc": "A model that labels frames without an alignment (CTC),",
    "rewrite": "A model that rewrites texts,", "summarise": "A model that sums up texts,",
    "translate": "A model that translates,", "classify": "A classifier of texts,", "tag": "A model that labels the words of a text,",
    "answer": "A model that finds the answer to a question in a text,",
    "converse": "A model that answers in a dialogue,",
}  # fmt: skip
"""By the kind of the objective, that of its base for a distillation."""


def model_card(config: RunConfig, result: Trained, corpus: AnyCorpus, context: int | None) -> str:
    """Markdown with the YAML header that model hubs read."""
    objective = config.objective
    asked: str = objective.base.kind if isinstance(objective, Distil) else objective.kind
    asked = asked if config.task is None else config.task.kind
    header = yaml.safe_dump(
        {"library_name": "transformers", "pipeline_tag": _TAGS[asked], "language": corpus.language,
         "tags": ["yuyan", config.model.kind]},
        sort_keys=False,
    )  # fmt: skip
    aim = "objective" if config.task is None else "task"
    parts = {name: dump(getattr(config, name)) for name in ("model", "adapt", aim, "train")}
    if isinstance(objective, Distil) and objective.teacher is not None:
        parts["objective"]["teacher"] = objective.teacher.name  # a name, not where it lay on the maker's machine
    if isinstance(config.model, Pretrained):
        parts["model"]["path"] = config.model.path.name
    settings = yaml.safe_dump(parts, sort_keys=False)
    taught = (
        f", distilled from `{objective.teacher.name}`" if isinstance(objective, Distil) and objective.teacher else ""
    )
    return f"""---
{header}---

# {config.name}

{_MODELS[asked]} with {result.parameters / 1e6:.2f} M parameters, {_origin(config)}{taught} on
{corpus.describe()}: {result.tokens:,} {result.unit} seen, {result.epochs:.1f} epochs, {result.seconds:.0f} seconds.

{_scores(result)}

The model reads {_context(context)}. {_seen(config, result)}, true or not,
and nothing was done to make it safe or private.

## Settings

```yaml
{settings}```
"""


def _scores(result: Trained) -> str:
    """The table of what was measured."""
    first = result.validation
    rows = [(name, score) for name, score in (("validation", result.validation), ("test", result.test)) if score]
    if isinstance(first, HeldOut):
        names = [measure_name(key, "en") for key in (first.measure, *first.others)]
        head = ["held-out data", names[0], "95 % interval (bootstrap over examples)", *names[1:], first.unit]
        return _markdown(head, [_held_out(name, score) for name, score in rows if isinstance(score, HeldOut)])
    head = [
        "held-out text",
        "bits per byte",
        "95 % interval (bootstrap over documents)",
        "perplexity a token",
        "tokens",
    ]
    return _markdown(head, [_likelihood(name, score) for name, score in rows if isinstance(score, Likelihood)])


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _origin(config: RunConfig) -> str:
    if config.model.kind != "pretrained":
        return "trained from nothing"
    how = {"full": "all weights", "freeze": "some weights", "lora": "low-rank adapters, merged here"}[config.adapt.kind]
    return f"trained further from `{config.model.path.name}` ({how})"


def _seen(config: RunConfig, result: Trained) -> str:
    does = "repeats" if result.writes else "has learned"
    if config.model.kind == "pretrained":
        return f"It {does} what this data and that of its first training say"
    return f"It has seen only this data: it {does} what the data say"


def _likelihood(name: str, score: Likelihood) -> list[str]:
    bits, between = f"{score.bits_per_byte:.4f}", interval(score.interval, 4)
    return [name, bits, between, f"{score.perplexity:.2f}", f"{score.tokens:,}"]


def _held_out(name: str, score: HeldOut) -> list[str]:
    others = [percent(v) if key.endswith(SHARES) else significant(v) for key, v in score.others.items()]
    return [name, f"{score.value:.4f}", interval(score.interval, 4), *others, f"{score.counted:,}"]


def _context(context: int | None) -> str:
    return "text of any length (its state is carried on)" if context is None else f"at most {context} tokens at once"

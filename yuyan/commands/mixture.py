"""`yuyan evaluate --mix`: a model mixed with another of the same tokens, the weight chosen on text of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yuyan.commands.evaluate import marks_of, read_text
from yuyan.config import dump
from yuyan.console import say, table
from yuyan.errors import InputError
from yuyan.evaluate.likelihood import Likelihood, summarise, token_log_probs
from yuyan.evaluate.mixture import best_weight, document_scores, mixed
from yuyan.evaluate.quantities import interval
from yuyan.store import to_json
from yuyan.tasks.language_model import LanguageModel


@dataclass(frozen=True)
class Mixed:
    """The scores of both models and of their mixture; `weight` is the share of the first."""

    first: Likelihood
    second: Likelihood
    both: Likelihood
    weight: float


def mixture_command(
    first: Path, second: Path, paths: list[Path], tuned_on: Path, settings: list[str], *, as_json: bool
) -> Mixed:
    """Choose the weight on the text in `tuned_on`, measure on `paths`, print a table or JSON.

    Raises InputError for models of different tokens, and for a text that is measured on and chosen by.
    """
    if any(path.resolve() == tuned_on.resolve() for path in paths):
        raise InputError(f"--mix-on {tuned_on}: the weight must be chosen on other text than what is measured")
    models = {path: LanguageModel.load(path) for path in (first, second)}
    _check_same_tokens(models)
    chosen = [np.concatenate(each) for each in _scored(models, [tuned_on], settings)[0]]
    weight = best_weight(chosen[0], chosen[1])
    each, sizes = _scored(models, paths, settings)
    both = [mixed(a, b, weight) for a, b in zip(*each, strict=True)]
    one, other, whole = (summarise(document_scores(log_probs, sizes)) for log_probs in (*each, both))
    found = Mixed(one, other, whole, weight)
    _show(found, first, second, tuned_on, as_json=as_json)
    return found


def _check_same_tokens(models: dict[Path, LanguageModel]) -> None:
    if len(models) < 2:
        raise InputError("--mix: give another model than the first")
    (one, a), (other, b) = models.items()
    if a.tokenizer.vocabulary != b.tokenizer.vocabulary:
        raise InputError(
            f"--mix {other}: its tokens are not those of {one}, and only models that score the same tokens can be mixed"
        )


def _scored(
    models: dict[Path, LanguageModel], paths: list[Path], settings: list[str]
) -> tuple[list[list[np.ndarray]], list[int]]:
    """The log-probabilities of the tokens by model and document, and the documents' bytes."""
    documents, sizes, _ = read_text(next(iter(models.values())), paths, settings)
    each = []
    for path, model in models.items():
        bos, eos = marks_of(model, path)
        each.append(token_log_probs(model.network, documents, bos=bos, eos=eos, context=model.context))
    return each, sizes


def _show(found: Mixed, first: Path, second: Path, tuned_on: Path, *, as_json: bool) -> None:
    if as_json:
        parts = {"first": found.first, "second": found.second, "both": found.both}
        print(to_json({name: dump(score) for name, score in parts.items()} | {"weight": found.weight}))
        return
    rows = [
        [name, f"{score.bits_per_byte:.4f}", interval(score.interval, 4), f"{score.perplexity:.2f}"]
        for name, score in ((str(first), found.first), (str(second), found.second), ("both", found.both))
    ]
    table("mixture", ["model", "bits/byte", "95 % interval", "perplexity/token"], rows)
    say(f"{found.weight:.3f} of {first}, {1 - found.weight:.3f} of {second}: chosen on {tuned_on}")

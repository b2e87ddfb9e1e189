"""`yuyan evaluate`: bits per byte and perplexity of a model on text, with an interval over documents."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from yuyan.commands.data import data_config
from yuyan.commands.evaluate_objective import evaluate_objective, objective_run
from yuyan.commands.outcome import score_table
from yuyan.commands.task_use import evaluate_task
from yuyan.config import dump
from yuyan.console import progress, say, table, warn
from yuyan.errors import DataError, InputError
from yuyan.evaluate.held_out import HeldOut
from yuyan.evaluate.likelihood import Likelihood, score_documents, summarise
from yuyan.evaluate.quantities import interval
from yuyan.models.network import NetworkModule
from yuyan.store import to_json
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import why_silent
from yuyan.text import read_documents


def evaluate_command(
    model_path: Path, paths: list[Path], settings: list[str], *, as_json: bool
) -> Likelihood | HeldOut:
    """Measure, print a table (or JSON on standard output), and return the scores. The text is taken as it is.

    A model with a task is measured by that, on records; `settings` with `task.` in front change the task.
    """
    config = objective_run(model_path)
    if config is not None:
        score = evaluate_objective(config, model_path, paths, settings)
        if as_json:
            print(to_json(score.plain()))
        else:
            score_table(str(model_path), "data", {", ".join(map(str, paths)): score})
        return score
    model = LanguageModel.load(model_path)
    if model.task is not None:
        return evaluate_task(model, model_path, paths, settings, as_json=as_json)
    bos, eos = marks_of(model, model_path)
    documents, sizes, exact = read_text(model, paths, settings)
    with progress("measuring", sum(map(len, documents)) + len(documents)) as bar:
        scores = score_documents(
            model.network, documents, sizes, bos=bos, eos=eos, context=model.context, told=bar.advance
        )
    result = summarise(scores)
    if as_json:
        print(to_json(dump(result)))
        return result
    table(
        f"{model_path} on {', '.join(map(str, paths))}",
        ["documents", "bytes", "tokens", "bits/byte", "95 % interval", "perplexity/token"],
        [[f"{result.documents:,}", f"{result.bytes:,}", f"{result.tokens:,}", f"{result.bits_per_byte:.4f}",
          interval(result.interval, 4), f"{result.perplexity:.2f}"]],
        left=0,
    )  # fmt: skip
    if exact:
        say("perplexity is of this model's own tokens; compare models of other tokenizers by bits per byte")
    return result


def marks_of(model: LanguageModel, path: Path) -> tuple[int, int]:
    """The ids before and behind a document. Raises InputError where the tokenizer has none, and for a model that gives a
    text no probability.
    """
    if isinstance(model.network, NetworkModule):
        network = model.network.config
        both = "it writes one text for another" if network.encoder is not None else None
        if (why := why_silent(network) or both) is not None:
            raise InputError(f"{path}: by this model a text has no probability: {why}")
    special = model.tokenizer.special
    if special.bos is None or special.eos is None:
        raise InputError(f"{path}: its tokenizer has no begin or end mark, so documents have no probability")
    return special.bos, special.eos


class ReadText(NamedTuple):
    """Documents as bare ids and their bytes; `exact`: the ids say all of the text."""

    documents: list[np.ndarray]
    sizes: list[int]
    exact: bool


def read_text(model: LanguageModel, paths: list[Path], settings: list[str]) -> ReadText:
    """The documents in `paths`, with a warning if tokens lose some of them. Raises DataError if there are none."""
    texts = [document.text for document in read_documents(paths, data_config(paths, settings))]
    if not texts:
        raise DataError(f"{paths[0]}: no text to measure on")
    tokenizer = model.tokenizer
    documents = tokenizer.encode_batch(texts)
    lost = sum(tokenizer.decode(ids) != text for ids, text in zip(documents, texts, strict=True))
    if lost:
        unknown = sum(map(tokenizer.unknown, documents)) / max(1, sum(map(len, documents)))
        warn(
            f"{paths[0]}: {lost:,} of {len(texts):,} documents do not come back from their tokens as they were "
            f"({unknown:.1%} of the tokens are unknown). What is lost costs nothing, so bits per byte compares only models "
            "of these tokens"
        )
    sizes = [len(text.encode()) for text in texts]
    return ReadText([np.asarray(ids, dtype=np.int64) for ids in documents], sizes, exact=not lost)

"""`yuyan evaluate` of a run whose model does not write text, or answers records: by the objective it was trained for.

The same questions as in the run's own report, so that its validation file gives the score that the report gives.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from yuyan.commands.companion import measured_again
from yuyan.commands.data import data_config
from yuyan.commands.records import encoded, shape_of
from yuyan.commands.run import RunConfig, open_run
from yuyan.corpus import write_shards
from yuyan.corpus.batch import Rows
from yuyan.corpus.pack import arranged, packed_rows
from yuyan.corpus.records import Records, fitted
from yuyan.evaluate.held_out import HeldOut, held_out
from yuyan.objectives import Distil, NextToken, Objective, PrefixLM
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.model_folder import model_folder
from yuyan.text import read_documents
from yuyan.text.read import look
from yuyan.text.records import read_records


def objective_run(path: Path) -> RunConfig | None:
    """The config of a run that is measured by its objective; None for models that are measured by documents."""
    if not (path / "run.yaml").is_file():
        return None
    config = open_run(path)
    asked = config.objective.base if isinstance(config.objective, Distil) else config.objective
    return None if config.data.records is None and isinstance(asked, NextToken | PrefixLM) else config


def evaluate_objective(config: RunConfig, path: Path, paths: list[Path], settings: list[str]) -> HeldOut:
    """Measure the model of a run on files like those it was trained on. Raises InputError, DataError."""
    model, folder = LanguageModel.load(path), model_folder(path)
    asked = config.objective.base if isinstance(config.objective, Distil) else config.objective
    built: Objective = asked.build(model.tokenizer)
    context, seed = config.train.context, config.seed
    trained = measured_again(config, model, folder)
    data = data_config(paths, settings)
    if config.data.records is not None:
        found = look(paths, data)
        records = list(read_records(found, shape_of(config.objective), _fields(config, paths), data))
        items = encoded(records, model.tokenizer)
        kept, _ = fitted(items, built.example, context, config.data.records.too_long, str(paths[0]))
        return held_out(trained, built, asked.kind, Records(kept, context, seed=seed), seed=seed)
    with tempfile.TemporaryDirectory(prefix="yuyan-") as place:
        shards = write_shards(read_documents(paths, data), model.tokenizer, Path(place) / "shards")
        joined = packed_rows(shards, model.tokenizer.special, context, seed, whole=False)
        rows: Rows = arranged(joined, config.train.documents)
        return held_out(trained, built, asked.kind, rows, seed=seed)


def _fields(config: RunConfig, paths: list[Path]) -> dict[str, str]:
    """What parts are called: the run's own files have the names that the objective uses."""
    own = all(
        file.resolve().parent.name == "data" and (file.resolve().parent / "records.json").is_file() for file in paths
    )
    return {} if own or config.data.records is None else config.data.records.fields

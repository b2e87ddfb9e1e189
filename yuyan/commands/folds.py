"""`yuyan folds`: k-fold cross-validation of a task. Every record is tested once, by a model that has not seen it.

    <name>-folds/
      folds.yaml      the config, filled, and how many folds
      data/1/ ...     the records of each fold: train, validation, test
      fold-1/ ...     a run each
      folds.json      the scores of all, their mean and spread

Records with the same text are in the same fold; those of each label are dealt out evenly (Kohavi 1995). What chooses the best
model of a fold is a validation part of its own, taken from what is trained on, so the tested records choose nothing.
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yuyan.commands.parts import FILE, check_inputs, divided, write_parts
from yuyan.commands.run import RUNS, RunConfig, read_run_config
from yuyan.commands.tasks import together
from yuyan.commands.train import train_command
from yuyan.config import Config, dump, flatten, read_yaml, to_yaml
from yuyan.console import say, table
from yuyan.errors import ConfigError, DataError, InputError, Interrupted
from yuyan.evaluate.wording import terminal_name
from yuyan.store import exclusive, write_json, write_text
from yuyan.tasks import AnyTask
from yuyan.text.read import look_at_parts
from yuyan.text.split import RandomSplit, split_hash


class _Order(Config):
    """What is kept of an order, to be compared with the next."""

    folds: int
    run: dict[str, Any]


def folds_command(place: Path, overrides: list[str], out: Path | None, count: int) -> dict[str, Any]:
    """Train and test all folds, or those that are left; the scores. Raises InputError, DataError, StorageError, Interrupted."""
    config = read_run_config(place, overrides)
    task = _checked(config, place, count)
    folder = out or RUNS / f"{config.name}-folds"
    again = shlex.join(["yuyan", "folds", str(place), *overrides, "--folds", str(count), "--out", str(folder)])
    _start(config, folder, count)
    with exclusive(folder):
        task = _prepared(config, task, folder, count)
        for number in range(1, count + 1):
            run = folder / f"fold-{number}"
            if (run / "report.html").is_file():
                continue
            say(f"fold {number} of {count}")
            data = config.data.model_copy(
                update={"sources": (), "validation": (), "test": (), "prepared": folder / "data" / str(number)}
            )
            mine = config.model_copy(update={"data": data, "task": task})
            try:
                train_command(mine, run, resume=(run / "run.yaml").exists())
            except Interrupted as error:
                raise Interrupted(
                    f"{str(error).partition('. To go on')[0]}, in fold {number}. To go on:\n  {again}"
                ) from None
        return _finish(folder, count)


def _checked(config: RunConfig, place: Path, count: int) -> AnyTask:
    if config.task is None:
        raise ConfigError(f"{place}: task: folds are of tasks, whose data are records; an objective has none")
    if count < 2:
        raise InputError(f"--folds: {count}; at least 2")
    if config.data.test or config.data.prepared is not None:
        key = "test" if config.data.test else "prepared"
        raise ConfigError(f"data.{key}: with folds every record of data.sources is tested once; leave it out")
    return config.task


def _start(config: RunConfig, folder: Path, count: int) -> None:
    """Claim the folder, unless records lie in it that were dealt out by another order."""
    file, now = folder / "folds.yaml", {"folds": count, "run": dump(config)}
    if not file.exists() or not (folder / "data").exists():
        write_text(file, to_yaml(_Order(folds=count, run=dump(config))))
        return
    before, after = flatten(read_yaml(file)[0]), flatten(json.loads(json.dumps(now, default=str)))
    if different := [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]:
        raise InputError(f"{folder}: folds with another {different[0]}; use --out for new ones")


def _prepared(config: RunConfig, task: AnyTask, folder: Path, count: int) -> Any:
    """Deal the records out, unless that is done; the task with what was found about the files."""
    files = look_at_parts(config.data)
    task = task.found(files["train"], config.data.plain)
    places = [folder / "data" / str(number) for number in range(1, count + 1)]
    if all((place / FILE).is_file() for place in places):
        check_inputs(files, places[0], folder)
        return task
    read = {name: task.read(found, config.data.plain) for name, found in files.items()}
    records: list[Any] = list(read["train"])
    folds = dealt(records, count, config.seed)
    for number, place in enumerate(places):
        rest: dict[str, list[Any]] = {"train": [r for r, fold in zip(records, folds, strict=True) if fold != number]}
        if "validation" in read:
            rest["validation"] = list(read["validation"])
        else:
            split = config.data.split
            if not isinstance(split, RandomSplit):
                raise ConfigError(f"data.split.kind {split.kind}: the records of folds are divided by random")
            rest = divided(rest["train"], together, split.model_copy(update={"test": 0.0}))
        parts = {**rest, "test": [r for r, fold in zip(records, folds, strict=True) if fold == number]}
        write_parts(place, files, parts, lambda record: json.dumps(record._asdict(), ensure_ascii=False) + "\n")
    return task


def dealt(records: Sequence[Any], count: int, seed: int) -> list[int]:
    """The fold of each record: those with the same text in the same one, those of each label evenly. Raises DataError."""
    label: dict[str, tuple[str, ...]] = {}
    for record in records:
        label.setdefault(together(record), tuple(getattr(record, "labels", ())))
    if len(label) < count:
        raise DataError(f"{len(label)} different texts are too few for {count} folds")
    order = sorted(label, key=lambda text: (label[text], split_hash(text, seed)))
    fold = {text: place % count for place, text in enumerate(order)}
    return [fold[together(record)] for record in records]


def _finish(folder: Path, count: int) -> dict[str, Any]:
    """The table of all folds, which is also written down."""
    tests = []
    for number in range(1, count + 1):
        report = max((folder / f"fold-{number}" / "reports").glob("????????.json"))
        tests.append(json.loads(report.read_text(encoding="utf-8"))["test"])
    names = [name for name, value in tests[0].items() if isinstance(value, float)]
    values = {name: [test.get(name) for test in tests] for name in names}
    whole = {name: [value for value in found if value is not None] for name, found in values.items()}
    means = {name: statistics.fmean(found) for name, found in whole.items() if len(found) == count}
    spread = {name: statistics.stdev(whole[name]) for name in means}
    rows = [
        [str(number), f"{test['examples']:,}", *(_shown(test.get(name)) for name in names)]
        for number, test in enumerate(tests, 1)
    ]
    rows.append(["mean", "", *(_shown(means.get(name)) for name in names)])
    rows.append(["spread", "", *(_shown(spread.get(name)) for name in names)])
    table(f"{folder}: each record tested once", ["fold", "records", *map(terminal_name, names)], rows)
    say(
        "spread is the standard deviation of the folds, which share most of their training data: no interval of the mean"
    )
    found = {"folds": tests, "mean": means, "spread": spread}
    write_json(folder / "folds.json", found)
    return found


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

"""`yuyan pseudo`: labels for texts without any, from a model's confident answers, and a model trained on both.

    <out>/
      order.yaml        which run, which texts, which threshold
      round-1/
        pseudo.jsonl    the texts that were taken, with their labels and how sure the model was
        data/           the training records with these behind them; validation and test as the run has them
        run/            what was trained on that
      round-2/ ...      the same with the answers of round-1/run

Source: Lee 2013 (pseudo-labels), with a threshold as in Yarowsky 1995. Texts that the run knows, in any of its parts, are not
taken: what is measured stays what nobody learned from.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yuyan.commands.overlap import key_of
from yuyan.commands.parts import FILE, stored_parts, write_parts
from yuyan.commands.run import RunConfig, open_run, read_run_config
from yuyan.commands.train import train_command
from yuyan.config import Config, to_yaml
from yuyan.console import progress, say, table
from yuyan.errors import ConfigError, DataError, InputError, Interrupted
from yuyan.evaluate.wording import terminal_name
from yuyan.models.network import NetworkModule
from yuyan.store import exclusive, write_text
from yuyan.tasks import Classify, Tag
from yuyan.tasks.base import Task
from yuyan.tasks.classify import Verdict
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.tag import Tagged
from yuyan.text import DataConfig
from yuyan.text.read import look
from yuyan.text.survey import Survey

CHUNK = 1024  # texts that are answered together


class Order(Config):
    """What is to be done."""

    run: str
    """The run whose model labels, and whose config is trained anew."""
    files: tuple[str, ...]
    """Texts without labels."""
    threshold: float = 0.9
    """How sure an answer must be, as a probability."""
    rounds: int = 1
    """How often: from the second round on the newest model labels."""


class _Taken(NamedTuple):
    """A text with its answer."""

    record: Any
    sure: float


def pseudo_command(order: Order, out: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Label, train, and compare, as often as is asked; or go on with that. Raises InputError, DataError, Interrupted."""
    run = Path(order.run)
    config = read_run_config(run / "run.yaml", overrides) if (run / "run.yaml").is_file() else open_run(run)
    if not isinstance(config.task, Classify | Tag):
        raise ConfigError(f"{run}: only runs of task.kind classify and tag can label texts for themselves")
    if not 0.5 <= order.threshold < 1:
        raise InputError(f"--threshold: {order.threshold}; from 0.5 up to, not including, 1")
    parts = _parts(config, run)
    options = ["--threshold", str(order.threshold), "--rounds", str(order.rounds), "--out", str(out)]
    again = shlex.join(["yuyan", "pseudo", order.run, *order.files, *options, *(f"--set={each}" for each in overrides)])
    _start(order, out)
    with exclusive(out):
        newest, results = run, {"before": _report(run)}
        for number in range(1, order.rounds + 1):
            place = out / f"round-{number}"
            if not (place / "data" / FILE).is_file():
                _label(config, order, newest, parts, place)
            newest = place / "run"
            if not (newest / "report.html").is_file():
                try:
                    train_command(_with_data(config, place / "data"), newest, resume=(newest / "run.yaml").exists())
                except Interrupted as error:
                    raise Interrupted(
                        f"{str(error).partition('. To go on')[0]}, in round {number}. To go on:\n  {again}"
                    ) from None
            results[f"round {number}"] = _report(newest)
    _compare(results)
    say(f"now try:\n  yuyan predict {newest} 'a text, or a file of texts'")
    return results


def _start(order: Order, out: Path) -> None:
    file = out / "order.yaml"
    if not file.exists() or not (out / "round-1" / "data").exists():  # an order that came to nothing binds nobody
        write_text(file, to_yaml(order))
    elif file.read_text(encoding="utf-8") != to_yaml(order):
        raise InputError(f"{out}: begun with another order (order.yaml); use --out for a new one")


def _parts(config: RunConfig, run: Path) -> dict[str, list[Any]]:
    """The records of the run, as it keeps them."""
    place = config.data.prepared or run / "data"
    if not (place / FILE).is_file():
        raise InputError(f"{run}: its records are not here (data/{FILE})")
    assert config.task is not None
    return stored_parts(place, config.task.record)


def _with_data(config: RunConfig, place: Path) -> RunConfig:
    data = config.data.model_copy(update={"sources": (), "validation": (), "test": (), "prepared": place.resolve()})
    return config.model_copy(update={"data": data})


# ---------------------------------------------------------------- labelling


def _label(config: RunConfig, order: Order, newest: Path, parts: dict[str, list[Any]], place: Path) -> None:
    """Answer all texts, and write down those answers that are sure."""
    model = LanguageModel.load(newest)
    task, network = model.trained_task(), model.network
    assert isinstance(network, NetworkModule)
    files, texts = _unlabelled(config, order, task)
    known = {key_of(record.text) for part in parts.values() for record in part}
    fresh: dict[bytes, Any] = {}
    for record in texts:
        if (key := key_of(record.text)) not in known:
            fresh.setdefault(key, record)
    records = list(fresh.values())
    if not records:
        raise DataError(f"{order.files[0]}: the run knows all of its {len(texts):,} texts already")
    taken, offered, surest = list[_Taken](), Counter[str](), 0.0
    with progress("labelling", float(len(records))) as bar:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            for record, answer in zip(chunk, task.answer(network, chunk), strict=True):
                labelled, sure = answered(record, answer, task)
                offered.update(set(_labels(labelled)))
                surest = max(surest, sure)
                if sure >= order.threshold:
                    taken.append(_Taken(labelled, sure))
            bar.advance(len(chunk))
    say(
        f"{len(texts):,} texts; {len(texts) - len(records):,} of them are known to the run or there twice, and left out"
    )
    _say_labels(taken, offered, order.threshold)
    if not taken:
        raise DataError(
            f"no answer is as sure as {order.threshold}; the surest is {surest:.3f}: choose a lower --threshold"
        )
    lines = (json.dumps(_row(each), ensure_ascii=False) + "\n" for each in taken)
    write_text(place / "pseudo.jsonl", "".join(lines))
    whole = {**parts, "train": [*parts["train"], *(each.record for each in taken)]}
    write_parts(place / "data", {"train": files}, whole, lambda r: json.dumps(r._asdict(), ensure_ascii=False) + "\n")


def _unlabelled(config: RunConfig, order: Order, task: Task) -> tuple[Survey, list[Any]]:
    keys = ("encoding", "undecodable", "skip_bad_records")
    data = DataConfig(sources=tuple(map(Path, order.files)), **{key: getattr(config.data, key) for key in keys})
    files = look([Path(file) for file in order.files], data)
    return files, task.config.found_texts(files, data).read(files, data, labelled=False)


def answered(record: Any, answer: Verdict | Tagged, task: Task) -> tuple[Any, float]:
    """The record with its answer as if it were known, and how sure that is: of a tagged text, its least sure word."""
    if isinstance(answer, Tagged):
        return record._replace(tags=answer.tags), answer.sure
    if answer.several:
        sure = min(max(share, 1 - share) for share in answer.probabilities.values())
    else:
        sure = 0.0 if answer.labels[0] == task.config.outside else max(answer.probabilities.values())
    return record._replace(labels=tuple(sorted(answer.labels))), sure


def _labels(record: Any) -> tuple[str, ...]:
    if hasattr(record, "labels"):
        return record.labels or ("(none)",)
    return tuple(tag.partition("-")[2] or tag for tag in record.tags if tag != "O") or ("(none)",)


def _row(taken: _Taken) -> dict[str, Any]:
    record, sure = taken.record, {"probability": round(taken.sure, 6), "where": taken.record.where}
    if hasattr(record, "labels"):
        one = {"label": record.labels[0]} if len(record.labels) == 1 else {"labels": list(record.labels)}
        return {"text": record.text, **one, **sure}
    return {"words": list(record.words), "tags": list(record.tags), **sure}


def _say_labels(taken: Sequence[_Taken], offered: Counter[str], threshold: float) -> None:
    counts = Counter(label for each in taken for label in set(_labels(each.record)))
    rows = [[label, f"{offered[label]:,}", f"{counts[label]:,}"] for label, _ in offered.most_common(20)]
    table(f"{len(taken):,} texts with answers of at least {threshold}", ["label", "texts", "taken"], rows)


# ---------------------------------------------------------------- comparing


def _report(run: Path) -> dict[str, Any]:
    newest = max((run / "reports").glob("????????.json"), default=None)
    if newest is None:
        raise InputError(f"{run}: not measured yet; train it to its end first")
    report: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    return {name: report[name] for name in ("validation", "test") if report.get(name)}


def _compare(results: dict[str, dict[str, Any]]) -> None:
    """The first measure of each model, on texts that neither learned from."""
    measure = next(iter(results["before"]["validation"]))
    rows = []
    for name, found in results.items():
        cells = []
        for part in ("validation", "test"):
            score = found.get(part)
            low, high = (None, None) if score is None else score["interval"]
            spread = "" if low is None or high is None else f" ({low:.4f}–{high:.4f})"
            cells.append("" if score is None else f"{score[measure]:.4f}{spread}")
        rows.append([name, *cells])
    shown = terminal_name(measure)
    table("before and after", ["model", f"validation, {shown}", f"test, {shown}"], rows)

"""Using a model with a task: `yuyan evaluate` on records whose answers are known, `yuyan predict` on any others."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from yuyan.commands.data import data_config
from yuyan.commands.overlap import Seen, say_overlap
from yuyan.commands.parts import FILE, stored_records
from yuyan.commands.typed import typed_lines
from yuyan.config import load_config
from yuyan.console import progress, say, table
from yuyan.errors import DataError, InputError
from yuyan.evaluate.quantities import interval
from yuyan.evaluate.task_score import TaskScore
from yuyan.evaluate.wording import terminal_name
from yuyan.metrics.interval import DRAWS
from yuyan.models.network import NetworkModule
from yuyan.store import storage_errors, to_json
from yuyan.tasks import Converse, FindAnswer
from yuyan.tasks.base import Task
from yuyan.tasks.chat_template import plain_messages
from yuyan.tasks.dialogue_text import Dialogue
from yuyan.tasks.language_model import LanguageModel
from yuyan.text import DataConfig
from yuyan.text.read import decoded, look
from yuyan.text.source import FORMATS

AT_ONCE = 64
"""Records that are answered together under a bar, between two of its steps."""
CHUNK = 1024
"""Lines of a stream that are answered together."""
TASK = "task."


def task_and_data(model: LanguageModel, paths: Sequence[Path], settings: Sequence[str]) -> tuple[Task, DataConfig]:
    """The task with its changes, and how to read the files."""
    stored = model.task or Converse(template="own")  # a published model that talks
    mine = [assignment.removeprefix(TASK) for assignment in settings if assignment.startswith(TASK)]
    others = [assignment for assignment in settings if not assignment.startswith(TASK)]
    config = load_config(type(stored), None, mine, base=stored.model_dump(mode="json")).config
    return config.build(model.tokenizer, model.context), data_config(paths, others)


def _training_records(model_path: Path, task: Task) -> list[Any] | None:
    """What the model was trained on, if it lies in its run."""
    folder = model_path if (model_path / "data" / FILE).is_file() else model_path.parent
    part = folder / "data" / "train.jsonl"
    if not (folder / "data" / FILE).is_file() or not part.is_file():
        return None
    return stored_records(part, task.config.record)


# ---------------------------------------------------------------- evaluate


def evaluate_task(
    model: LanguageModel, model_path: Path, paths: list[Path], settings: list[str], *, as_json: bool
) -> TaskScore:
    """Measure on the records in `paths`, after a look whether the model was trained on them. Raises InputError, DataError."""
    task, data = task_and_data(model, paths, settings)
    files = look(paths, data)
    config = task.config.found(files, data)
    records = config.read(files, data)
    if not records:
        raise DataError(f"{paths[0]}: no record to measure on")
    training = _training_records(model_path, task)
    if training is None:
        say(f"{model_path}: its training data is not here, so it cannot be said whether it has seen these texts")
    seen = None if training is None else say_overlap(training, records, ", ".join(map(str, paths)))
    answers = _all_answers(task, _network(model), records)
    score = TaskScore.of(task.scores(answers, records, draws=DRAWS), len(records))
    if as_json:
        print(to_json(score.whole()))
        return score
    show_score(f"{model_path} on {', '.join(map(str, paths))}", score)
    if seen is not None and any(seen.copies) and not all(seen.copies):
        _show_apart(task, answers, records, seen)
    return score


def _all_answers(task: Task, network: NetworkModule, records: Sequence[Any]) -> list[Any]:
    """With a bar; tasks that write show their own, for all of the records together."""
    if task.looks is not None:
        return task.answer(network, records)
    return list(_in_turn(task, network, records))


def _in_turn(task: Task, network: NetworkModule, records: Sequence[Any]) -> Iterator[Any]:
    """The answers as they come, with a bar."""
    task.items(records, labelled=False)  # what is too long is counted among all
    with progress("answering", float(len(records))) as bar:
        for start in range(0, len(records), AT_ONCE):
            answers = task.answer(network, records[start : start + AT_ONCE])
            bar.advance(len(answers))
            yield from answers


def _show_apart(task: Task, answers: Sequence[Any], records: Sequence[Any], seen: Seen) -> None:
    """The first measure of the texts that training has, and of those that it has not."""
    rows = []
    for name, wanted in (("not in the training data", False), ("in the training data", True)):
        chosen = [i for i, copy in enumerate(seen.copies) if copy is wanted]
        found = task.scores([answers[i] for i in chosen], [records[i] for i in chosen], draws=0)
        measure, value = next(iter(found.values.items()))
        rows.append([name, f"{len(chosen):,}", f"{value.value:.4f}", interval(value.interval, 4)])
    table("", ["texts", "how many", terminal_name(measure), "95 % interval"], rows)


def show_score(title: str, score: TaskScore) -> None:
    """The measures, with what simple rules get beside them, and precision and recall by label."""
    rows = []
    for name in (score.measure, *score.others):
        value = score.value if name == score.measure else score.others[name]
        others = [f"{found[name]:.4f}" if name in found else "" for found in score.beside.values()]
        rows.append([terminal_name(name), f"{value:.4f}", interval(score.interval_of(name), 4), *others])
    table(title, ["measure", "value", "95 % interval", *score.beside], rows)
    for note in score.notes:
        say(note)
    if score.by_label:
        _show_labels(score)
    say(f"{score.examples:,} records; intervals are of 95 %, by bootstrap over records, of shares by Wilson's formula")


def _show_labels(score: TaskScore) -> None:
    labels = sorted(score.by_label.items(), key=lambda item: item[1]["f1"])
    shown_labels = labels if len(labels) <= 20 else labels[:20]
    table(
        "by label" if shown_labels is labels else f"the 20 worst of {len(labels)} labels",
        ["label", "precision", "recall", "f1", "how many"],
        [[name, *(f"{row[key]:.4f}" for key in ("precision", "recall", "f1")), f"{row['count']:,.0f}"]
         for name, row in shown_labels],
    )  # fmt: skip


# ---------------------------------------------------------------- predict


def _exists(path: Path) -> bool:
    """Whether there is such a file; what is too long for a name is none."""
    try:
        return path.exists()
    except OSError:
        return False


def predict_command(
    model_path: Path, source: str, out: Path | None, form: str, settings: list[str], context: str | None = None
) -> None:
    """Answer a text, the lines of standard input (-), or the records of a file; questions are answered from `context`, a
    text or a file of one. Raises InputError, DataError.
    """
    if not source.strip():
        raise InputError("the text is empty; give a text, a file of texts, or - for lines of standard input")
    if form not in ("jsonl", "csv"):
        raise InputError(f"--format: {form!r}; there are jsonl and csv")
    model = LanguageModel.load(model_path)
    model.trained_task()  # says so if there is none
    path = Path(source) if source != "-" and len(source) < 4096 else None
    is_file = path is not None and "\n" not in source and _exists(path)
    if path is not None and not is_file and path.suffix.lower() in FORMATS:
        raise DataError(f"{source}: no such file")
    task, data = task_and_data(model, [path] if is_file and path is not None else [], settings)
    if is_file and path is not None:
        if context is not None:
            raise InputError(f"--context: {source} is a file, whose questions have contexts of their own")
        files = look([path], data)
        config = task.config.found_texts(files, data)
        found = config.read(files, data, labelled=False)
        answered = _answers_of_file(task, model, found, shown=out is None and sys.stdout.isatty())
    else:
        told = _asked(task, context, data)
        records = _typed(task, told) if source == "-" else task.config.records_of([told(source, 0)])
        answered = _answered(task, _network(model), records)
    if out is None:
        written = _write(sys.stdout, answered, form)
        return
    if out.exists():
        raise InputError(f"{out}: exists already; give another file")
    with storage_errors(out):
        temporary = out.with_name(out.name + ".part")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            written = _write(file, answered, form)
        temporary.replace(out)
    say(f"{out}: {written:,} answers")


def _typed(task: Task, told: Callable[[str, int], Any]) -> Iterator[Any]:
    """The lines of standard input as records, as they come."""
    for number, line in enumerate(typed_lines(sys.stdin.buffer), 1):
        if line.strip():
            (record,) = task.config.records_of([told(line.strip(), number)])
            yield record._replace(where=f"standard input:{number}")


def _asked(task: Task, context: str | None, data: DataConfig) -> Callable[[str, int], Any]:
    """What a text that was given, and its number, is to the task: itself, or a question on the context."""
    if not isinstance(task.config, FindAnswer):
        if context is not None:
            raise InputError(f"--context: only for questions; this model's task is {task.config.kind}")
        return lambda text, number: text
    if context is None:
        raise InputError(
            "--context: required: the text that answers the question, or a file of it; or give a file of questions with "
            "their contexts (SQuAD's JSON, .jsonl, .csv)"
        )
    if len(context) < 4096 and "\n" not in context and _exists(path := Path(context)):
        source = look([path], data).sources[0]
        if source.source.format != "text":
            raise InputError(f"--context: {context} is no text; give a file of questions with contexts as the source")
        context = "".join(decoded(source, data))
    return lambda text, number: {"question": text, "context": context, "id": number}


def _answers_of_file(
    task: Task, model: LanguageModel, records: Sequence[Any], *, shown: bool
) -> Iterator[dict[str, Any]]:
    """With a bar, unless the answers themselves are `shown` on the terminal; tasks that write have their own."""
    if shown or task.looks is not None:
        return _answered(task, _network(model), records)
    return _said(records, _in_turn(task, _network(model), records))


def _network(model: LanguageModel) -> NetworkModule:
    assert isinstance(model.network, NetworkModule)
    return model.network


def _answered(task: Task, network: NetworkModule, records: Iterable[Any]) -> Iterator[dict[str, Any]]:
    rest = iter(records)
    while chunk := list(islice(rest, CHUNK)):
        yield from _said(chunk, task.answer(network, chunk))


def _said(records: Iterable[Any], answers: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for record, answer in zip(records, answers, strict=True):
        said = answer.plain()
        yield said if "question" in said else {**_shown(record), **said}


def _shown(record: Any) -> dict[str, Any]:
    if isinstance(record, Dialogue):
        return {"messages": plain_messages(record.messages)}
    return {"text": record.text}


def _write(file: TextIO, answers: Iterable[dict[str, Any]], form: str) -> int:
    """One answer a line, each when it is there."""
    count = 0
    writer = csv.writer(file)
    for count, answer in enumerate(answers, 1):
        if form == "jsonl":
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
        else:
            if count == 1:
                writer.writerow(answer)
            writer.writerow(_cell(value) for value in answer.values())
        if count % CHUNK == 1:
            file.flush()
    return count


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value

"""The task of a model folder: `task.json`, or what the labels of a published model say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yuyan.config import build, dump
from yuyan.errors import ConfigError
from yuyan.hub.files import read_json
from yuyan.hub.labels import SPAN
from yuyan.metrics.spans import is_tag
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.nn.head import LabelHead
from yuyan.store import write_json
from yuyan.tasks import KINDS, AnyTask, Classify, FindAnswer, Tag
from yuyan.tasks.answer import PUBLISHED_LONGEST

FILE = "task.json"


def stored_task(folder: Path, network: NetworkModule | NGram) -> AnyTask | None:
    """What the model in a folder answers: as its file says, else by its labels; None if neither is there.

    Raises DataError or ConfigError for a damaged file.
    """
    if isinstance(network, NGram):
        return None
    path = folder / FILE
    if path.is_file():
        data = read_json(path)
        kind = KINDS.get(str(data.get("kind")))
        if kind is None:
            raise ConfigError(f"{path}: kind: {data.get('kind')!r} is no task; there are {', '.join(KINDS)}")
        return build(kind, data, where=str(path))
    return task_of_labels(head) if isinstance(head := network.config.head, LabelHead) else None


def task_of_labels(head: LabelHead) -> AnyTask | None:
    """The task of a published model; None for one number, which is a measure (how well two texts go together) and no label."""
    if len(head.labels) == 1 and not head.several and head.pool != "none":
        return None
    if head.pool != "none":
        return Classify(labels=head.labels, several=head.several)
    if head.labels == SPAN:
        return FindAnswer(longest=PUBLISHED_LONGEST, too_long="window")
    tags = all(is_tag(label) for label in head.labels) and len(head.labels) > 1
    return Tag(labels=head.labels, scheme="bio" if tags else "none", joint=" ")


def write_task(task: AnyTask, folder: Path) -> None:
    """Write the file. Raises StorageError."""
    write_json(folder / FILE, dump(task))


def changed_task(task: AnyTask, changes: Mapping[str, object]) -> AnyTask:
    """The task with other keys. Raises ConfigError."""
    return build(type(task), dump(task) | dict(changes), where="task")

"""The network that a run starts from, ready for training, and the folder that it is written to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from yuyan.commands.pretrained import ADAPTER, GENERATOR, Pretrained
from yuyan.commands.run import RunConfig
from yuyan.console import table
from yuyan.errors import InputError
from yuyan.hub import Base, base_of, write_adapter
from yuyan.models.network import NetworkModule
from yuyan.models.surgery import give_labels, without_adapters
from yuyan.nn.adapt import Full, adapt, adapters_of, trained_groups
from yuyan.store import publish_folder
from yuyan.tasks.base import Task
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.model_folder import model_folder
from yuyan.tokens import Tokenizer


def start_network(
    config: RunConfig, tokenizer: Tokenizer, stored: str | None, task: Task | None = None
) -> tuple[NetworkModule, Base | None]:
    """The network a run starts from, ready for training, and what it was before; `stored` is the SHA-256 that the run
    began with. It gets the head that a `task` asks for. Raises InputError if the folder holds other weights now, or nothing is left to train.
    """
    network, base = config.model.build(len(tokenizer), config.seed), None
    if isinstance(config.model, Pretrained):
        config.model.check_tokenizer(tokenizer)
        base = base_of(network, str(model_folder(config.model.path)))
        if stored is not None and stored != base.sha256 and not isinstance(config.adapt, Full):
            raise InputError(
                f"model.path: the weights in {config.model.path} are not those that the run began with "
                f"(SHA-256 {stored[:12]}, now {base.sha256[:12]}); put them back, or use --out for a new run"
            )
    if task is not None and (head := task.head(network)) is not None:
        give_labels(network, head, config.seed)
    adapt(network, config.adapt, config.seed)
    if not isinstance(config.adapt, Full):
        show_trained(network)
    return network, base


def show_trained(network: NetworkModule) -> None:
    """The table of what is trained and what is not."""
    groups = trained_groups(network)
    rows = [[g.name, g.tensors, f"{g.parameters:,}", f"{g.trained:,}" if g.trained else "frozen"] for g in groups]
    trained, total = sum(g.trained for g in groups), sum(g.parameters for g in groups)
    rows.append(["all", sum(g.tensors for g in groups), f"{total:,}", f"{trained:,} ({100 * trained / total:.2f} %)"])
    table("what is trained", ["parameters", "tensors", "numbers", "trained"], rows)


def save_model(model: LanguageModel, base: Base | None, folder: Path, beside: Callable[[Path], None]) -> None:
    """Write a model folder, whole or not at all: adapters merged into the weights, and beside them in PEFT's format.

    `beside` writes what else belongs into the folder. Raises StorageError, and InputError if merging would change scores.
    """
    network = model.network
    with publish_folder(folder) as temporary:
        if isinstance(network, NetworkModule) and adapters_of(network):
            (temporary / ADAPTER).mkdir()
            write_adapter(network, temporary / ADAPTER, base)
            model = LanguageModel(
                without_adapters(network), model.tokenizer, model.context, sentence=model.sentence, start=model.start,
                task=model.task,
            )  # fmt: skip
        model.write(temporary)
        beside(temporary)


def keep_beside(folder: Path, temporary: Path) -> None:
    """Take what lies inside a model folder along into the one that replaces it."""
    for name in (ADAPTER, GENERATOR):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, temporary / name)

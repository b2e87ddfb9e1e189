"""What a run starts from when it does not start from nothing: a model folder, made ready as `adapt` says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from yuyan.config import Config, Place
from yuyan.console import table
from yuyan.errors import ConfigError, InputError
from yuyan.hub import Base, base_of, read_config, read_model, write_adapter
from yuyan.models.network import Network, NetworkModule
from yuyan.models.surgery import deepen, give_labels, without_adapters
from yuyan.nn.adapt import Full, adapt, adapters_of, trained_groups
from yuyan.store import publish_folder
from yuyan.tasks.base import Task
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.model_folder import model_folder
from yuyan.tokens import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from yuyan.commands.run import RunConfig

ADAPTER, GENERATOR = "adapter", "generator"
"""Folders that may lie inside a model's: its adapter in PEFT's format, the generator it was trained with."""


class Pretrained(Config):
    """A network that was trained before, by us or by others."""

    kind: Literal["pretrained"] = "pretrained"
    path: Place
    """Its folder: a run, a rung of a ladder, or a model folder in Hugging Face's layout; in a file, relative to it."""
    add_blocks: int = Field(0, ge=0)
    """Attention blocks to add, which change nothing until they are trained (Wu et al. 2024)."""

    def network(self, vocab_size: int) -> Network:
        """What it is made of. Raises ConfigError if it has fewer tokens than the tokenizer."""
        network = read_config(model_folder(self.path))
        if network.vocab_size < vocab_size:
            raise ConfigError(
                f"model.path: {self.path} knows {network.vocab_size} tokens and the tokenizer has {vocab_size}; "
                "leave out `tokenizer` to take the model's own"
            )
        if self.add_blocks:
            with torch.device("meta"):
                built = NetworkModule(network)
                deepen(built, self.add_blocks)
            network = built.config
        return network

    def build(self, vocab_size: int, seed: int) -> NetworkModule:
        """The network with its weights; nothing is drawn."""
        self.network(vocab_size)
        module = read_model(model_folder(self.path))
        if self.add_blocks:
            deepen(module, self.add_blocks)
        return module

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises ConfigError if the folder has another tokenizer: its ids would mean other tokens."""
        folder = model_folder(self.path)
        if (folder / "tokenizer.json").is_file() and load_tokenizer(folder).fingerprint != tokenizer.fingerprint:
            raise ConfigError(
                f"tokenizer: is not the one that {self.path} was trained with; leave it out to take the model's own"
            )


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

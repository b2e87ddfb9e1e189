"""What a run starts from when it does not start from nothing: a model folder."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from yuyan.config import Config, Place
from yuyan.errors import ConfigError
from yuyan.hub import read_config, read_model
from yuyan.models.network import Network, NetworkModule
from yuyan.models.surgery import deepen
from yuyan.tasks.model_folder import model_folder
from yuyan.tokens import Tokenizer, load_tokenizer

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

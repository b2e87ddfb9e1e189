"""A model and its tokenizer, together: what `yuyan.load(folder)` gives.

It opens a model folder (Hugging Face layout or ours), a run, or a rung of a ladder, and continues text. Training, Python
and the command line all generate through `stream`, so they give the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from yuyan.errors import CheckpointCorrupt, InputError
from yuyan.generate import Done, Sampling, Token, generate
from yuyan.hub import read_model, write_model
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.store import publish_folder, verify, write_json
from yuyan.tokens import TextStream, Tokenizer, load_tokenizer

CONTEXT_FILE = "yuyan.json"


class LanguageModel:
    """`network` (a torch module, or an n-gram model), `tokenizer`, and how many tokens it reads (`context`)."""

    def __init__(self, network: NetworkModule | NGram, tokenizer: Tokenizer, context: int | None):
        self.network, self.tokenizer, self.context = network, tokenizer, context
        if isinstance(network, NetworkModule):
            network.eval()

    # ------------------------------------------------------------ files

    @classmethod
    def load(cls, path: str | Path) -> LanguageModel:
        """Open a model folder, a run folder, or a rung. Raises InputError or CheckpointCorrupt."""
        folder = model_folder(Path(path))
        verify(folder, required=False)
        network = NGram.load(folder) if is_ngram(folder) else read_model(folder)
        tokenizer = load_tokenizer(folder)
        vocab_size = network.vocab_size if isinstance(network, NGram) else network.config.vocab_size
        if vocab_size < len(tokenizer):
            raise InputError(
                f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {vocab_size}; "
                "they do not belong together"
            )
        return cls(network, tokenizer, stored_context(folder, network))

    def save(self, folder: str | Path) -> None:
        """Write the folder, whole or not at all: weights, config, tokenizer, manifest."""
        with publish_folder(Path(folder)) as temporary:
            self.write(temporary)

    def write(self, folder: Path) -> None:
        """Write all files of the model into an existing folder."""
        if isinstance(self.network, NGram):
            self.network.save(folder)
        else:
            write_model(self.network, folder)
        self.tokenizer.save(folder)
        write_json(folder / CONTEXT_FILE, {"context": self.context})

    # ------------------------------------------------------------ use

    def stream(self, prompt: str, sampling: Sampling | None = None) -> Iterator[str]:
        """Continue `prompt`, piece by piece; a piece never ends inside a character."""
        text = TextStream(self.tokenizer)
        for event in self.events(prompt, sampling):
            if isinstance(event, Token) and (piece := text.put(event.id)):
                yield piece
        if rest := text.finish():
            yield rest

    def events(self, prompt: str, sampling: Sampling | None = None) -> Iterator[Token | Done]:
        """The tokens themselves, and why they ended."""
        special = self.tokenizer.special
        begin = [] if special.bos is None else [special.bos]
        stops = frozenset(i for i in (special.eos, special.bos, special.pad) if i is not None)
        return generate(
            self.network, [begin + self.tokenizer.encode(prompt)], [sampling or Sampling()],
            stop_ids=stops, context=self.context, pad=special.pad or 0, vocab_size=len(self.tokenizer),
        )  # fmt: skip

    def generate(self, prompt: str, sampling: Sampling | None = None, **settings: object) -> str:
        """The continuation of `prompt`; settings are those of `Sampling`, such as `temperature=0, max_tokens=50`."""
        if settings:
            sampling = Sampling(**{**(sampling or Sampling()).model_dump(), **settings})
        return "".join(self.stream(prompt, sampling))

    @torch.no_grad()
    def logits(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Scores of the next token at every position: (B, T) to (B, T, V)."""
        return self.network.score(self.network.decode(input_ids, attention_mask))


def model_folder(path: Path) -> Path:
    """The folder with the weights: `path`, or `path/model` of a run. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such model; give a model folder, a run, or a rung of a ladder")
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "rungs").is_dir():
        names = ", ".join(sorted(p.name for p in (path / "rungs").iterdir() if p.is_dir()))
        raise InputError(f"{path}: a ladder holds several models; give {path}/rungs/NAME, with NAME one of {names}")
    raise InputError(f"{path}: no model here: there is neither a config.json nor a model/config.json")


def is_ngram(folder: Path) -> bool:
    """Whether the folder holds an n-gram model. Raises InputError if its config.json is not JSON."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: not JSON: {error}") from None
    architecture = config.get("architecture") if isinstance(config, dict) else None
    return isinstance(architecture, dict) and architecture.get("kind") == "ngram"


def stored_context(folder: Path, network: NetworkModule | NGram) -> int | None:
    """How far back the model was trained to look: from our file, else from the published config."""
    if isinstance(network, NGram):
        return None
    ours = folder / CONTEXT_FILE
    if ours.is_file():
        try:
            stored = json.loads(ours.read_text(encoding="utf-8"))["context"]
            return None if stored is None else int(stored)
        except (ValueError, TypeError, KeyError):
            raise CheckpointCorrupt(ours, 'a mapping with "context"', "something else") from None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None

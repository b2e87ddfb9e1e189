"""From the `data` and `tokenizer` of a config to shards that a model can be trained on, each step kept in the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuyan.commands.run import From, RunConfig
from yuyan.corpus import Shards, write_shards
from yuyan.errors import DataError
from yuyan.text import DataConfig, Document, Prepared, prepare
from yuyan.tokens import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

SPLITS = ("train", "validation", "test")
PROMPT_CHARACTERS = 40


@dataclass(frozen=True)
class Corpus:
    """Tokenised text in three parts, and what is known about it."""

    tokenizer: Tokenizer
    tokenizer_kind: str
    train: Shards
    validation: Shards
    test: Shards
    report: dict[str, Any]
    prepared: Prepared

    @property
    def vocab_size(self) -> int:
        """How many tokens a model must know."""
        return len(self.tokenizer)

    @property
    def language(self) -> str:
        """`zh` if most of the text is Chinese, else `en`: the language of reports."""
        languages = self.report.get("languages") or {}
        main = max(languages, key=lambda name: int(languages[name]), default="en")
        return "zh" if str(main).startswith("zh") else "en"

    def prompts(self, count: int) -> list[str]:
        """The beginnings of `count` held-out documents, for samples."""
        split = "test" if len(self.test) else "validation"
        found: list[str] = []
        for document in self.prepared.documents(split):
            if len(found) == count:
                break
            found.append(_beginning(document.text))
        return found


def _beginning(text: str) -> str:
    start = text.strip()[:PROMPT_CHARACTERS]
    if len(start) < PROMPT_CHARACTERS:
        return start[: max(1, len(start) // 2)]
    # Chinese has no spaces to stop at, and says more with a character
    return start.rsplit(" ", 1)[0] if " " in start else start[: PROMPT_CHARACTERS // 4]


def make_corpus(
    config: RunConfig, folder: Path, choose_vocabulary: Callable[[Prepared], TokenizerConfig] | None = None
) -> Corpus:
    """Prepare text, train or load the tokenizer, write shards; each step that is there already is used again."""
    prepared = open_data(config.data, folder)
    tokenizer, kind = _tokenizer(config, folder, prepared, choose_vocabulary)
    shards = {split: _shards(prepared, split, tokenizer, folder) for split in SPLITS}
    if not len(shards["train"]) or not len(shards["validation"]):
        raise DataError(f"{folder / 'data'}: nothing is left to train or to validate on; give more text")
    return Corpus(
        tokenizer=tokenizer, tokenizer_kind=kind, train=shards["train"], validation=shards["validation"],
        test=shards["test"], report=data_report(prepared), prepared=prepared,
    )  # fmt: skip


def open_data(data: DataConfig | From, folder: Path) -> Prepared:
    """The cleaned and split text: made here, or taken from another run."""
    if isinstance(data, From):
        return Prepared.open(Path(data.path))
    return prepare([Path(source) for source in data.sources], data, folder / "data")


def _tokenizer(
    config: RunConfig, folder: Path, prepared: Prepared, choose: Callable[[Prepared], TokenizerConfig] | None
) -> tuple[Tokenizer, str]:
    if isinstance(config.tokenizer, From):
        return load_tokenizer(Path(config.tokenizer.path)), "loaded"
    settings = choose(prepared) if choose is not None else config.tokenizer
    place = folder / "tokenizer"
    if not (place / "tokenizer.json").is_file():
        texts = (document.text for document in prepared.documents("train"))
        train_tokenizer(texts, settings).save(place)
    return load_tokenizer(place), settings.kind


def _shards(prepared: Prepared, split: str, tokenizer: Tokenizer, folder: Path) -> Shards:
    place = folder / "shards" / split
    if not (place / "index.json").is_file():
        return write_shards(prepared.documents(split), tokenizer, place)
    return Shards.open(place, tokenizer=tokenizer)


def data_report(prepared: Prepared) -> dict[str, Any]:
    """What the preparation found, as plain data."""
    report: dict[str, Any] = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    return report


def texts_of(prepared: Prepared, split: str) -> Iterator[Document]:
    """The documents of a split, in order."""
    return prepared.documents(split)

"""Word corpora for measuring only: the product holds no reader of these files.

Brown under the split rule of Bengio et al. 2003: 500 files in name order, `word/tag` tokens in file order; the first
800,000 tokens train, the next 200,000 validate, the rest tests; words that occur 3 times or less in the whole corpus are
merged. One stream of tokens, no sentence marks. Also Brown by sentences, and WikiText-2.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNK = "<unk>"
TRAIN, VALIDATION = 800_000, 200_000  # tokens of Brown


class Words(NamedTuple):
    """A corpus as one stream of word ids in three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: list[str]


def data_folder() -> Path:
    """Where the measuring data is: $YUYAN_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("YUYAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


def read_brown(folder: Path | None = None) -> Words:
    """Brown as ids, 0 for `<unk>`: (800,000,), (200,000,), (161,192,), 17,905 types. Raises FileNotFoundError."""
    words = [word for sentence in brown_sentences(folder) for word in sentence]
    counts = Counter(words)
    vocabulary = [UNK, *sorted(word for word, count in counts.items() if count > 3)]
    number = {word: i for i, word in enumerate(vocabulary)}
    ids = np.array([number.get(word, 0) for word in words])
    return Words(ids[:TRAIN], ids[TRAIN : TRAIN + VALIDATION], ids[TRAIN + VALIDATION :], vocabulary)


def brown_sentences(folder: Path | None = None) -> list[list[str]]:
    """The sentences of Brown, one a line of its files, without the tags. Raises FileNotFoundError."""
    with zipfile.ZipFile((folder or data_folder()) / "lm" / "brown.zip") as archive:
        names = sorted(n for n in archive.namelist() if len(n) == len("brown/ca01") and n.startswith("brown/c"))
        lines = [line for name in names for line in archive.read(name).decode().splitlines()]
    return [[token.rpartition("/")[0] for token in line.split()] for line in lines if line.strip()]


def read_wikitext(folder: Path | None = None) -> Words:
    """WikiText-2, `<eos>` at the end of each line: 33,278 types. Raises FileNotFoundError."""
    with zipfile.ZipFile((folder or data_folder()) / "lm" / "wikitext-2.zip") as archive:
        texts = [archive.read(f"wikitext-2/wiki.{part}.tokens").decode() for part in ("train", "valid", "test")]
    parts = [text.replace("\n", " <eos> ").split() for text in texts]
    vocabulary = sorted({word for part in parts for word in part})
    number = {word: i for i, word in enumerate(vocabulary)}
    return Words(*(np.array([number[word] for word in part]) for part in parts), vocabulary)

"""Brown under the split rule of Bengio et al. 2003, for measuring only: the product holds no reader of this corpus.

500 files in name order, `word/tag` tokens in file order; the first 800,000 tokens train, the next 200,000 validate, the
rest tests; words that occur 3 times or less in the whole corpus are merged. One stream of tokens, no sentence marks.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNK = "<unk>"


def data_folder() -> Path:
    """Where the measuring data is: $YUYAN_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("YUYAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


class Words(NamedTuple):
    """A corpus as ids of `vocabulary` in three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: list[str]


def read_brown() -> Words:
    """Brown as one stream of word ids, id 0 for `<unk>`. Raises FileNotFoundError without the data."""
    with zipfile.ZipFile(data_folder() / "lm" / "brown.zip") as archive:
        names = sorted(n for n in archive.namelist() if len(n.split("/")[-1]) == 4 and n.split("/")[-1].startswith("c"))
        text = " ".join(archive.read(name).decode() for name in names)
    words = np.array([token.rpartition("/")[0] for token in text.split()])
    types, ids, counts = np.unique(words, return_inverse=True, return_counts=True)
    kept = counts > 3
    number = np.where(kept, np.cumsum(kept), 0)
    ids = number[ids]
    return Words(ids[:800_000], ids[800_000:1_000_000], ids[1_000_000:], [UNK, *types[kept].tolist()])


def read_wikitext() -> Words:
    """WikiText-2, `<eos>` at the end of each line, as one stream. Raises FileNotFoundError without the data."""
    with zipfile.ZipFile(data_folder() / "lm" / "wikitext-2.zip") as archive:
        parts = []
        for part in ("train", "valid", "test"):
            name = next(n for n in archive.namelist() if part in n.split("/")[-1])
            parts.append(archive.read(name).decode().replace("\n", " <eos> ").split())
    vocabulary, ids = np.unique(np.concatenate([np.array(p) for p in parts]), return_inverse=True)
    cuts = np.cumsum([len(p) for p in parts])
    return Words(ids[: cuts[0]], ids[cuts[0] : cuts[1]], ids[cuts[1] :], vocabulary.tolist())

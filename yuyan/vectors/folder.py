"""A folder of word vectors:

vectors.bin           the words and their vectors in word2vec's binary form, which other tools open
counts.npy            how often each word occurs
subwords.safetensors  the vectors of the pieces, and which they are, where there are pieces
config.yaml           the filled config
report.json           what was read, how training went
manifest.json         size and SHA-256 of each
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from yuyan.config import Config, build, dump, to_yaml
from yuyan.errors import CheckpointCorrupt, InputError
from yuyan.store import MANIFEST, publish_folder, verify, write_json, write_text
from yuyan.vectors.settings import Subwords
from yuyan.vectors.space import SubwordTable, Vectors
from yuyan.vectors.word2vec import read_word2vec, write_word2vec

FILE, COUNTS, SUBWORDS = "vectors.bin", "counts.npy", "subwords.safetensors"


def save_vectors(folder: Path, vectors: Vectors, config: Config, report: dict[str, Any]) -> None:
    """Write a folder, whole or not at all. Raises StorageError."""
    with publish_folder(folder) as temporary:
        write_word2vec(temporary / FILE, vectors)
        if vectors.counts is not None:
            np.save(temporary / COUNTS, vectors.counts, allow_pickle=False)
        if vectors.subwords is not None:
            table = vectors.subwords
            tensors: dict[str, NDArray[Any]] = {"buckets": table.buckets, "matrix": table.matrix}
            save_file(tensors, temporary / SUBWORDS, {"subwords": json.dumps(dump(table.config))})
        write_text(temporary / "config.yaml", to_yaml(config))
        write_json(temporary / "report.json", report)


def load_vectors(place: Path) -> Vectors:
    """Vectors from a folder of ours, or from a word2vec, fastText (.vec) or GloVe file.

    Raises InputError, DataError, CheckpointCorrupt.
    """
    if not (place / FILE).is_file():
        if place.is_dir():
            raise InputError(f"{place}: no vectors in it: there is no {FILE}")
        return read_word2vec(place)
    verify(place, required=(place / MANIFEST).exists())
    read = read_word2vec(place / FILE)
    counts = np.load(place / COUNTS, allow_pickle=False) if (place / COUNTS).is_file() else None
    return Vectors(read.words, read.matrix, counts, _subwords(place / SUBWORDS, read.dimensions))


def _subwords(file: Path, dimensions: int) -> SubwordTable | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as opened:
            config = build(Subwords, json.loads((opened.metadata() or {})["subwords"]))
            buckets, matrix = opened.get_tensor("buckets"), opened.get_tensor("matrix")
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointCorrupt(file, "vectors of pieces of words", str(error)) from None
    if matrix.shape != (len(buckets), dimensions):
        raise CheckpointCorrupt(file, f"{len(buckets)} vectors of {dimensions} dimensions", str(matrix.shape))
    return SubwordTable(config, buckets, matrix)

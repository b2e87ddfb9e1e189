"""From a corpus of word numbers to vectors: the schedule, the threads, the progress. The descent itself is compiled.

Work is cut into pieces of some ten thousand words. Each has its own random numbers and its own place on the line of the
learning rate, so what it does depends on the seed alone; with several threads the pieces move the same weights at the same
time without locks (Recht et al. 2011), and only with one are two runs equal.

Legend: V words, P pieces of words, D dimensions padded to a multiple of 16.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuyan.console import progress
from yuyan.vectors.corpus import WordCorpus
from yuyan.vectors.settings import Cbow, Glove, SkipGram, VectorsConfig
from yuyan.vectors.space import SubwordTable, Vectors
from yuyan.vectors.subword import composed, pieces_of
from yuyan.vectors.threads import Speed, in_parallel

if TYPE_CHECKING:
    from yuyan.vectors.glove import Prepared

PIECE = 20_000
"""Words, or pairs, of a piece of work."""
PADDING = 16
COMPILING = "compiling, once on this machine"
LOWEST = 1e-4
"""Share of the learning rate at the end."""


class _Found(NamedTuple):
    matrix: NDArray[np.float32]
    losses: list[float]
    seconds: float
    table: SubwordTable | None = None


class Fitted(NamedTuple):
    """Vectors, and how they were found."""

    vectors: Vectors
    losses: list[float]
    """One an epoch: the mean loss of the pairs that were looked at."""
    words_per_second: float
    """Words of the text, with those that subsampling left out, over the time of training."""
    seconds: float


def fit(corpus: WordCorpus, config: VectorsConfig, folder: Path) -> Fitted:
    """Train vectors on `corpus`; `folder` is for counts that do not fit in memory. Raises StorageError."""
    threads = config.threads or _cores()
    if isinstance(config.model, Glove):
        found = _fit_glove(corpus, config, config.model, folder, threads)
    else:
        found = _fit_predictive(corpus, config, config.model, threads)
    vectors = Vectors(corpus.words, found.matrix, corpus.counts, found.table)
    speed = len(corpus.tokens) * config.model.epochs / found.seconds
    return Fitted(vectors, found.losses, speed, found.seconds)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------- skip-gram and CBOW


def _fit_predictive(corpus: WordCorpus, config: VectorsConfig, model: SkipGram | Cbow, threads: int) -> _Found:
    from yuyan.vectors.cbow import bag_of_words
    from yuyan.vectors.draw import state_of
    from yuyan.vectors.skipgram import skip_gram
    from yuyan.vectors.targets import targets_of

    kernel = skip_gram if isinstance(model, SkipGram) else bag_of_words
    pieces = pieces_of(corpus.words, model.subwords)
    keep = keep_shares(corpus.counts, model.subsample)
    targets, rows = targets_of(corpus.counts, model.output)
    source, output = _first_weights(len(corpus.words) + len(pieces.buckets), rows, config)
    words, total = len(corpus.tokens), len(corpus.tokens) * model.epochs
    slope = -model.learning_rate * (1 - LOWEST) / total

    def piece(epoch: int, first: int, last: int) -> tuple[float, int, int]:
        state = np.uint64(state_of(config.seed, epoch, first))
        rates = (model.learning_rate + slope * epoch * words, slope)
        loss, measured, _ = kernel(
            (first, last, state), (corpus.tokens, corpus.starts), (pieces.offsets, pieces.rows), keep, targets,
            (source, output), rates, model.window,
        )  # fmt: skip
        return loss, measured, int(corpus.starts[last] - corpus.starts[first])

    with progress(COMPILING):
        piece(0, 0, 0)
    losses, seconds = _epochs(corpus, model.epochs, piece, threads)
    source = source[:, : config.dimensions]
    if model.subwords is None:
        return _Found(np.ascontiguousarray(source), losses, seconds)
    table = SubwordTable(model.subwords, pieces.buckets, np.ascontiguousarray(source[len(corpus.words) :]))
    return _Found(composed(source, pieces), losses, seconds, table)


def _epochs(
    corpus: WordCorpus, epochs: int, piece: Callable[[int, int, int], tuple[float, int, int]], threads: int
) -> tuple[list[float], float]:
    """Do every piece of every epoch; the mean loss of each, and the seconds it took."""
    losses, cuts = [], _cut(corpus.starts)
    with progress("training", len(corpus.tokens) * epochs) as bar:
        speed = Speed(bar, "words/s")
        for epoch in range(epochs):
            loss, measured = 0.0, 0
            for part, count, read in in_parallel([partial(piece, epoch, a, b) for a, b in cuts], threads):
                loss, measured = loss + part, measured + count
                speed.more(read, f"epoch {epoch + 1}/{epochs}  loss {loss / max(1, measured):.3f}")
            losses.append(loss / max(1, measured))
    return losses, speed.seconds


def keep_shares(counts: NDArray[np.int64], threshold: float) -> NDArray[np.float32]:
    """(V,) the probability of keeping each occurrence of a word, as the authors' program has it, which is not the paper's.

    With z the word's share of the text over `threshold`: (sqrt(z) + 1) / z.
    """
    if threshold == 0:
        return np.ones(len(counts), np.float32)
    z = counts / counts.sum() / threshold
    kept: NDArray[np.float32] = np.minimum(1.0, (np.sqrt(z) + 1) / z).astype(np.float32)
    return kept


def _first_weights(pieces: int, rows: int, config: VectorsConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Input (P, D), even between -1 and 1 over the dimensions, and output (rows, D), zero; what is padding stays zero."""
    wide = -(-config.dimensions // PADDING) * PADDING
    source = np.zeros((pieces, wide), np.float32)
    draw = np.random.default_rng(config.seed)
    for at in range(0, pieces, 4096):
        part = draw.random((min(4096, pieces - at), config.dimensions), np.float32)
        source[at : at + 4096, : config.dimensions] = (2 * part - 1) / config.dimensions
    return source, np.zeros((rows, wide), np.float32)


def _cut(starts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of sentences of about PIECE words each."""
    edges = np.searchsorted(starts, np.arange(0, int(starts[-1]), PIECE))
    edges = np.unique(np.concatenate([edges, [len(starts) - 1]]))
    return [(int(a), int(b)) for a, b in pairwise(edges)]


# ---------------------------------------------------------------- GloVe


def _fit_glove(corpus: WordCorpus, config: VectorsConfig, model: Glove, folder: Path, threads: int) -> _Found:
    from yuyan.vectors.glove import PAIR, Counter, first_weights, fit_pairs, prepared, reader

    draw = np.random.default_rng(config.seed)
    table, biases = first_weights(len(corpus.words), config.dimensions, draw)

    def piece(some: Prepared) -> tuple[float, int]:
        return float(fit_pairs(*some, table, biases, np.float32(model.learning_rate))), len(some.first)

    with progress(COMPILING):
        Counter(model.window, 0, folder).add(corpus.tokens, corpus.starts, 0, 0)
        piece(prepared(np.empty(0, PAIR), model.most, model.power))
    counter = Counter(model.window, model.memory_megabytes << 20, folder, config.seed)
    with progress("counting", len(corpus.tokens)) as bar:
        counting = Speed(bar, "words/s")
        for first, last in _cut(corpus.starts):
            counter.add(corpus.tokens, corpus.starts, first, last)
            counting.more(int(corpus.starts[last] - corpus.starts[first]))
    counted, losses = counter.close(), []
    read_all = reader(counted, model.most, model.power, draw)
    pairs = counted.pairs
    del counter, counted
    with progress("training", pairs * model.epochs) as bar:
        speed = Speed(bar, "pairs/s")
        for epoch in range(model.epochs):
            cost = 0.0
            for part in read_all():
                cuts = draw.permutation(range(0, len(part.first), PIECE)).tolist()
                jobs = [partial(piece, part.cut(at, at + PIECE)) for at in cuts]
                for spent, read in in_parallel(jobs, threads):
                    cost += spent
                    speed.more(read, f"epoch {epoch + 1}/{model.epochs}  loss {cost / pairs:.4f}")
            losses.append(cost / pairs)
    both = table[:, 0] + table[:, 2]  # the paper's choice (section 4.2)
    return _Found(np.ascontiguousarray(both[:, : config.dimensions]), losses, counting.seconds)

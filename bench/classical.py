"""Word vectors against gensim: `python bench/classical.py [--quick] [--part speed|quality|tree] [--seeds 3]`.

Speed: Brown in small letters, sentences in memory, 100 dimensions, window 5, 5 negatives, one epoch with the vocabulary,
one and two threads; ours and the peer take turns, a figure is the median of words/s of wall time, and the ratio of processor
times is beside it, which a busy machine disturbs less. Quality: the published
setting (window 15, 5 epochs, rate 0.05, threshold 1e-4) on one thread, WordSim-353 and the syntactic analogies of each seed.
What is compiled is compiled before the clock runs. `--part tree`: speed and quality of the models whose words are predicted
down a binary tree (hierarchical softmax) alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from brown import brown_sentences, data_folder
from gensim import __version__ as peer_version
from gensim.models import FastText, Word2Vec

from yuyan.vectors import Cbow, Glove, Negatives, SkipGram, Subwords, Tree, Vectors, VectorsConfig
from yuyan.vectors.corpus import encode
from yuyan.vectors.questions import evaluate
from yuyan.vectors.train import fit

PEER = f"gensim {peer_version}"
Sentences = list[list[str]]
Row = dict[str, Any]


class Case(NamedTuple):
    """A model on both sides."""

    name: str
    bag: bool
    subwords: bool
    tree: bool = False


CASES = [
    Case("skip-gram", bag=False, subwords=False),
    Case("CBOW", bag=True, subwords=False),
    Case("skip-gram with subwords", bag=False, subwords=True),
    Case("CBOW with subwords", bag=True, subwords=True),
    Case("skip-gram by a tree", bag=False, subwords=False, tree=True),
    Case("CBOW by a tree", bag=True, subwords=False, tree=True),
]
SPEED = {"window": 5, "learning_rate": 0.025, "subsample": 1e-3, "epochs": 1}
PUBLISHED = {"window": 15, "learning_rate": 0.05, "subsample": 1e-4, "epochs": 5}


def our_vectors(sentences: Sentences, case: Case, settings: dict[str, Any], threads: int, seed: int) -> Vectors:
    subwords = Subwords() if case.subwords else None
    output = Tree() if case.tree else Negatives()
    model = (Cbow if case.bag else SkipGram)(**settings, subwords=subwords, output=output)
    with tempfile.TemporaryDirectory() as folder:
        corpus = encode(iter(sentences), 5)
        return fit(corpus, VectorsConfig(model=model, threads=threads, seed=seed), Path(folder)).vectors


def their_vectors(sentences: Sentences, case: Case, settings: dict[str, Any], threads: int, seed: int) -> Vectors:
    made = (FastText if case.subwords else Word2Vec)(
        sentences, vector_size=100, window=settings["window"], epochs=settings["epochs"], alpha=settings["learning_rate"],
        min_alpha=settings["learning_rate"] * 1e-4, sample=settings["subsample"], sg=int(not case.bag), min_count=5,
        negative=0 if case.tree else 5, hs=int(case.tree), workers=threads, seed=seed + 1,
    ).wv  # fmt: skip
    return Vectors(list(made.index_to_key), np.array([made[word] for word in made.index_to_key]))


# ---------------------------------------------------------------- speed


def speed(sentences: Sentences, cases: Sequence[Case], repeats: int) -> list[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = sum(map(len, sentences))
    rows = []
    for case in cases:
        our_vectors(sentences[:200], case, SPEED, 1, 0)
        for threads in (1, 2):
            if threads > cores:
                continue
            times: list[list[tuple[float, float]]] = [[], []]
            for _ in range(repeats):
                for side, make in enumerate((our_vectors, their_vectors)):
                    wall, processor = time.perf_counter(), time.process_time()
                    make(sentences, case, SPEED, threads, 0)
                    times[side].append((time.perf_counter() - wall, time.process_time() - processor))
            (ours, mine), (theirs, other) = (map(statistics.median, zip(*each, strict=True)) for each in times)
            name = f"{case.name}, {threads} threads"
            print(
                f"{name:36} {words / ours:9,.0f} words/s  theirs {words / theirs:9,.0f}  ratio {theirs / ours:.2f}",
                flush=True,
            )
            rows.append({
                "name": name, "unit": "words/s", "ours": words / ours, "peer": PEER, "peer_value": words / theirs,
                "ratio": theirs / ours, "processor_ratio": other / mine, "equal_output": None,
            })  # fmt: skip
    return rows


# ---------------------------------------------------------------- quality


class Quality(NamedTuple):
    """WordSim-353 (Spearman) and the share of the syntactic and the semantic analogies."""

    similarity: float
    syntactic: float
    semantic: float


def quality_of(vectors: Vectors) -> Quality:
    folder = data_folder() / "similarity"
    kinds = {score.name: score.value for score in evaluate(vectors, folder / "questions-words.txt")}
    return Quality(evaluate(vectors, folder / "wordsim353.tsv")[0].value, kinds["syntactic"], kinds["semantic"])


def quality(
    sentences: Sentences, cases: Sequence[Case], seeds: int, peer_seeds: int, settings: dict[str, Any]
) -> list[Row]:
    rows = []
    for case in cases:
        mine = measured(f"{case.name}, ours", seeds, lambda s, c=case: our_vectors(sentences, c, settings, 1, s))
        count = peer_seeds if case.subwords else seeds
        other = measured(f"{case.name}, {PEER}", count, lambda s, c=case: their_vectors(sentences, c, settings, 1, s))
        for at, unit in enumerate(Quality._fields if mine and other else ()):
            ours, theirs = (statistics.mean(each[at] for each in side) for side in (mine, other))
            rows.append({
                "name": f"{case.name}, {unit}", "unit": unit, "ours": ours, "peer": PEER, "peer_value": theirs,
                "ratio": ours / theirs if theirs else None, "equal_output": ours >= theirs - 0.03,
            })  # fmt: skip
    return rows


def measured(name: str, seeds: int, make: Callable[[int], Vectors]) -> list[Quality]:
    found = []
    for seed in range(seeds):
        started = time.process_time()
        vectors = make(seed)
        seconds = time.process_time() - started
        found.append(quality_of(vectors))
        told = "  ".join(f"{unit} {value:.3f}" for unit, value in found[-1]._asdict().items())
        print(f"{name:36} seed {seed}  {told}  {seconds:.0f} CPU-s", flush=True)
    return found


def glove(sentences: Sentences, seeds: int, epochs: int) -> list[Row]:
    def make(seed: int) -> Vectors:
        with tempfile.TemporaryDirectory() as folder:
            config = VectorsConfig(model=Glove(epochs=epochs), threads=1, seed=seed)
            return fit(encode(iter(sentences), 5), config, Path(folder)).vectors

    found = measured("GloVe, ours", seeds, make)
    return [
        {"name": f"GloVe, {unit}", "unit": unit, "ours": statistics.mean(each[at] for each in found), "peer": None,
         "peer_value": None, "ratio": None, "equal_output": None}
        for at, unit in enumerate(Quality._fields)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the text, one epoch, one seed")
    parser.add_argument("--part", choices=["speed", "quality", "tree"], help="only this part")
    parser.add_argument("--only", help="models whose name begins so; GloVe too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=3, help="of the peer's models with subwords, which take long")
    settings = parser.parse_args()
    sentences = [[word.lower() for word in sentence] for sentence in brown_sentences()]
    published = dict(PUBLISHED)
    if settings.quick:
        sentences, published["epochs"], settings.seeds, settings.peer_seeds = sentences[::5], 1, 1, 1
    cases = [case for case in CASES if case.name.lower().startswith((settings.only or "").lower())]
    if settings.part == "tree":
        cases = [case for case in cases if case.tree]
    rows: list[Row] = []
    if settings.part != "quality":
        rows += speed(sentences, cases, 1 if settings.quick else 3)
    if settings.part != "speed":
        rows += quality(sentences, cases, settings.seeds, settings.peer_seeds, published)
        if settings.part != "tree" and "glove".startswith((settings.only or "").lower()):
            rows += glove(sentences, settings.seeds, published["epochs"] * 5)
    print(json.dumps({"bench": "classical", "rows": rows}))


if __name__ == "__main__":
    main()

"""The compiled descent of skip-gram and CBOW against the formulas, in float64 and without tricks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from yuyan.vectors import Cbow, SkipGram, Subwords, Tree, VectorsConfig
from yuyan.vectors.cbow import bag_of_words
from yuyan.vectors.corpus import WordCorpus, encode
from yuyan.vectors.draw import alias_table, state_of
from yuyan.vectors.skipgram import skip_gram
from yuyan.vectors.targets import Drawing, Targets, targets_of
from yuyan.vectors.train import fit, keep_shares

SIZE, WORDS, NOISE = 16, 6, 5
"""Every drawn word is word NOISE, which the text has not: so the formulas need no chance."""
NEGATIVES = 3
TEXT = [[0, 1, 2, 0, 3], [4, 1]]
PIECES = {
    "words": [[w] for w in range(WORDS)],
    "subwords": [[w, WORDS + w % 2, WORDS + 2 + w % 3] for w in range(WORDS)],
}
COUNTS = np.array([9, 8, 3, 2, 1, 1])
Answers = Callable[[int], list[tuple[int, float]]]


def noise(count: int) -> Targets:
    """Words are drawn, and each is NOISE."""
    return Targets(Drawing(np.zeros(WORDS, np.uint32), np.full(WORDS, NOISE, np.int32), count), None)


def answers_of(targets: Targets) -> Answers:
    """For a word: each row of the output that is asked, and the answer."""
    paths = targets.paths
    if paths is None:
        return lambda word: [(word, 1.0)] + [(NOISE, 0.0)] * targets.drawing.draws
    ways = [range(paths.offsets[word], paths.offsets[word + 1]) for word in range(WORDS)]
    return lambda word: [(int(paths.nodes[at]), float(paths.turns[at])) for at in ways[word]]


OUTPUTS = {"negatives": noise(NEGATIVES), "tree": targets_of(COUNTS, Tree())[0]}


def start(pieces: list[list[int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    draw = np.random.default_rng(3)
    rows = 1 + max(map(max, pieces))
    return draw.normal(0, 0.3, (rows, SIZE)).astype(np.float32), draw.normal(0, 0.3, (WORDS, SIZE)).astype(np.float32)


def compiled(kernel: Any, pieces: list[list[int]], targets: Targets, rate: float) -> tuple[Any, Any, Any]:
    source, output = start(pieces)
    tokens = np.array([word for line in TEXT for word in line], np.int32)
    starts = np.cumsum([0] + [len(line) for line in TEXT])
    offsets, rows = np.cumsum([0] + [len(p) for p in pieces]), np.array([row for p in pieces for row in p])
    keep, work = np.ones(WORDS, np.float32), (0, len(TEXT), np.uint64(7))
    told = kernel(work, (tokens, starts), (offsets, rows), keep, targets, (source, output), (rate, 0.0), 1)
    return source, output, told


def plain(
    pieces: list[list[int]], answers: Answers, rate: float, *, bag: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Window 1, each pair or bag by itself: gather, score, step, scatter."""
    source, output = (weights.astype(np.float64) for weights in start(pieces))
    for line in TEXT:
        for at, word in enumerate(line):
            around = [line[i] for i in (at - 1, at + 1) if 0 <= i < len(line)]
            questions = (
                [([r for w in around for r in pieces[w]], word)] if bag else [(pieces[word], near) for near in around]
            )
            for rows, target in questions:
                hidden = source[rows].mean(axis=0)
                change = np.zeros(SIZE)
                for row, answer in answers(target):
                    step = rate * (answer - 1 / (1 + np.exp(-hidden @ output[row])))
                    change += step * output[row]
                    output[row] += step * hidden
                for row in rows:
                    source[row] += change
    return source, output


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
@pytest.mark.parametrize("bag", [False, True], ids=["skip-gram", "cbow"])
@pytest.mark.parametrize("targets", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_step_is_the_formulas_step(pieces: list[list[int]], bag: bool, targets: Targets) -> None:
    source, output, told = compiled(bag_of_words if bag else skip_gram, pieces, targets, 0.5)
    wanted_source, wanted_output = plain(pieces, answers_of(targets), 0.5, bag=bag)
    np.testing.assert_allclose(source, wanted_source, atol=2e-6)
    np.testing.assert_allclose(output, wanted_output, atol=2e-6)
    assert told[2] == (7 if bag else 10)  # places, or pairs


@pytest.mark.parametrize("targets", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_the_loss_is_that_of_the_pairs_looked_at(targets: Targets) -> None:
    draw = np.random.default_rng(0)
    tokens, starts = draw.integers(0, 5, 40).astype(np.int32), np.arange(0, 41, 2)  # pairs of words: reach 1 is all
    pieces = [[w] for w in range(WORDS)]
    source, output = start(pieces)
    loss, measured, pairs = skip_gram(
        (0, 20, np.uint64(1)), (tokens, starts), (np.arange(WORDS + 1), np.arange(WORDS)), np.ones(WORDS, np.float32),
        targets, (source, output), (0.0, 0.0), 1,
    )  # fmt: skip
    looked = [(tokens[2 * s + at], tokens[2 * s + 1 - at]) for s in range(20) for at in (0, 1) if (s + at) % 16 == 0]
    first, out = start(pieces)
    asked = [(a, row, answer) for a, b in looked for row, answer in answers_of(targets)(b)]
    wanted = sum(np.log1p(np.exp((1 - 2 * answer) * (first[a] @ out[row]))) for a, row, answer in asked)
    assert (measured, pairs) == (len(looked), 40)
    assert loss == pytest.approx(float(wanted), rel=1e-5)


def test_the_window_reaches_from_one_to_its_size_evenly() -> None:
    line = np.arange(2000, dtype=np.int32)
    shape = (2000, SIZE)
    weights = (np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    _, _, pairs = skip_gram(
        (0, 1, np.uint64(5)), (line, np.array([0, 2000])), (np.arange(2001), np.arange(2000)), np.ones(2000, np.float32),
        Targets(Drawing(*alias_table(np.ones(2000)), 1), None), weights, (0.1, 0.0), 5,
    )  # fmt: skip
    assert pairs / 4000 == pytest.approx(3, abs=0.12)  # the mean of 1..5, to each side


def test_words_are_drawn_by_their_weights() -> None:
    weights = np.array([5.0, 1.0, 0.25, 0.0, 3.75])
    threshold, other = alias_table(weights)
    share = threshold / 2.0**32
    chance = share.copy()
    np.add.at(chance, other, 1 - share)
    np.testing.assert_allclose(chance / 5, weights / 10, atol=1e-9)


def test_frequent_words_are_thinned_out() -> None:
    counts = np.array([9000, 990, 10])
    keep = keep_shares(counts, 1e-2)
    assert keep[2] == 1 and keep[0] == pytest.approx((90**0.5 + 1) / 90) and (keep_shares(counts, 0) == 1).all()
    shape = (3, SIZE)
    weights = (np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    line = np.zeros(20_000, np.int32)
    _, _, pairs = skip_gram(
        (0, 1, np.uint64(9)), (line, np.array([0, 20_000])), (np.arange(4), np.arange(3)), keep,
        Targets(Drawing(*alias_table(np.ones(3)), 1), None), weights, (0.0, 0.0), 1,
    )  # fmt: skip
    assert pairs / 40_000 == pytest.approx(float(keep[0]), rel=0.05)


def toy(lines: int = 400) -> WordCorpus:
    """Two worlds that never meet: a* with b*, x* with y*."""
    draw = np.random.default_rng(0)
    worlds = [[f"{letter}{i}" for letter in pair for i in range(5)] for pair in ("ab", "xy")]
    return encode(([str(w) for w in draw.choice(worlds[i % 2], 8)] for i in range(lines)), 1)


MODELS = {
    "skip-gram": SkipGram(subsample=0, epochs=8, learning_rate=0.1),
    "cbow": Cbow(subsample=0, epochs=8, learning_rate=0.2),
    "subwords": SkipGram(subsample=0, epochs=8, learning_rate=0.1, subwords=Subwords(shortest=1, longest=2)),
    "tree": SkipGram(subsample=0, epochs=8, learning_rate=0.1, output=Tree()),
    "cbow, tree": Cbow(subsample=0, epochs=8, learning_rate=0.2, output=Tree()),
    "subwords, tree": Cbow(
        subsample=0, epochs=8, learning_rate=0.2, output=Tree(), subwords=Subwords(shortest=1, longest=2)
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("threads", [1, 2])
def test_words_that_stand_together_are_near(model: SkipGram | Cbow, threads: int, tmp_path: Path) -> None:
    fitted = fit(toy(), VectorsConfig(model=model, dimensions=10, threads=threads), tmp_path)
    assert {word[0] for word, _ in fitted.vectors.like("a1", 4)} <= {"a", "b"}
    assert {word[0] for word, _ in fitted.vectors.like("y1", 4)} <= {"x", "y"}
    equal = np.log(20) if isinstance(model.output, Tree) else 6 * np.log(2)  # what equal chances would cost
    assert fitted.losses[-1] < (0.85 if isinstance(model.output, Tree) else 0.6) * equal
    assert fitted.vectors.matrix.shape == (20, 10) and np.isfinite(fitted.vectors.matrix).all()


@pytest.mark.parametrize("model", [SkipGram(), SkipGram(output=Tree())], ids=["negatives", "tree"])
def test_one_thread_gives_the_same_bits_and_another_seed_others(model: SkipGram, tmp_path: Path) -> None:
    corpus = toy()
    config = VectorsConfig(model=model, dimensions=10, threads=1)
    made = [fit(corpus, config.model_copy(update={"seed": seed}), tmp_path).vectors.matrix for seed in (1, 1, 2)]
    assert (made[0] == made[1]).all()
    assert not np.allclose(made[0], made[2])


def test_states_differ() -> None:
    states = [state_of(seed, epoch, number) for seed in range(8) for epoch in range(8) for number in range(8)]
    assert len(set(states)) == 512 and all(0 < state < 2**64 for state in states)
    assert all(bin(a ^ b).count("1") > 10 for a, b in pairwise(states))

"""gensim as judge: its files are ours and ours are its, its pieces of words, its step on a fixed pair."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gensim_models = pytest.importorskip("gensim.models", reason="gensim is not installed: pip install gensim")

from yuyan.vectors import Subwords, Tree, Vectors, read_word2vec, write_word2vec  # noqa: E402
from yuyan.vectors.cbow import bag_of_words  # noqa: E402
from yuyan.vectors.skipgram import skip_gram  # noqa: E402
from yuyan.vectors.subword import buckets_of  # noqa: E402
from yuyan.vectors.targets import Drawing, Targets, one_pair, targets_of  # noqa: E402
from yuyan.vectors.tree import Paths, huffman  # noqa: E402


def small(**settings: Any) -> Any:
    """Three words, of which "noise" is always drawn against what was there, with weights N(0, 0.3)."""
    text = [["a", "b"]] * 3 + [["noise", "noise"]]
    model = gensim_models.Word2Vec(
        text, vector_size=16, window=1, sg=1, negative=1, min_count=1, workers=1, sample=0, epochs=1, seed=3, **settings
    )
    draw = np.random.default_rng(0)
    model.wv.vectors[:] = draw.normal(0, 0.3, model.wv.vectors.shape)
    model.syn1neg[:] = draw.normal(0, 0.3, model.syn1neg.shape)
    noise = model.wv.key_to_index["noise"]
    model.cum_table[:], model.cum_table[noise:] = 0, 2**31 - 1
    return model


def test_a_step_on_a_pair_is_gensims() -> None:
    """Theirs predicts the middle word from a near one, ours the other way round: so the text is turned about."""
    model = small()
    number = model.wv.key_to_index
    source, output = model.wv.vectors.copy(), model.syn1neg.copy()
    before = source.copy(), output.copy()
    model.running_training_loss = 0.0
    model.train([["a", "b"]], total_examples=1, epochs=1, start_alpha=0.05, end_alpha=0.05, compute_loss=True)
    words = (np.arange(4), np.arange(3))
    targets = Targets(Drawing(np.zeros(3, np.uint32), np.full(3, number["noise"], np.int32), 1), None)
    text = (np.array([number["b"], number["a"]], np.int32), np.array([0, 2]))
    work, keep, weights = (0, 1, np.uint64(5)), np.ones(3, np.float32), (source, output)
    loss, measured, pairs = skip_gram(work, text, words, keep, targets, weights, (0.05, 0.0), 1)
    assert pairs == 2
    for ours, theirs, old in ((source, model.wv.vectors, before[0]), (output, model.syn1neg, before[1])):
        assert float(np.abs(theirs - old).max()) > 5e-3
        # theirs reads the sigmoid from a table: off by up to 0.01, for each of the two words of a pair
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * 2 * 0.01 * float(np.abs(old).max()))
    assert measured == 1
    first = -np.log(1 / (1 + np.exp(-before[0][number["b"]] @ before[1][number["a"]])))
    first += np.log1p(np.exp(before[0][number["b"]] @ before[1][number["noise"]]))
    assert loss == pytest.approx(float(first), rel=1e-5)
    second = -np.log(1 / (1 + np.exp(-before[0][number["a"]] @ before[1][number["b"]])))
    second += np.log1p(np.exp(before[0][number["a"]] @ before[1][number["noise"]]))
    assert model.running_training_loss == pytest.approx(float(first + second), abs=0.08)  # four readings of that table


def with_a_tree(**settings: Any) -> tuple[Any, Paths]:
    """Twelve words with weights N(0, 0.3), and the paths of gensim's tree."""
    text = [[f"w{word}"] * (2 + word * word) for word in range(12)]
    model = gensim_models.Word2Vec(
        text, vector_size=16, window=1, hs=1, negative=0, min_count=1, workers=1, sample=0, epochs=1, seed=3, **settings
    )
    draw = np.random.default_rng(0)
    model.wv.vectors[:] = draw.normal(0, 0.3, model.wv.vectors.shape)
    model.syn1[:] = draw.normal(0, 0.3, model.syn1.shape)
    codes, points = ([model.wv.get_vecattr(word, name) for word in range(12)] for name in ("code", "point"))
    offsets = np.concatenate([[0], np.cumsum([len(code) for code in codes])])
    turns = (1 - np.concatenate(codes)).astype(np.float32)
    return model, Paths(offsets, np.concatenate(points).astype(np.int32), turns)


@pytest.mark.parametrize("bag", [False, True], ids=["skip-gram", "cbow"])
def test_a_step_down_the_tree_is_gensims(bag: bool) -> None:
    """On their tree. Their skip-gram predicts the middle word from a near one: so the text is turned about, as above."""
    model, paths = with_a_tree(sg=int(not bag), cbow_mean=1)
    number, words = model.wv.key_to_index, ["w9", "w2"]
    source, output = model.wv.vectors.copy(), model.syn1.copy()
    before = source.copy(), output.copy()
    model.running_training_loss = 0.0
    model.train([words], total_examples=1, epochs=1, start_alpha=0.05, end_alpha=0.05, compute_loss=True)
    targets = targets_of(np.ones(12, np.int64), Tree())[0]._replace(paths=paths)
    text = (np.array([number[word] for word in (words if bag else words[::-1])], np.int32), np.array([0, 2]))
    kernel, pieces = bag_of_words if bag else skip_gram, (np.arange(13), np.arange(12))
    kernel((0, 1, np.uint64(5)), text, pieces, np.ones(12, np.float32), targets, (source, output), (0.05, 0.0), 1)
    for ours, theirs, old in ((source, model.wv.vectors, before[0]), (output, model.syn1, before[1])):
        assert float(np.abs(theirs - old).max()) > 5e-3
        longest = int(np.diff(paths.offsets).max())  # each node of a path reads their table of the sigmoid, as above
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * longest * 0.01 * float(np.abs(old).max()))
        np.testing.assert_allclose(ours - old, theirs - old, rtol=0, atol=0.05 * float(np.abs(theirs - old).max()))


def test_the_score_of_a_pair_and_the_cost_of_the_tree_are_gensims() -> None:
    model, paths = with_a_tree(sg=1)
    told = []
    counts = np.array([model.wv.get_vecattr(word, "count") for word in range(12)])
    assert int(np.diff(huffman(counts).offsets) @ counts) == int(np.diff(paths.offsets) @ counts)
    targets = targets_of(counts, Tree())[0]._replace(paths=paths)
    model.wv.vectors *= 2  # theirs leaves out nodes whose product is beyond 6
    assert 2 < float(np.abs(model.wv.vectors @ model.syn1.T).max()) < 6
    for pair in combinations(model.wv.index_to_key, 2):
        first, second = (model.wv.key_to_index[word] for word in pair)
        both, nodes = 0.0, float(np.diff(paths.offsets)[[first, second]].sum())
        for word, target in ((first, second), (second, first)):
            hidden, change = model.wv.vectors[word].copy(), np.zeros(16, np.float32)
            both -= one_pair(hidden, model.syn1.copy(), target, *targets, np.uint64(3), np.float32(0), change, True)[1]
        theirs = model.score([list(pair)], total_sentences=1)[0]
        # theirs reads the logarithm from a table: up to 0.06 beside the place, for each node
        assert both == pytest.approx(float(theirs), abs=0.06 * nodes)
        told.append((both, float(theirs)))
    assert float(np.corrcoef(np.array(told).T)[0, 1]) > 0.999


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_files_go_both_ways(binary: bool, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    ours = Vectors(["the", "月光", "c'est", "1,5"], draw.normal(0, 1, (4, 7)).astype(np.float32))
    file = tmp_path / ("v.bin" if binary else "v.txt")
    write_word2vec(file, ours)
    theirs = gensim_models.KeyedVectors.load_word2vec_format(str(file), binary=binary)
    assert theirs.index_to_key == ours.words and (theirs.vectors == ours.matrix).all()
    theirs.save_word2vec_format(str(tmp_path / "back"), binary=binary)
    back = read_word2vec(tmp_path / "back")
    assert back.words == ours.words
    np.testing.assert_allclose(back.matrix, ours.matrix, rtol=0 if binary else 1e-6)
    assert [word for word, _ in ours.like("the", 3)] == [word for word, _ in theirs.most_similar("the", topn=3)]
    wanted = theirs.most_similar(positive=["月光", "c'est"], negative=["the"], topn=1)[0]
    found = ours.analogy("the", "月光", "c'est", 1)[0]
    assert found[0] == wanted[0]


def test_pieces_of_words_have_fasttexts_numbers() -> None:
    from gensim.models.fasttext import ft_ngram_hashes

    for word in ("cat", "unfriendliness", "naïve", "月光", "a", "Ελλάδα"):
        for shortest, longest in ((3, 6), (2, 3)):
            config = Subwords(shortest=shortest, longest=longest, buckets=2_000_000)
            theirs = ft_ngram_hashes(word, shortest, longest, config.buckets)
            assert buckets_of(word, config) == list(dict.fromkeys(theirs))

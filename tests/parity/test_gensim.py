"""gensim as judge: its files are ours and ours are its, its pieces of words, its step on a fixed pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

gensim_models = pytest.importorskip("gensim.models", reason="gensim is not installed: pip install gensim")

from yuyan.vectors import Subwords, Vectors, read_word2vec, write_word2vec  # noqa: E402
from yuyan.vectors.skipgram import skip_gram  # noqa: E402
from yuyan.vectors.subword import buckets_of  # noqa: E402


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
    drawing = (np.ones(3, np.float32), np.zeros(3, np.uint32), np.full(3, number["noise"], np.int32))
    text = (np.array([number["b"], number["a"]], np.int32), np.array([0, 2]))
    loss, measured, pairs = skip_gram((0, 1, np.uint64(5)), text, words, drawing, (source, output), (0.05, 0.0), 1, 1)
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

"""The n-gram model against the formulas of Chen & Goodman (1999) written out with dictionaries, and its laws."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yuyan.errors import DataError, InputError
from yuyan.models import kneser_ney, trie
from yuyan.models import ngram as ngram_module
from yuyan.models.kneser_ney import FALLBACK_DISCOUNTS, discounts
from yuyan.models.ngram import NGram
from yuyan.nn.cache import Cache

BOS, EOS, VOCABULARY = 0, 1, 8


class Naive:
    """Interpolated modified Kneser-Ney with one dictionary an order, straight from the paper."""

    def __init__(
        self, documents: Sequence[Sequence[int]], order: int, vocab_size: int, bos: int | None, eos: int | None
    ):
        self.order, self.bos = order, bos
        self.uniform = 1 / (vocab_size - (bos is not None))
        occurrences: Counter[tuple[int, ...]] = Counter()
        left: dict[tuple[int, ...], set[int | None]] = defaultdict(set)
        for document in documents:
            text = ([] if bos is None else [bos]) + list(document) + ([] if eos is None else [eos])
            for n in range(1, order + 1):
                for start in range(len(text) - n + 1):
                    gram = tuple(text[start : start + n])
                    occurrences[gram] += 1
                    left[gram].add(text[start - 1] if start else None)
        self.counts: list[dict[tuple[int, ...], int]] = [{} for _ in range(order)]
        for gram, count in occurrences.items():
            whole = len(gram) == order or gram[0] == bos
            self.counts[len(gram) - 1][gram] = count if whole else len(left[gram])
        self.counts[0].pop((bos,), None)  # type: ignore[arg-type]
        self.followers: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for counts in self.counts:
            for gram in counts:
                self.followers[gram[:-1]].append(gram)
        self.discount = [self._discounts(list(counts.values())) for counts in self.counts]

    @staticmethod
    def _discounts(counts: list[int]) -> list[float]:
        n = [sum(count == k for count in counts) for k in range(5)]
        try:
            y = n[1] / (n[1] + 2 * n[2])
            found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        except ZeroDivisionError:
            found = [0.0]
        return [0.0, *(found if min(found) > 0 else (0.5, 1.0, 1.5))]

    def prob(self, word: int, context: tuple[int, ...]) -> float:
        if word == self.bos:
            return 0.0
        context = context[len(context) - min(len(context), self.order - 1) :]
        shorter = self.prob(word, context[1:]) if context else self.uniform
        grams = self.followers.get(context)
        if not grams:
            return shorter
        counts, discount = self.counts[len(context)], self.discount[len(context)]
        total = sum(counts[gram] for gram in grams)
        left_over = sum(discount[min(counts[gram], 3)] for gram in grams) / total
        count = counts.get((*context, word), 0)
        return (count - discount[min(count, 3)]) / total + left_over * shorter

    def log_probs(self, document: Sequence[int]) -> list[float]:
        text = ([] if self.bos is None else [self.bos]) + list(document)
        first = len(text) - len(document)
        return [math.log(self.prob(text[t], tuple(text[:t]))) for t in range(first, len(text))]


class Case(NamedTuple):
    documents: list[list[int]]
    order: int
    bos: int | None
    eos: int | None

    def fit(self) -> NGram:
        return fit(self.documents, self.order, self.bos, self.eos)

    def naive(self) -> Naive:
        return Naive(self.documents, self.order, VOCABULARY, self.bos, self.eos)


def joined(documents: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *map(len, documents)])
    return np.array([token for document in documents for token in document], np.int64), starts


def fit(
    documents: Sequence[Sequence[int]], order: int = 3, bos: int | None = BOS, eos: int | None = EOS,
    vocab_size: int = VOCABULARY,
) -> NGram:  # fmt: skip
    return NGram.fit(*joined(documents), order=order, vocab_size=vocab_size, bos=bos, eos=eos)


word = st.integers(2, VOCABULARY - 2)  # the last id is never seen
texts = st.lists(st.lists(word, max_size=25), min_size=1, max_size=6).filter(any)
cases = st.builds(Case, texts, st.integers(1, 5), st.sampled_from((None, BOS)), st.sampled_from((None, EOS)))
queries = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=30)


def sample_documents(seed: int = 0, count: int = 40, length: int = 60) -> list[list[int]]:
    """Documents with enough structure that every count of counts is there."""
    rng = np.random.default_rng(seed)
    return [(2 + np.minimum(rng.geometric(0.5, rng.integers(0, length)) - 1, 4)).tolist() for _ in range(count)]


# ---------------------------------------------------------------- the formulas


@given(cases, queries)
@settings(max_examples=150, deadline=None)
def test_equals_the_paper_written_out(case: Case, query: list[int]) -> None:
    model, naive = case.fit(), case.naive()
    np.testing.assert_allclose(model.log_probs(np.array(query)), naive.log_probs(query), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bos, eos", [(None, None), (BOS, EOS)])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_paper_where_all_discounts_are_defined(order: int, bos: int | None, eos: int | None) -> None:
    rng = np.random.default_rng(order)
    phrases = [(2 + rng.zipf(1.3, 8) % 300).tolist() for _ in range(100)]
    documents = [[t for i in rng.integers(0, 100, rng.integers(0, 8)) for t in phrases[i]] for _ in range(60)]
    model, naive = fit(documents, order, bos, eos, 302), Naive(documents, order, 302, bos, eos)
    assert all(tuple(found[1:]) != FALLBACK_DISCOUNTS for found in naive.discount), "the corpus should not need them"
    query = [token for document in documents[:3] for token in document] + rng.integers(2, 302, 60).tolist()
    np.testing.assert_allclose(model.log_probs(np.array(query)), naive.log_probs(query), rtol=0, atol=1e-12)


@given(cases, st.lists(st.lists(st.integers(-1, VOCABULARY - 1), min_size=4, max_size=4), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_probabilities_sum_to_one(case: Case, contexts: list[list[int]]) -> None:
    model = case.fit()
    scores = model.distributions(np.array(contexts)[:, : case.order - 1])
    np.testing.assert_allclose(np.exp(scores).sum(1), 1.0, rtol=0, atol=1e-9)
    if case.bos is not None:
        assert np.all(scores[:, case.bos] == -np.inf)
    assert np.all(np.isfinite(np.delete(scores, BOS, 1)))


@given(cases, st.integers(1, 9))
@example(Case([[2], [2]], 3, None, None), 1)  # more tokens than a block, and not one n-gram
@settings(max_examples=60, deadline=None)
def test_block_by_block_gives_the_same(case: Case, block: int) -> None:
    whole = case.fit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kneser_ney, "BLOCK", block)
        blocks = case.fit()
    for a, b in zip(whole.levels, blocks.levels, strict=True):
        assert all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_discounts_follow_the_counts_of_counts() -> None:
    counts = np.repeat([1, 2, 3, 4, 5, 9], [40, 12, 6, 3, 2, 1])
    y = 40 / (40 + 24)
    assert discounts(counts) == pytest.approx((1 - 2 * y * 12 / 40, 2 - 3 * y * 6 / 12, 3 - 4 * y * 3 / 6))


@pytest.mark.parametrize("counts", [[], [5, 7], [1, 1, 1], [2, 3, 4], [1, 2, 4], [1, 2, *[3] * 9], [1, 2, 3, *[4] * 9]])
def test_undefined_discounts_fall_back(counts: list[int]) -> None:
    assert discounts(np.array(counts, np.int64)) == FALLBACK_DISCOUNTS


@pytest.mark.parametrize("document", [[2], [2, 2], [2] * 50, [2, 3] * 30, list(range(2, 7))])
@pytest.mark.parametrize("order", [1, 2, 4, 12])
def test_tiny_texts_give_proper_distributions(document: list[int], order: int) -> None:
    for bos, eos in ((None, None), (BOS, EOS)):
        model = fit([document], order, bos, eos)
        hidden = model.decode(torch.tensor([[2, 3, 2, 2, 7]]))
        probs = model.score(hidden, torch.float64).exp()
        assert not probs.isnan().any() and bool((probs >= 0).all())
        torch.testing.assert_close(probs.sum(-1), torch.ones(1, 5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_vocabulary_of_one_token() -> None:
    assert fit([[0, 0, 0]], 3, None, None, 1).log_probs(np.array([0, 0])) == pytest.approx(0)


def test_the_end_is_predicted_and_the_beginning_is_context() -> None:
    model = fit([[2, 3], [2, 3], [2, 4]], 3)
    assert model.log_probs(np.array([2, 3, EOS]))[2] > -0.3 > -2 > model.log_probs(np.array([2, EOS]))[1]
    other = fit([[3, 2], [3, 2], [4, 2]], 3)
    assert model.log_probs(np.array([2]))[0] > other.log_probs(np.array([2]))[0]


def test_empty_documents_and_other_integer_types_change_nothing() -> None:
    documents = sample_documents(count=5)
    plain = fit(documents, 3, None, None)
    padded = fit([[], *documents[:2], [], [], *documents[2:], []], 3, None, None)
    small = NGram.fit(*(part.astype(np.uint16) for part in joined(documents)), order=3, vocab_size=VOCABULARY)
    for other in (padded, small):
        assert all(
            np.array_equal(x, y)
            for a, b in zip(plain.levels, other.levels, strict=True)
            for x, y in zip(a, b, strict=True)
        )
    inside, starts = joined(documents)
    around = np.concatenate(([7, 7], inside, [7]))
    cut = NGram.fit(around, starts + 2, order=3, vocab_size=VOCABULARY)
    assert np.array_equal(cut.levels[2].log_probs, plain.levels[2].log_probs)


# ---------------------------------------------------------------- looking up


@given(cases, queries)
@settings(max_examples=50, deadline=None)
def test_log_probs_are_the_scores_gathered(case: Case, query: list[int]) -> None:
    model, ids = case.fit(), torch.tensor(query)
    given_ids = ids if case.bos is None else torch.cat((torch.tensor([case.bos]), ids))
    scores = model.score(model.decode(given_ids[None, :-1]), torch.float64)[0]
    gathered = scores.gather(1, given_ids[1:, None])[:, 0].numpy()
    np.testing.assert_allclose(model.log_probs(np.array(query))[len(query) - len(gathered) :], gathered, atol=1e-12)


def test_a_bos_that_is_already_there_changes_nothing() -> None:
    model = fit(sample_documents())
    scores = model.log_probs(np.array([BOS, 2, 3, 4]))
    assert scores[0] == -np.inf
    assert np.array_equal(scores[1:], model.log_probs(np.array([2, 3, 4])))


@pytest.mark.parametrize("bos", [None, BOS])
@pytest.mark.parametrize("at_once", [1, 2, 7, 64, 1 << 20])
def test_documents_together_equal_documents_alone(
    monkeypatch: pytest.MonkeyPatch, bos: int | None, at_once: int
) -> None:
    model, documents = fit(sample_documents(0), 4, bos), sample_documents(1, count=12, length=20)
    alone = np.concatenate([model.log_probs(np.array(d, np.int64)) for d in documents])
    monkeypatch.setattr(ngram_module, "AT_ONCE", at_once)
    assert np.array_equal(model.log_probs_documents(*joined(documents)), alone)


def test_sorted_and_unsorted_search_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit(sample_documents(0), 5)
    text = np.random.default_rng(5).integers(1, VOCABULARY, 3000)
    unsorted = model.log_probs(text)
    monkeypatch.setattr(trie, "SORTED_FROM", 0)
    assert np.array_equal(model.log_probs(text), unsorted)


def test_keys_too_wide_for_one_integer_sort_the_same() -> None:
    for bits in (10, 27, 28, 31):  # 500 places need 9 bits beside twice these
        keys = np.random.default_rng(0).integers(0, 1 << 2 * bits, 500)
        found, places = trie.sort_keys(keys, 1 << bits, 1 << bits)
        assert np.array_equal(found, np.sort(keys)) and np.array_equal(keys[places], found)


# ---------------------------------------------------------------- the waist


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("step", [1, 2, 7])
def test_decoding_with_a_cache_equals_decoding_at_once(order: int, step: int) -> None:
    model = fit(sample_documents(), order)
    input_ids = torch.randint(2, VOCABULARY, (3, 13), generator=torch.Generator().manual_seed(0))
    cache = Cache()
    parts = [model.decode(part, cache=cache) for part in input_ids.split(step, 1)]
    assert torch.equal(torch.cat(parts, 1), model.decode(input_ids))
    assert cache.length == 13
    assert parts[0].shape[-1] == order - 1


def test_the_cache_follows_a_beam_search() -> None:
    model, cache = fit(sample_documents(), 4), Cache()
    model.decode(torch.tensor([[2, 3, 4], [5, 6, 2]]), cache=cache)
    cache.reorder(torch.tensor([1, 1, 0]))
    after = model.decode(torch.tensor([[3], [4], [5]]), cache=cache)
    assert after[:, 0].tolist() == [[6, 2, 3], [6, 2, 4], [3, 4, 5]]


def test_padding_on_the_left_is_no_context() -> None:
    model = fit(sample_documents(), 4)
    short, long = [2, 3, 2], [BOS, 4, 2, 3, 5, 2]
    input_ids = torch.tensor([[2, 2, 2, *short], long])
    assert not torch.equal(model.decode(input_ids)[:1, 3:], model.decode(torch.tensor([short])))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1] * 6])
    alone = model.score(model.decode(torch.tensor([short])))
    cache = Cache()
    hidden = model.decode(input_ids, mask, cache=cache)
    assert torch.equal(model.score(hidden)[:1, 3:], alone)
    following, mask = torch.tensor([[4], [3]]), torch.cat((mask, torch.ones(2, 1, dtype=mask.dtype)), 1)
    stepped = model.score(model.decode(following, mask, cache=cache))
    whole = model.score(model.decode(torch.tensor([[*short, 4]])))
    assert torch.equal(stepped[0, 0], whole[0, -1])


def test_scores_have_the_type_that_was_asked_for() -> None:
    model = fit(sample_documents())
    hidden = model.decode(torch.tensor([[BOS, 2]]))
    assert model.score(hidden).dtype == torch.float32
    assert model.score(hidden, torch.float64).shape == (1, 2, VOCABULARY)


# ---------------------------------------------------------------- bad input


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="order 0"):
        fit([[2]], 0)
    with pytest.raises(DataError, match="no tokens"):
        fit([[], []], 3, BOS, None)
    with pytest.raises(DataError, match="no tokens"):
        fit([[]], 3, None, None)
    with pytest.raises(InputError, match="token id 8: outside the vocabulary of 8"):
        fit([[2, 8]])
    with pytest.raises(InputError, match="token id -1"):
        fit([[2, -1]])
    with pytest.raises(InputError, match="bos 9: outside"):
        fit([[2]], bos=9)
    with pytest.raises(InputError, match="stands inside a document"):
        fit([[2, BOS]])
    with pytest.raises(InputError, match="starts"):
        NGram.fit(np.array([2, 3]), np.array([0, 3]), order=2, vocab_size=4)
    with pytest.raises(InputError, match="starts"):
        NGram.fit(np.array([2, 3]), np.array([0, 2, 1]), order=2, vocab_size=4)
    model = fit([[2, 3]])
    with pytest.raises(InputError, match="token id 99"):
        model.log_probs(np.array([2, 99]))
    with pytest.raises(InputError, match="token id 99"):
        model.score(model.decode(torch.tensor([[2, 99]])))
    with pytest.raises(InputError, match="token id -2"):
        model.distributions(np.array([[2, -2]]))

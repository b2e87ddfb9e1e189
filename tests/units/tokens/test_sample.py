"""A sample is within its budget, fair, and the same for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.errors import DataError
from yuyan.tokens.sample import PART, sample_texts

TEXTS = [f"text {i:04d}" for i in range(1000)]


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30), limit=st.integers(50, 400))
def test_the_budget_holds_and_sizes_are_true(texts: list[str], limit: int) -> None:
    sample = sample_texts(texts, limit, seed=1)
    sizes = [len(text.encode()) for text in texts]
    assert sample.documents_seen == len(texts) and sample.bytes_seen == sum(sizes)
    assert sample.bytes_used == sum(len(text.encode()) for text in sample.texts)
    assert sample.bytes_used <= limit or len(sample.texts) == 1
    if sum(sizes) <= limit:
        assert sample.texts == texts


def test_everything_is_kept_in_order_when_it_fits() -> None:
    assert sample_texts(TEXTS, 10**6, seed=3).texts == TEXTS


def test_the_same_seed_the_same_sample() -> None:
    first = sample_texts(iter(TEXTS), 900, seed=5)
    assert first == sample_texts(iter(TEXTS), 900, seed=5)
    assert first.texts != sample_texts(iter(TEXTS), 900, seed=6).texts
    assert len(first.texts) == 100 and first.texts == sorted(first.texts)


def test_early_and_late_texts_have_the_same_chance() -> None:
    counts = [0] * 10
    for seed in range(200):
        for text in sample_texts(TEXTS, 900, seed).texts:
            counts[int(text[6])] += 1
    assert sum(counts) == 20_000
    assert all(abs(count - 2000) < 200 for count in counts), counts  # five standard deviations


def test_short_and_long_texts_have_the_same_chance() -> None:
    """A short text that would still fit must not slip in where a long one was dropped."""
    texts = [f"{i:04d}" * (1 if i % 2 else 30) for i in range(400)]
    short = long = 0
    for seed in range(200):
        sample = sample_texts(texts, 2000, seed).texts
        short += sum(len(text) == 4 for text in sample)
        long += sum(len(text) > 4 for text in sample)
    assert 0.93 < short / long < 1.11, (short, long)


def test_a_large_text_is_sampled_in_parts() -> None:
    text = "word " * (PART // 5 * 10)
    sample = sample_texts([text], len(text) // 3, seed=0)
    assert len(text) // 4 < sample.bytes_used <= len(text) // 3
    assert all(part.strip() in text for part in sample.texts)
    whole = sample_texts([text, "中" * 3 * PART], 10**9, seed=0)
    assert "".join(whole.texts) == text + "中" * 3 * PART
    assert all(len(part) <= PART for part in whole.texts)


def test_dense_text_counts_more() -> None:
    texts = ["中文" * 10] * 100  # 60 bytes each
    assert len(sample_texts(texts, 1200, 0).texts) == 20
    assert len(sample_texts(texts, 1200, 0, dense=4).texts) == 5
    assert len(sample_texts(["abc" * 20] * 100, 1200, 0, dense=4).texts) == 20


def test_a_surrogate_names_the_document() -> None:
    with pytest.raises(DataError, match=r"document 3: a lone surrogate \(U\+D900\)"):
        sample_texts(["a", "b", "c\ud900"], 100, 0)

"""The arrays of the Unigram estimation, against the definition written out."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from yuyan.tokens import unigram
from yuyan.tokens.unigram import estimate_unigram

WORDS = Counter({"abab": 3, "ab": 5, "ba": 2, "abc": 4, "cabab": 1, "c": 2, "": 7, "\0a": 2})


def cuts(word: str, scores: dict[str, float]) -> list[list[str]]:
    if not word:
        return [[]]
    return [[word[:n], *rest] for n in range(1, len(word) + 1) if word[:n] in scores for rest in cuts(word[n:], scores)]


def made(most: int = 50) -> tuple[unigram._Words, unigram._Pieces, int, list[str]]:
    words = unigram._lay_out(WORDS)
    pieces, alphabet = unigram._candidates(words, most)
    texts = [words.text[p : p + n] for p, n in zip(pieces.places, pieces.lengths, strict=True)]
    return words, pieces, alphabet, texts


def test_candidates_are_the_frequent_substrings() -> None:
    _, pieces, alphabet, texts = made()
    counted: Counter[str] = Counter()
    for word, count in WORDS.items():
        for i in range(len(word)):
            for j in range(i + 1, len(word) + 1):
                counted[word[i:j]] += count
    assert dict(zip(texts, pieces.counts, strict=True)) == {
        text: count for text, count in counted.items() if len(text) == 1 or count >= 2
    }
    assert set(texts[:alphabet]) == {"a", "b", "c", "\0"}


def test_a_limit_keeps_characters_and_the_most_valuable() -> None:
    _, _, alphabet, texts = made(most=6)
    assert alphabet == 4 and set(texts[4:]) == {"ab", "abab"}  # 15 x 2 and 4 x 4; "aba", "bab" are 12


def test_expected_counts_are_those_over_all_cuts() -> None:
    words, pieces, _, texts = made()
    random = np.random.default_rng(0)
    chance = random.dirichlet(np.ones(len(texts)))
    expected, level = unigram._expected_counts(words, pieces, np.log(chance), 5.0)
    scores = dict(zip(texts, np.log(chance), strict=True))
    by_hand, nats, characters = Counter[str](), 0.0, 0
    for word, count in WORDS.items():
        ways = cuts(word, scores)
        weights = [math.exp(sum(scores[piece] for piece in way)) for way in ways]
        for way, weight in zip(ways, weights, strict=True):
            for piece in way:
                by_hand[piece] += count * weight / sum(weights)
        nats -= count * math.log(sum(weights))
        characters += count * len(word)
    np.testing.assert_allclose(expected, [by_hand[text] for text in texts], atol=1e-12)
    assert level == pytest.approx(nats / characters)
    other, _ = unigram._expected_counts(words, pieces, np.log(chance), 1.0)
    np.testing.assert_allclose(expected, other)  # the level cancels


def test_the_best_alternative_is_the_best_cut_without_the_piece() -> None:
    _, pieces, _, texts = made()
    scores = np.log(np.random.default_rng(1).dirichlet(np.ones(len(texts))))
    table = dict(zip(texts, scores, strict=True))
    best = unigram._best_alternative(pieces, scores)
    for text, found in zip(texts, best, strict=True):
        ways = [way for way in cuts(text, table) if way != [text]]
        assert found == pytest.approx(max((sum(table[p] for p in way) for way in ways), default=-math.inf))


def test_digamma() -> None:
    x = np.array([0.5, 1.0, 2.0, 10.0, 1e5])
    euler = 0.5772156649015329
    harmonic = sum(1 / k for k in range(1, 10))
    expected = [-euler - 2 * math.log(2), -euler, 1 - euler, harmonic - euler, math.log(1e5) - 5e-6 - 1 / 12e10]
    np.testing.assert_allclose(unigram._digamma(x), expected, rtol=1e-12)


def test_the_result_has_the_size_all_characters_and_likely_pieces() -> None:
    words = Counter({"lower": 50, "lowest": 30, "newer": 60, "wider": 30, "new": 20, "x": 1})
    pieces = estimate_unigram(words, 20)
    texts = [text for text, _ in pieces]
    assert len(pieces) == 20 and set("".join(words)) <= set(texts)
    assert {"newer", "lower"} <= set(texts)
    assert [score for _, score in pieces] == sorted((score for _, score in pieces), reverse=True)
    assert 0.5 < sum(math.exp(score) for _, score in pieces) <= 1.0


def test_too_little_text_gives_fewer_pieces() -> None:
    assert {text for text, _ in estimate_unigram({"ab": 1, "c": 1}, 100)} == {"a", "b", "c"}


def test_long_words_of_rare_characters_stay_within_range() -> None:
    words = {chr(0x4E00 + i) * 48: 1 for i in range(300)} | {"a" * 48: 10**6}
    pieces = dict(estimate_unigram(words, 2000))
    assert all(math.isfinite(score) for score in pieces.values())
    assert "a" * 16 in pieces

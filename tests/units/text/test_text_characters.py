"""Units and hashed n-grams, against the same said in plain Python."""

from __future__ import annotations

import itertools
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.text.characters import count_classes, ngrams, units_of

UNIT = re.compile(r"[\u3400-\u9fff\u3040-\u30ff]|[a-z0-9é]+")
TEXTS = st.lists(
    st.lists(st.sampled_from(["the ", "cat", "Cat ", ", ", "中", "文", "。", "1", "é", "\n", "😀", "𠀀"]), max_size=25).map("".join),
    min_size=1, max_size=6,
)  # fmt: skip


def naive_units(text: str) -> list[str]:
    return re.findall(r"[\u3400-\u9fff𠀀]|[a-z0-9é]+", text.lower())


@given(TEXTS, st.integers(1, 6))
@settings(deadline=None, max_examples=300)
def test_hashes_are_equal_exactly_where_ngrams_are(texts: list[str], n: int) -> None:
    units = units_of(texts)
    expected = [naive_units(text) for text in texts]
    assert np.diff(units.starts).tolist() == [len(each) for each in expected]
    assert units.solo.tolist() == [sum(1 for u in each if not re.match("[a-z0-9é]", u)) for each in expected]
    names = [unit for each in expected for unit in each]
    assert len(set(names)) == len(np.unique(units.hashes))
    grams, starts = ngrams(units, n)
    wanted = [[tuple(each[i : i + n]) for i in range(len(each) - n + 1)] for each in expected]
    assert np.diff(starts).tolist() == [len(each) for each in wanted]
    flat = [gram for each in wanted for gram in each]
    assert len(dict(zip(flat, grams.tolist(), strict=True))) == len(set(flat)) == len(np.unique(grams))


def test_a_text_has_the_same_hashes_alone_and_in_a_batch() -> None:
    texts = ["The cat sat on the mat.", "", "我住在北京，我喜欢吃苹果。", "...", "The end"]
    together, starts = ngrams(units_of(texts), 3)
    for i, text in enumerate(texts):
        alone, _ = ngrams(units_of([text]), 3)
        assert together[starts[i] : starts[i + 1]].tolist() == alone.tolist()


def test_hashes_follow_the_formula_in_plain_integers() -> None:
    mask, base, golden = (1 << 64) - 1, 0xD1342543DE82EF95, 0x9E3779B97F4A7C15

    def mixed(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    def unit(word: str) -> int:
        total = 0
        for place, letter in enumerate(word):
            value = (ord(letter) + 1) * golden & mask
            total += (value ^ (value >> 32)) * pow(base, place, 1 << 64)
        return mixed(total & mask)

    words = [unit(word) for word in ("the", "quick", "brown", "狐", "狸")]
    wanted = [mixed((left + right * base) & mask) for left, right in itertools.pairwise(words)]
    grams, _ = ngrams(units_of(["The quick, brown 狐狸!"]), 2)
    assert grams.tolist() == wanted


def test_classes() -> None:
    assert count_classes("ab1 。,中😀+\n") == (2, 2, 2, 1, 2, 1)
    assert count_classes("") == (0, 0, 0, 0, 0, 0)

"""Duplicates: nothing is dropped that is not truly there already, and what is there is found."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.text.document import Document
from yuyan.text.duplicate import (
    Comparison,
    ExactDuplicates,
    Near,
    NearDuplicates,
    band_hashes,
    bands_for,
    candidate_groups,
    equality_hash,
    gram_set,
    jaccard,
    repeats,
)
from yuyan.text.overlap import Overlap

WORDS = [
    f"{a}{b}"
    for a in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "tu")
    for b in ("ba", "de", "fi", "go", "hu", "l", "n")
]
HAN = [chr(0x4E00 + 7 * i) for i in range(400)]


def words(count: int, seed: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def near(texts: Sequence[str], config: NearDuplicates) -> list[Near]:
    bands, long = band_hashes(texts, config)
    numbers = np.flatnonzero(long)
    groups = list(candidate_groups(bands[long].T, numbers))
    return list(Comparison(config, lambda number: texts[number]).run(groups))


def true_jaccard(left: str, right: str, n: int, unit: str) -> float:
    """Straight from the definition."""
    sets = []
    for text in (left, right):
        units = text.split() if unit == "word" else [c for c in text if c not in "，。"]
        sets.append({tuple(units[i : i + n]) for i in range(len(units) - n + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


# ---------------------------------------------------------------- exact


def test_equal_but_for_case_width_and_space() -> None:
    config = ExactDuplicates()
    for left, right in (("Hello  World\n", "hello world"), ("ＡＢＣ，１２３", "abc,123"), ("你好 世界", "你好世界")):
        assert equality_hash(left, config) == equality_hash(right, config)
        assert equality_hash(left, ExactDuplicates(fold=False)) != equality_hash(right, ExactDuplicates(fold=False))
    assert equality_hash("a.b", config) != equality_hash("ab", config)


@given(st.lists(st.integers(0, 9), max_size=60))
@settings(deadline=None)
def test_repeats_point_to_the_first(values: list[int]) -> None:
    hashes = np.array([[v % 3, v // 3] for v in values], dtype=np.uint64).reshape(-1, 2)
    expected = [values.index(v) if values.index(v) < i else -1 for i, v in enumerate(values)]
    assert repeats(hashes).tolist() == expected


# ---------------------------------------------------------------- near


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert bands * rows <= 120
    assert 1 - (1 - threshold**rows) ** bands >= 0.99
    assert 1 - (1 - threshold ** (rows + 1)) ** (120 // (rows + 1)) < 0.99 or rows == 12


@given(st.lists(st.lists(st.integers(0, 5), min_size=12, max_size=12), min_size=1, max_size=4))
@settings(deadline=None)
def test_candidates_are_those_that_share_a_hash_in_a_band(columns: list[list[int]]) -> None:
    numbers = np.arange(12) * 3
    groups = list(candidate_groups([np.array(column, dtype=np.uint64) for column in columns], numbers))
    expected = []
    for column in columns:
        together = {value: {3 * i for i, v in enumerate(column) if v == value} for value in column}
        expected.append({frozenset(each) for each in together.values() if len(each) > 1})
    found = []
    for pairs in groups:
        found.append({frozenset(pairs[pairs[:, 0] == group, 1].tolist()) for group in pairs[:, 0]})
    assert found == [each for each in expected if each]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_similarity_is_the_definition(unit: str) -> None:
    for seed in range(10):
        chosen = random.Random(seed).choices(WORDS if unit == "word" else HAN, k=120)
        changed = list(chosen)
        for at in random.Random(seed).sample(range(120), seed):
            changed[at] = "kaba" if unit == "word" else "一"
        join = " " if unit == "word" else ""
        left, right = join.join(chosen), join.join(changed)
        found = jaccard(gram_set(left, 5), gram_set(right, 5))
        assert found == pytest.approx(true_jaccard(left, right, 5, unit), abs=1e-12)


def corpus(seed: int, count: int = 250) -> list[str]:
    """Texts, and copies of them with more and more words changed."""
    texts: list[str] = []
    source = random.Random(seed)
    for number in range(count):
        base = words(200, 1000 * seed + number)
        texts.append(" ".join(base))
        changed = list(base)
        for at in source.sample(range(200), source.choice([1, 2, 4, 8, 16])):
            changed[at] = source.choice(WORDS)
        texts.append(" ".join(changed))
    return texts


def test_only_true_duplicates_are_dropped_and_nearly_all_are_found() -> None:
    config = NearDuplicates(threshold=0.8)
    texts = corpus(1)
    found = {each.document: each for each in near(texts, config)}
    truly = {
        i + 1 for i in range(0, len(texts), 2) if true_jaccard(texts[i], texts[i + 1], 5, "word") >= config.threshold
    }
    for each in found.values():
        assert each.similarity == pytest.approx(
            true_jaccard(texts[each.document], texts[each.like], 5, "word"), abs=1e-12
        )
        assert each.similarity >= config.threshold
        assert each.like < each.document
        assert each.like not in found  # it was kept
    assert set(found) <= truly
    assert len(found) >= 0.97 * len(truly) > 50


def test_a_chain_of_small_changes_is_not_dropped_as_one() -> None:
    """Each is like the one before, but the last is unlike the first: only what is like a kept one goes."""
    base = words(300, 7)
    texts = []
    for step in range(12):
        for at in range(step * 5, step * 5 + 5):
            base[at * 5 % 300] = f"new{step}x{at}"
        texts.append(" ".join(base))
    dropped = {each.document for each in near(texts, NearDuplicates(threshold=0.7))}
    kept = [i for i in range(len(texts)) if i not in dropped]
    assert len(kept) > 1
    for each in near(texts, NearDuplicates(threshold=0.7)):
        assert each.like in kept


def test_short_texts_are_left_to_equality() -> None:
    poem = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"
    other = poem.replace("床", "窗")
    assert near([poem, other, poem], NearDuplicates()) == []
    assert len(near([poem * 4, other * 4], NearDuplicates(threshold=0.6))) == 1


def test_the_order_of_comparison_does_not_depend_on_the_batches() -> None:
    texts = corpus(3, 60)
    config = NearDuplicates()
    whole, _ = band_hashes(texts, config)
    parts = np.concatenate([band_hashes(texts[i : i + 7], config)[0] for i in range(0, len(texts), 7)])
    assert (whole == parts).all()


def test_form_letters_cost_bounded_comparisons() -> None:
    """Texts that share most of their words but are not alike enough: found out in linear time."""
    common = words(170, 1)
    texts = [" ".join(common + words(60, 100 + i)) for i in range(400)]
    config = NearDuplicates(threshold=0.8)
    bands, long = band_hashes(texts, config)
    comparison = Comparison(config, lambda number: texts[number])
    found = list(comparison.run(list(candidate_groups(bands[long].T, np.flatnonzero(long)))))
    assert all(each.similarity >= 0.8 for each in found)
    assert comparison.pairs <= 64 * len(texts)


def test_texts_that_are_a_quarter_alike_are_hardly_ever_compared() -> None:
    """P(compared) = 1 - (1 - s^rows)^bands is below one per cent for s = 0.27."""
    common = words(100, 1)
    texts = [" ".join(common + words(130, 100 + i)) for i in range(100)]
    bands, long = band_hashes(texts, NearDuplicates())
    comparison = Comparison(NearDuplicates(), lambda number: texts[number])
    assert list(comparison.run(list(candidate_groups(bands[long].T, np.flatnonzero(long))))) == []
    assert comparison.pairs < 400  # of 4,950


# ---------------------------------------------------------------- overlap of the parts


def test_overlap_counts_shared_runs_of_thirteen_words() -> None:
    train = " ".join(words(400, 1))
    shared = " ".join(train.split()[50:80])
    test = [
        Document("clean", " ".join(words(100, 2))), Document("part", " ".join(words(40, 3)) + " " + shared),
        Document("all", train), Document("short", "a few words"), Document("twelve", " ".join(train.split()[:12]) + " end"),
    ]  # fmt: skip
    overlap = Overlap(test, 3000)
    overlap.look([train])
    report = overlap.report()
    assert (report.documents, report.too_short, report.touched, report.mostly) == (4, 1, 2, 1)
    grams = [88, 58, 388, 1]
    assert report.share == pytest.approx((388 + 18) / sum(grams), abs=1e-6)
    assert [sample.id for sample in report.samples] == ["all", "part"]


def test_overlap_counts_fifty_characters_of_chinese() -> None:
    train = "".join(random.Random(1).choices(HAN, k=500))
    overlap = Overlap(
        [Document("in", train[100:180]), Document("out", train[::-1][:80]), Document("s", train[:49])], 500
    )
    overlap.look([train[:60], train[60:]])
    report = overlap.report()
    assert (report.documents, report.too_short, report.touched) == (2, 1, 1)
    assert report.share == pytest.approx(31 / 62, abs=1e-6)


def test_a_sample_of_the_runs_gives_nearly_the_same_share() -> None:
    train = [" ".join(words(3000, seed)) for seed in range(8)]
    test = [
        Document(str(i), " ".join(text.split()[:1500]) + " " + " ".join(words(1500, 50 + i)))
        for i, text in enumerate(train)
    ]
    shares = []
    for characters in (10, 30_000_000):
        overlap = Overlap(test, characters)
        overlap.look(train)
        shares.append(overlap.report())
    assert shares[1].sampled == 16
    assert shares[0].share == pytest.approx(0.5, abs=0.01)
    assert shares[1].share == pytest.approx(shares[0].share, abs=0.05)

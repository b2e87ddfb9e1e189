"""Text to units, units to numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yuyan.errors import DataError
from yuyan.vectors import corpus
from yuyan.vectors.corpus import encode
from yuyan.vectors.settings import CharacterUnits, SpacedUnits, Units, WordUnits
from yuyan.vectors.units import LONGEST, sentences

CUTS: dict[str, tuple[Units, str, list[list[str]]]] = {
    "words": (WordUnits(), "Don't stop, at 3.5 U.S. miles!\n\nGo.", [["don't", "stop", "at", "3.5", "u.s", "miles"], ["go"]]),
    "marks": (WordUnits(punctuation=True, lowercase=False), "No, Sir.", [["No", ",", "Sir", "."]]),
    "accents": (WordUnits(), "Élan naïve—déjà", [["élan", "naïve", "déjà"]]),
    "Chinese": (WordUnits(), "我爱北京天安门 and Mao's", [["我", "爱", "北京", "天安门", "and", "mao's"]]),
    "Japanese": (WordUnits(), "コンピューター、3.5", [["コンピューター", "3.5"]]),
    "characters": (CharacterUnits(), "床前明月光，疑是 地上霜。", [list("床前明月光疑是地上霜")]),
    "characters and marks": (CharacterUnits(punctuation=True), "月光，", [["月", "光", "，"]]),
    "spaces": (SpacedUnits(), "The cat .", [["The", "cat", "."]]),
    "small letters": (SpacedUnits(lowercase=True), "The cat .", [["the", "cat", "."]]),
}  # fmt: skip


@pytest.mark.parametrize("case", CUTS)
def test_units(case: str) -> None:
    units, text, wanted = CUTS[case]
    assert list(sentences([text], units)) == wanted


def test_an_endless_line_is_cut() -> None:
    assert [len(part) for part in sentences(["a " * (LONGEST + 3)], SpacedUnits())] == [LONGEST, 3]


def test_numbers_go_by_frequency_and_rare_words_are_gone() -> None:
    text = [["b", "a", "b"], ["x"], ["a", "c", "b"], [], ["c", "y", "a"]]
    made = encode(text, min_count=2)
    assert made.words == ["b", "a", "c"]  # b came before a
    assert made.counts.tolist() == [3, 3, 2]
    assert made.tokens.tolist() == [0, 1, 0, 1, 2, 0, 2, 1]
    assert made.starts.tolist() == [0, 3, 6, 8]
    assert (made.types, made.met) == (5, 10)


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_blocks_and_files_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    text = [[str(word) for word in draw.zipf(1.5, draw.integers(0, 6))] for _ in range(60)]
    plain = encode(text, min_count=2, max_words=9)
    monkeypatch.setattr(corpus, "BLOCK", block)
    stored = encode(text, min_count=2, max_words=9, folder=tmp_path)
    assert stored.words == plain.words and len(plain.words) == 9
    kept = [[plain.words.index(word) for word in line if word in plain.words] for line in text]
    kept = [line for line in kept if line]
    for made in (plain, stored):
        cut = [made.tokens[a:b].tolist() for a, b in zip(made.starts[:-1], made.starts[1:], strict=True)]
        assert cut == kept
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.i32"]


NOTHING: dict[str, tuple[list[list[str]], int, str]] = {
    "no text": ([], 1, "there is no word in the text"),
    "empty lines": ([[], []], 1, "there is no word in the text"),
    "one word": ([["a", "a"], ["a"]], 1, "the only word in the text is 'a'; vectors need at least two"),
    "all too rare": ([["a", "b", "a"]], 3, r"no word is left of 2 \(min_count 3.*'a', occurs 2 times; set min_count lower"),
    "none left": ([["a", "b"]], 3, r"no word is left of 2 \(min_count 3\); .*'a', occurs 1 time; set min_count lower"),
    "one left": ([["a", "b", "a"]], 2, "1 word is left of 2"),
    "nothing near": ([["a"], ["b"], ["a"], ["b"]], 1, "no two known words stand in one line"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_text_without_vectors_says_why(case: str) -> None:
    text, min_count, said = NOTHING[case]
    with pytest.raises(DataError, match=said):
        encode(text, min_count)


def test_one_word_by_max_words_asks_for_more_words() -> None:
    with pytest.raises(DataError, match=r"1 word is left of 2 \(min_count 1, max_words 1\).*; set max_words higher"):
        encode([["a", "b", "a"]], 1, 1)

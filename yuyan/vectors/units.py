"""From text to sentences of units, a line at a time.

A line is a sentence: nothing is near across its end. Chinese runs inside any text go through the jieba segmenter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import regex

from yuyan.errors import InputError
from yuyan.vectors.settings import CharacterUnits, SpacedUnits, Units

LONGEST = 10_000
"""Units of a sentence; a longer line is cut."""
_ASCII = re.compile(r"[A-Za-z0-9]+(?:['.,](?=[A-Za-z0-9])[A-Za-z0-9]+)*")
_ASCII_ALL = re.compile(_ASCII.pattern + r"|[^\sA-Za-z0-9]")
_KANA = r"\p{Hiragana}\p{Katakana}ー"  # the mark of a long vowel is of no script
_PLAIN = rf"[\p{{L}}\p{{M}}\p{{N}}--[\p{{Han}}{_KANA}]]"
_WORD = regex.compile(rf"{_PLAIN}+(?:['’.,](?={_PLAIN}){_PLAIN}+)*|\p{{Han}}+|[{_KANA}]+", regex.V1)
_WORD_ALL = regex.compile(_WORD.pattern + r"|\S", regex.V1)
_HAN = regex.compile(r"\p{Han}")
Cut = Callable[[str], list[str]]


def sentences(texts: Iterable[str], units: Units) -> Iterator[list[str]]:
    """The sentences of the texts, each a list of one to LONGEST units."""
    cut = cutter(units)
    for text in texts:
        for line in text.splitlines():
            found = cut(line)
            for start in range(0, len(found), LONGEST):
                yield found[start : start + LONGEST]


def cutter(units: Units) -> Cut:
    """What cuts a line into units. Raises InputError if Chinese words are met and the segmenter is missing."""
    if isinstance(units, SpacedUnits):
        return (lambda line: line.lower().split()) if units.lowercase else str.split
    if isinstance(units, CharacterUnits):
        return _characters_and_marks if units.punctuation else _characters
    words = _words(units.punctuation)
    return (lambda line: words(line.lower())) if units.lowercase else words


def _characters(line: str) -> list[str]:
    return [c for c in line if not c.isspace() and unicodedata.category(c)[0] not in "PCZ"]


def _characters_and_marks(line: str) -> list[str]:
    return [c for c in line if not c.isspace() and unicodedata.category(c)[0] not in "CZ"]


def _words(punctuation: bool) -> Cut:
    ascii_pattern, pattern = (_ASCII_ALL, _WORD_ALL) if punctuation else (_ASCII, _WORD)
    segment: list[Callable[[str], Sequence[str]]] = []

    def cut(line: str) -> list[str]:
        if line.isascii():
            return ascii_pattern.findall(line)
        found: list[str] = []
        for word in pattern.findall(line):
            if len(word) > 1 and _HAN.match(word):
                if not segment:
                    segment.append(_segmenter())
                found.extend(segment[0](word))
            else:
                found.append(word)
        return found

    return cut


def _segmenter() -> Callable[[str], Sequence[str]]:
    try:
        import rjieba
    except ImportError:
        raise InputError(
            "Chinese words need the library rjieba: pip install rjieba; or take characters: units.kind=characters"
        ) from None
    cut: Callable[[str], Sequence[str]] = rjieba.cut
    return cut

"""Cutting long texts into sections at the places where a reader would.

A section ends, in this order of preference, after a blank line, a line, a sentence, a word, or, when there is nothing
else, anywhere (a hard cut, counted). The sections of a text, joined, are exactly the text; where they are cut does not
depend on how the text arrived.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Place = Literal["blank line", "line end", "sentence end", "space", "hard cut", "end"]

_PLACES: tuple[tuple[Place, re.Pattern[str]], ...] = (
    ("blank line", re.compile(r"\r?\n(?:[ \t\u3000]*\r?\n)+")),
    ("line end", re.compile(r"\n|\r(?!\n)")),
    ("sentence end", re.compile(r"[。！？!?…；]+[”’」』）)\"']*|\.[\"')\]”’]*(?=\s)\s?")),
    ("space", re.compile(r"\s(?=\S)")),
)


class Section(NamedTuple):
    """A piece of a text and what it ends at."""

    text: str
    ends_at: Place


def cut(blocks: Iterable[str], size: int) -> Iterator[Section]:
    """Cut a stream of text into sections of about `size` characters, between half and one and a half of it.

    The last one may be shorter. At most `2 * size` characters and one block are held.
    """
    held, start = "", 0
    for block in blocks:
        held, start = held[start:] + block, 0
        while len(held) - start > 2 * size:
            at, place = _cut_point(held, start, size)
            yield Section(held[start:at], place)
            start = at
    while len(held) - start > 3 * size // 2:
        at, place = _cut_point(held, start, size)
        yield Section(held[start:at], place)
        start = at
    if start < len(held):
        yield Section(held[start:], "end")


def _cut_point(text: str, start: int, size: int) -> tuple[int, Place]:
    """The best place to end a section that begins at `start`: the one nearest to `size` of the best kind there is."""
    middle, low, high = start + size, start + max(1, size // 2), start + max(1, size * 3 // 2)
    for place, pattern in _PLACES:
        for reach in (size // 16, size):  # most often there is one close by
            first, last = max(low, middle - reach), min(high, middle + reach)
            found = (match.end() for match in pattern.finditer(text, first - 1, last))
            ends = [end for end in found if first <= end <= last and not _inside_character(text, end)]
            if ends:
                return min(ends, key=lambda end: abs(end - middle)), place
    at = start + size
    while at > low and _inside_character(text, at):
        at -= 1
    return at, "hard cut"


def _inside_character(text: str, at: int) -> bool:
    """Would a cut here part what is seen as one character (a letter and its accent, a joined emoji) or one line end?"""
    if at >= len(text):
        return False
    before, after = text[at - 1], text[at]
    if before == "\r" and after == "\n":
        return True
    return (
        before == "\u200d" or after == "\u200d" or bool(unicodedata.combining(after)) or "\ufe00" <= after <= "\ufe0f"
    )

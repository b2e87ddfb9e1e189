"""Which documents are text at all: rules about length, symbols and repetition.

The rules that judge by shares look only at documents long enough for a share to mean something; a short text (a poem, a
saying, a review of six words) is kept as long as it has a letter. The limits lie well beyond what prose, verse, plays,
reference tables and code examples reach; they catch dumps of numbers, tables without text, and text that repeats itself.

Source: the rules are of the family of Gopher (Rae 2021, appendix A); repetition is measured by how far the text
compresses, which needs no words and so is the same rule for every language.
"""

from __future__ import annotations

import zlib
from collections import Counter

from pydantic import Field

from yuyan.config import Config
from yuyan.text.characters import count_classes


class Quality(Config):
    """Rules that a document must meet."""

    shortest: int = Field(default=1, ge=0)
    """Fewest letters, digits and ideographs."""
    longest: int | None = Field(default=None, ge=1)
    """Most characters; null for no limit."""
    judged_from: int = Field(default=500, ge=1)
    """Only documents of at least so many characters are judged by the shares below."""
    letters: float = Field(default=0.3, ge=0, le=1)
    """Smallest share of letters and ideographs among what is not white space."""
    symbols: float = Field(default=0.35, ge=0, le=1)
    """Largest share of symbols (neither letters nor digits nor punctuation)."""
    repeated_lines: float = Field(default=0.5, ge=0, le=1)
    """Largest share of characters in lines that stood there before."""
    compressed: float = Field(default=0.12, ge=0, le=1)
    """Smallest size after compression, as a share: text that says the same again and again shrinks below it."""


def why_not(text: str, config: Quality) -> str | None:
    """The rule that `text` breaks, or None."""
    counts = count_classes(text)
    content = counts.letters + counts.ideographs + counts.digits
    if content < config.shortest:
        return "no words" if config.shortest <= 1 else f"fewer than {config.shortest} letters"
    if config.longest is not None and len(text) > config.longest:
        return f"more than {config.longest:,} characters"
    if len(text) < config.judged_from:
        return None
    visible = max(1, len(text) - counts.spaces)
    if counts.letters + counts.ideographs < config.letters * visible:
        return "few letters"
    if counts.symbols > config.symbols * visible:
        return "many symbols"
    if _repeated_lines(text) > config.repeated_lines:
        return "repeated lines"
    encoded = text.encode("utf-8", "replace")
    if len(zlib.compress(encoded, 1)) < config.compressed * len(encoded):
        return "repeats itself"
    return None


LIMITS = Quality()
GOOD = Quality(letters=0.75, symbols=0.03, repeated_lines=0.0, compressed=0.4)
"""What plain prose reaches, in English and in Chinese: from there on a signal says nothing more."""


def quality_score(text: str, judged_from: int = LIMITS.judged_from) -> float | None:
    """How far `text` is from the default limits of the rules: 0 at one of them, 1 where all signals are those of prose.

    It is the worst signal that counts. None for a text shorter than `judged_from`, of which shares say nothing.
    """
    if len(text) < judged_from:
        return None
    counts = count_classes(text)
    visible = max(1, len(text) - counts.spaces)
    encoded = text.encode("utf-8", "replace")
    return min(
        _between((counts.letters + counts.ideographs) / visible, LIMITS.letters, GOOD.letters),
        _between(counts.symbols / visible, LIMITS.symbols, GOOD.symbols),
        _between(_repeated_lines(text), LIMITS.repeated_lines, GOOD.repeated_lines),
        _between(len(zlib.compress(encoded, 1)) / len(encoded), LIMITS.compressed, GOOD.compressed),
    )


def _between(value: float, limit: float, good: float) -> float:
    """0 at the limit and beyond, 1 at what is good and beyond, on a straight line."""
    return min(1.0, max(0.0, (value - limit) / (good - limit)))


def _repeated_lines(text: str) -> float:
    """The share of characters in lines that equal an earlier line of the same text."""
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    if len(lines) < 2:
        return 0.0
    again = sum(len(line) * (count - 1) for line, count in Counter(lines).items() if count > 1)
    return again / sum(map(len, lines))

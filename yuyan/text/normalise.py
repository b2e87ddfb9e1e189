"""Unicode repair: characters that went wrong on the way are put right; whatever is right stays as it is.

Repaired: text decoded with the wrong encoding (`â€™`, and Chinese read as Latin-1), other line ends, control characters,
terminal escapes, letters split from their accents (NFC). Not touched: full-width punctuation, curly quotes, ligatures,
ideographic and no-break spaces, joiners in emoji, direction marks. Text without any fault is returned identical, and
most text is found to be so by two regular expressions.

Source: ftfy (Speer 2019); Unicode Standard Annex 15 for NFC.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from ftfy import fix_encoding, fixes
from ftfy.badness import is_bad
from pydantic import Field

from yuyan.config import Config
from yuyan.text.encoding import looks_chinese


class Unicode(Config):
    """Repair of characters that went wrong."""

    form: Literal["NFC", "none"] = "NFC"
    """Normal form: NFC joins letters and accents; none leaves them."""
    mojibake: bool = True
    """Put right text that was decoded with the wrong encoding, such as `â€™` for an apostrophe."""
    references: int = Field(default=3, ge=1)
    """Resolve numeric references of letters such as `&#35828;` in a text with at least so many of them."""


_FAULT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufff9-\ufffc\u206a-\u206f]")
_LINE_END = re.compile("\r\n?|[\x0c\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
_ESCAPE = re.compile("\x1b\\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]")
_SUSPECT = re.compile(
    "[\x80-\x9f]|[\xa0-\u200f\u2028-\u202f\u205f-\u2fff\ua000-\uabff\ue000-\ufeff][^\x00-\x7f]|[\xc2\xc3\xe2\xce\xcf\xd0\xd1] "
)
"""What every misreading of UTF-8 in a single-byte encoding holds: most text is passed by this search."""
_HIGH_LATIN = re.compile("[\x81-\xfe]")
_REFERENCE = re.compile("&#([1-9][0-9]{2,6});")


def repair_unicode(text: str, config: Unicode) -> tuple[str, tuple[str, ...]]:
    """`text` with its faults put right, and what they were; a text without any is returned as the same object."""
    faults: list[str] = []
    if config.mojibake and not text.isascii() and _SUSPECT.search(text):
        text = _noted(text, _repair_mojibake(text), "read in the wrong encoding", faults)
    if "&#" in text and len(_REFERENCE.findall(text)) >= config.references:
        text = _noted(text, _REFERENCE.sub(_resolved, text), "numeric references", faults)
    if _FAULT.search(text):
        text = _noted(text, _LINE_END.sub("\n", text), "line ends", faults)
        repaired = fixes.fix_c1_controls(_ESCAPE.sub("", text))
        text = _noted(text, _CONTROL.sub("", repaired), "control characters", faults)
    if config.form == "NFC" and not unicodedata.is_normalized("NFC", text):
        text = _noted(text, unicodedata.normalize("NFC", text), "letters apart from their accents", faults)
    return text, tuple(faults)


def _noted(before: str, after: str, fault: str, faults: list[str]) -> str:
    if after == before:
        return before
    faults.append(fault)
    return after


def _resolved(reference: re.Match[str]) -> str:
    """The letter that a numeric reference stands for; references of ASCII and of no letter stay as they are written."""
    code = int(reference[1])
    letter = chr(code) if 0x80 <= code <= 0x10FFFF else ""
    return letter if unicodedata.category(letter or " ")[0] in "LMNP" else reference[0]


def _repair_mojibake(text: str) -> str:
    high = len(_HIGH_LATIN.findall(text))
    if high >= 8 and high > 0.3 * len(text) and (chinese := _chinese_read_as_latin(text)) is not None:
        return chinese
    if not is_bad(text):
        return text
    lines = text.split("\n")  # and nowhere else: what other line ends are made of may be half of a character
    return "\n".join(str(fix_encoding(line)) if is_bad(line) else line for line in lines)


def _chinese_read_as_latin(text: str) -> str | None:
    """GB18030 bytes that were decoded as Latin-1 or Windows-1252, if that is what `text` is."""
    for wrong in ("latin-1", "cp1252"):
        try:
            right = text.encode(wrong).decode("gb18030")
        except UnicodeError:
            continue
        if looks_chinese(right):
            return right
    return None

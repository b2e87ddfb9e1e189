r"""How text is cut before it becomes tokens: no token crosses one of these cuts.

Every piece is short, whatever the text: runs of letters, of Chinese and Japanese characters (which are written without
spaces), of punctuation and of white space all have a longest length. So training and encoding are linear in time and
memory on a million letters without a space, and a long text can be encoded window by window with the same result.

The syntax is Oniguruma's (`&&` is intersection). The idea of cutting by a regular expression, with a space belonging to
the word after it, is GPT-2's (Radford et al. 2019, section 2.2).
"""

from __future__ import annotations

CJK = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
LONGEST = 256  # no piece of any pattern is longer, in characters

LOSSLESS = "|".join([
    r"['’](?i:s|t|re|ve|m|ll|d)(?!\p{L})",
    rf"[{CJK}]{{1,12}}",
    rf" ?[\p{{L}}\p{{M}}&&[^{CJK}]]{{1,48}}",
    r" ?\p{N}{1,2}",
    r" ?[^\s\p{L}\p{M}\p{N}]{1,16}",
    r"[^\S\r\n]{0,32}[\r\n]{1,8}",  # the end of a line, with the empty lines after it
    r"\s{1,32}(?!\S)",  # white space, but for the space that belongs to the next word
    r"\s",
])  # fmt: skip
"""Every character is in exactly one piece."""

WORDS = "|".join([
    rf"[{CJK}]",
    rf"[\p{{L}}\p{{M}}\p{{N}}_&&[^{CJK}]]{{1,64}}(?:['’]\p{{L}}{{1,8}})?",
    r"[^\s\p{L}\p{M}\p{N}_]",
])  # fmt: skip
"""Words, single punctuation marks, single Chinese characters; white space is left out."""

SPACES = rf"\S{{1,{LONGEST}}}"
"""Whatever stands between white space: for text that somebody has already cut into words."""

BLOCKS = r"[\s\S]{1,64}"
"""Blocks for characters, which need no cuts."""

ALL = (LOSSLESS, WORDS, SPACES, BLOCKS)

TIDY = (
    rf"^ (?=[{CJK}\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\u2026])"  # no space before Chinese writing
    r"|^ (?=[.,!?;:%)\]}]$)"
)
"""The space between two words that nobody writes; for decoding tokens that do not keep their spaces."""

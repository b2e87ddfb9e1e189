"""A sample of a corpus that fits in memory: of any stream of texts, so many bytes, the same for the same seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from yuyan.errors import DataError

PART = 1 << 16  # characters; a longer text is sampled in parts, so that one large book is not all or nothing


class Sample(NamedTuple):
    """`texts` in the order of the stream; how much of it that is, in texts and UTF-8 bytes."""

    texts: list[str]
    documents_seen: int
    bytes_seen: int
    bytes_used: int


def sample_texts(texts: Iterable[str], limit: int, seed: int) -> Sample:
    """Keep parts of `texts` of together at most `limit` UTF-8 bytes, each with the same chance.

    Every part draws a random priority; while the kept ones are too many, the part of the highest priority goes, and no
    later one of higher priority comes in. Raises DataError for a lone surrogate.
    """
    draw = random.Random(seed).random
    kept: list[tuple[float, int, int, str]] = []  # (minus priority, number, bytes, text): the highest priority is first
    bar, used, seen, documents, number = 1.0, 0, 0, 0, 0
    for text in texts:
        documents += 1
        for part in _parts(text):
            size = _utf8_length(part, documents)
            seen += size
            number += 1
            priority = draw()
            if priority >= bar:
                continue
            heapq.heappush(kept, (-priority, number, size, part))
            used += size
            while used > limit and len(kept) > 1:
                minus, _, size, _ = heapq.heappop(kept)
                bar, used = -minus, used - size
    return Sample([part for _, part in sorted((n, part) for _, n, _, part in kept)], documents, seen, used)


def _parts(text: str) -> Iterator[str]:
    """Cut a long text behind white space, or anywhere where there is none."""
    begin = 0
    while len(text) - begin > PART:
        end = begin + PART
        cut = max(text.rfind(" ", begin + PART // 2, end), text.rfind("\n", begin + PART // 2, end))
        cut = end if cut < 0 else cut
        yield text[begin:cut]
        begin = cut
    yield text[begin:]


def _utf8_length(text: str, document: int) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise DataError(
            f"document {document}: a lone surrogate (U+{ord(text[error.start]):04X}), which no UTF-8 file can hold"
        ) from None

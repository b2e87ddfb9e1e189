"""A sample of a corpus that fits in memory: of any stream of texts, so many bytes, the same for the same seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from yuyan.tokens.tokenizer import lone_surrogate

PART = 1 << 16  # characters; a longer text is sampled in parts, so that one large book is not all or nothing


class Sample(NamedTuple):
    """`texts` in the order of the stream; how much of it that is, in texts and UTF-8 bytes."""

    texts: list[str]
    documents_seen: int
    bytes_seen: int
    bytes_used: int


def sample_texts(texts: Iterable[str], limit: int, seed: int, *, dense: int = 1) -> Sample:
    """Keep parts of `texts` of together at most `limit` UTF-8 bytes, each with the same chance.

    Bytes of three-byte characters, most of whose scripts are written without spaces, count `dense` times. Every part draws
    a random priority; while the kept ones are too many, the part of the highest priority goes, and no later one of higher
    priority comes in. Raises DataError for a lone surrogate.
    """
    draw = random.Random(seed).random
    kept: list[tuple[float, int, _Part]] = []  # minus the priority, number, part: the highest priority is first
    bar, weight, seen, documents, number = 1.0, 0, 0, 0, 0
    for text in texts:
        documents += 1
        for part in _parts(text, documents, dense):
            seen += part.bytes
            number += 1
            priority = draw()
            if priority >= bar:
                continue
            heapq.heappush(kept, (-priority, number, part))
            weight += part.weight
            while weight > limit and len(kept) > 1:
                minus, _, gone = heapq.heappop(kept)
                bar, weight = -minus, weight - gone.weight
    parts = [part for _, part in sorted((number, part) for _, number, part in kept)]
    return Sample([part.text for part in parts], documents, seen, sum(part.bytes for part in parts))


class _Part(NamedTuple):
    text: str
    bytes: int
    weight: int


def _parts(text: str, document: int, dense: int) -> Iterator[_Part]:
    """Cut a long text before white space, or anywhere where there is none."""
    begin = 0
    while len(text) - begin > PART:
        end = begin + PART
        cut = max(text.rfind(" ", begin + PART // 2, end), text.rfind("\n", begin + PART // 2, end))
        cut = end if cut < 0 else cut
        yield _weighed(text[begin:cut], document, dense)
        begin = cut
    yield _weighed(text[begin:], document, dense)


def _weighed(text: str, document: int, dense: int) -> _Part:
    if text.isascii():
        return _Part(text, len(text), len(text))
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise lone_surrogate(f"document {document}", error) from None
    first = np.frombuffer(encoded, np.uint8)
    three = 3 * int(np.count_nonzero((first >= 0xE0) & (first < 0xF0)))
    return _Part(text, len(encoded), len(encoded) + (dense - 1) * three)

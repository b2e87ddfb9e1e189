"""A context in tokens: which characters each of them stands for, windows of it, and the best spans in one.

C tokens of a context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from yuyan.console import warn
from yuyan.errors import DataError
from yuyan.tasks.question_text import NOWHERE, Given
from yuyan.tokens import Tokenizer


class Read(NamedTuple):
    """A context in tokens: their ids (C,), and the characters that each stands for, (C,) and (C,)."""

    ids: list[int]
    starts: np.ndarray
    ends: np.ndarray


def read_contexts(tokenizer: Tokenizer, contexts: Sequence[str]) -> dict[str, Read]:
    """Each different one, encoded once."""
    texts = list(dict.fromkeys(contexts))
    found = {}
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        places = tokenizer.offsets(text)
        assert len(places) == len(ids), "offsets are of the tokens that encode gives"
        found[text] = Read(ids, *_characters_of(places, text))
    return found


def windows_of(count: int, room: int | None, overlap: int | None, where: str) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of the windows of `count` tokens, each of at most `room`, neighbours with `overlap` in common (by
    default a third). Raises DataError where that leaves no room to go on.
    """
    if room is None or count <= room:
        yield 0, count
        return
    shared = max(0, room // 3) if overlap is None else overlap
    if shared >= room:
        raise DataError(
            f"{where}: beside the question there is room for {max(0, room)} tokens of its context, and {shared} of them are "
            "to be shared by two windows: train with a longer train.context"
            + ("" if overlap is None else ", or a smaller task.overlap")
        )
    start = 0
    while start + room < count:
        yield start, start + room
        start += room - shared
    yield start, count


def _characters_of(places: Sequence[tuple[int, int]], text: str) -> tuple[np.ndarray, np.ndarray]:
    """First characters of tokens and the ends of them, without white space; of one that is nothing else both are its end."""
    starts, ends = np.array(places, np.int64).reshape(-1, 2).T
    solid = np.array([not each.isspace() for each in text])
    numbers = np.arange(len(text))
    ahead = np.minimum.accumulate(np.where(solid, numbers, len(text))[::-1])[::-1]
    behind = np.maximum.accumulate(np.where(solid, numbers + 1, 0))
    first = np.minimum(np.append(ahead, len(text))[starts], ends)
    return first, np.where(first < ends, np.maximum(np.append(0, behind)[ends], first), ends)


def tokens_of(context: Read, answers: Sequence[Given]) -> tuple[Given, tuple[int, int] | None]:
    """The first answer that stands in the context, and its first and last token."""
    given = next((each for each in answers if each.start != NOWHERE), answers[0])
    inside = (context.ends > given.start) & (context.starts < given.start + len(given.text))
    tokens = np.flatnonzero(inside & (context.ends > context.starts))
    return given, (int(tokens[0]), int(tokens[-1])) if len(tokens) and given.start != NOWHERE else None


def best_spans(begin: np.ndarray, stop: np.ndarray, until: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The pairs i <= j < until[i] with the highest begin[i] + stop[j], best first; (C,) each, -inf where it may not be."""
    width = int((until - np.arange(len(begin))).max(initial=0))
    if width < 1:
        return []
    behind = np.lib.stride_tricks.sliding_window_view(np.append(stop, np.full(width - 1, -np.inf)), width)
    short = np.arange(width) < (until - np.arange(len(begin)))[:, None]
    sums = np.where(short, begin[:, None] + behind, -np.inf).ravel()
    order = np.argsort(-sums, kind="stable")[:count] if len(sums) <= count else _highest(sums, count)
    return [(int(n) // width, int(n) // width + int(n) % width) for n in order if sums[n] > -np.inf]


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    some = np.argpartition(-values, count)[:count]
    return some[np.lexsort((some, -values[some]))]


def say_unlearned(lost: Sequence[str], cut: Sequence[str]) -> None:
    """Places of questions that are left out, and of those that are learned with a longer answer."""
    if lost:
        warn(f"{lost[0]}: {len(lost):,} questions are not learned, because their answer does not stand in the context, or "
             "whole in no window of it; this is the first")  # fmt: skip
    if cut:
        warn(
            f"{cut[0]}: {len(cut):,} answers begin or end inside a token: all of the token is learned; this is the first"
        )

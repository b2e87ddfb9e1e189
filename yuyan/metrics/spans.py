"""Spans in sequences of tags, and what found spans are worth: precision, recall, F1, over all and by type.

Schemes: IOB1 (a span begins with I, with B only right after another of its type), BIO (IOB2: every span begins with B),
BIOES (S is a span of one word, E ends a longer one; also written BILOU). A found span is right if beginning, end and type
are; the rules by which a sequence that breaks its scheme is read are those of conlleval (Tjong Kim Sang & Buchholz 2000)
and seqeval. Tags are `B-NP`, `O`; words count from 0, ends are exclusive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from yuyan.metrics.interval import ratio_interval
from yuyan.metrics.score import NONE, Scores, Value

Scheme = Literal["iob1", "bio", "bioes", "none"]
OUTSIDE = "O"
_LETTERS = {"L": "E", "U": "S"}  # BILOU's names


class Span(NamedTuple):
    """Words `start` to `end`, which is exclusive."""

    type: str
    start: int
    end: int


def parted(tag: str) -> tuple[str, str]:
    """The letter of a tag and its type."""
    letter, _, kind = tag.partition("-")
    return _LETTERS.get(letter, letter), kind


def is_tag(tag: str) -> bool:
    """Whether it is a tag of spans: O, or a letter, a hyphen and a type."""
    return tag == OUTSIDE or (tag[1:2] == "-" and tag[0] in "BIESLU" and len(tag) > 2)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of one sentence, whatever the scheme, read as conlleval does."""
    found: list[Span] = []
    letter, kind, start = OUTSIDE, "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        now, type_ = parted(tag)
        if _ends(letter, kind, now, type_):
            found.append(Span(kind, start, place))
        if _begins(letter, kind, now, type_):
            start = place
        letter, kind = now, type_
    return found


def _ends(before: str, kind: str, now: str, type_: str) -> bool:
    """Whether a span ends between two words."""
    if before == OUTSIDE:
        return False
    return before in "ES" or now in "BSO" or kind != type_


def _begins(before: str, kind: str, now: str, type_: str) -> bool:
    """Whether a span begins at the second of two words."""
    if now == OUTSIDE:
        return False
    return now in "BS" or before in "ESO" or kind != type_


def scheme_of(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of some sentences; `none` if more than a tenth of their tags are none of spans (parts of speech)."""
    letters: Counter[str] = Counter()
    inside, others = False, 0
    for tags in sentences:
        for place, tag in enumerate(tags):
            if not is_tag(tag):
                others += 1
                continue
            letter, kind = parted(tag)
            letters[letter] += 1
            before, kind_before = parted(tags[place - 1]) if place else (OUTSIDE, "")
            inside |= letter == "I" and (before == OUTSIDE or kind_before != kind)
    if 10 * others > letters.total() + others:
        return "none"
    if letters["E"] or letters["S"]:
        return "bioes"
    if inside and letters["B"] <= letters["I"] // 4:
        return "iob1"
    return "bio" if letters["B"] or letters["I"] else "none"


def written(spans: Iterable[Span], length: int) -> list[str]:
    """Spans as BIO tags of a sentence of so many words."""
    tags = [OUTSIDE] * length
    for span in spans:
        tags[span.start : span.end] = [f"B-{span.type}", *[f"I-{span.type}"] * (span.end - span.start - 1)]
    return tags


def stray(tags: Sequence[str], scheme: Scheme) -> int | None:
    """The first word whose tag breaks the scheme: a span that starts inside, or with BIOES does not end."""
    for place, tag in enumerate(tags):
        letter, kind = parted(tag)
        before, kind_before = parted(tags[place - 1]) if place else (OUTSIDE, "")
        goes_on = before in "BI" and kind_before == kind
        if scheme != "iob1" and letter in "IE" and not goes_on:
            return place
        if scheme == "bioes" and before in "BI" and not (letter in "IE" and kind == kind_before):
            return place - 1
    if scheme == "bioes" and tags and parted(tags[-1])[0] in "BI":
        return len(tags) - 1
    return None


def score_spans(truths: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], draws: int) -> Scores:
    """Of the tags of every sentence."""
    right, found, there = Counter[str](), Counter[str](), Counter[str]()
    counts = np.zeros((len(truths), 3))
    words = same = 0
    for number, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        wanted, got = set(spans_of(truth)), set(spans_of(answer))
        both = wanted & got
        counts[number] = len(both), len(got), len(wanted)
        for counter, spans in ((right, both), (found, got), (there, wanted)):
            counter.update(span.type for span in spans)
        words += len(truth)
        same += sum(a == b for a, b in zip(truth, answer, strict=True))
    hits, answered, wanted_counts = counts.T
    pairs = {
        "span_f1": (2 * hits, answered + wanted_counts), "span_precision": (hits, answered),
        "span_recall": (hits, wanted_counts),
    }  # fmt: skip
    empty = float(not found and not there)  # 1 where there was nothing to find and nothing was found
    values = {
        name: Value(_share(top, bottom, empty), ratio_interval(top, bottom, draws=draws) if draws else NONE)
        for name, (top, bottom) in pairs.items()
    }
    values["word_accuracy"] = Value(same / max(1, words))
    by_type = {name: _of_type(right[name], found[name], there[name]) for name in sorted(found.keys() | there.keys())}
    each = tuple((2 * float(h), float(a + w)) for h, a, w in counts)
    return Scores(values, int(wanted_counts.sum()), by_type, each=each, unit="spans")


def score_words(truths: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], draws: int) -> Scores:
    """Of tags that are no spans: the share of words with the right one."""
    counts = np.array(
        [(sum(a == b for a, b in zip(t, p, strict=True)), len(t)) for t, p in zip(truths, answers, strict=True)], float
    )
    pairs = [(a, b) for t, p in zip(truths, answers, strict=True) for a, b in zip(t, p, strict=True)]
    right, there = Counter(a for a, b in pairs if a == b), Counter(a for a, _ in pairs)
    found = Counter(b for _, b in pairs)
    interval = ratio_interval(counts[:, 0], counts[:, 1], draws=draws) if draws else NONE
    by_tag = {name: _of_type(right[name], found[name], there[name]) for name in sorted(there.keys() | found.keys())}
    values = {"word_accuracy": Value(_share(counts[:, 0], counts[:, 1], 1.0), interval)}
    values["f1_macro"] = Value(float(np.mean([row["f1"] for row in by_tag.values()])))
    return Scores(values, len(pairs), by_tag, each=tuple((float(a), float(b)) for a, b in counts), unit="words")


def _share(top: np.ndarray, bottom: np.ndarray, empty: float) -> float:
    """The ratio of two sums; `empty` where there is nothing to divide by."""
    return float(top.sum() / bottom.sum()) if bottom.sum() else empty


def _of_type(right: int, found: int, there: int) -> dict[str, float]:
    return {
        "precision": right / found if found else 0.0, "recall": right / there if there else 0.0,
        "f1": 2 * right / (found + there) if found + there else 0.0, "count": float(there),
    }  # fmt: skip

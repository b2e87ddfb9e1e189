"""Filling gaps in a text: with a masked encoder (BERT) one token a gap, with T5 as many tokens as the model wants.

An encoder reads the text with its mask in every gap. The candidates of each gap are those of this one reading; the text
is filled gap by gap, the most certain one first, and read again after each. T5 reads a sentinel in every gap and writes
each sentinel with what belongs in its place (Raffel et al. 2020, section 3.1.4).

S tokens of the text with its gaps, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from yuyan.errors import InputError
from yuyan.generate import Greedy
from yuyan.generate.engine import Engine, Request
from yuyan.generate.forward import PlainForward
from yuyan.generate.search import Token
from yuyan.generate.strategy import Settings
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.nn.device import device_of
from yuyan.nn.head import LanguageModelHead, MaskedHead
from yuyan.tasks.writing import start_of
from yuyan.tokens import Tokenizer

GAP = "___"


class Filled(NamedTuple):
    """A text without its gaps."""

    text: str
    gaps: list[str]
    """What stands in each gap."""
    candidates: list[list[tuple[str, float]]]
    """For each gap the likeliest tokens and their probabilities; empty where a gap holds any number of tokens."""


def fill(
    network: NetworkModule | NGram, tokenizer: Tokenizer, text: str, *, gap: str = GAP, top: int = 5,
    settings: Settings | None = None, start: int | None = None,
) -> Filled:  # fmt: skip
    """Fill every `gap` in `text`; `settings` say how T5 writes, `start` what its decoder begins with.

    Raises InputError for a text without a gap, for a model that cannot fill one, and for settings of an encoder.
    """
    if not gap or gap not in text:
        raise InputError(f"the text has no gap; write {gap or GAP!r} where something is missing")
    if top < 1:
        raise InputError(f"top: {top}; at least one candidate")
    parts = _parts(tokenizer, text.split(gap))
    if isinstance(network, NGram) or network.encoder is None:
        raise InputError("this model fills no gaps: it reads from left to right only; use generate")
    if not isinstance(network.config.head, MaskedHead | LanguageModelHead):
        raise InputError("this model fills no gaps: it has no scores of tokens; use logits, hidden or embed")
    if settings is not None and settings.constraint is not None:
        raise InputError("constraint: gaps are filled with what fits the text, and obey no grammar; leave it out")
    if network.decoder is not None:
        return _write_spans(network, tokenizer, parts, settings or Greedy(), start)
    if settings is not None:
        raise InputError("an encoder puts the likeliest token in each gap, and has no strategy to set; leave it out")
    if tokenizer.special.mask is None:
        raise InputError("this model fills no gaps: its tokenizer has no mask")
    return _unmask(network, tokenizer, parts, tokenizer.special.mask, top)


def _parts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of what stands around the gaps. Where a word carries the space before it, a gap does so too."""
    carried = any(len(piece) > 1 and piece.startswith(b" ") for piece in tokenizer.pieces.later)
    last = len(texts) - 1
    cut = [text[:-1] if carried and text.endswith(" ") and i < last else text for i, text in enumerate(texts)]
    return tokenizer.encode_batch(cut)


@torch.no_grad()
def _unmask(network: NetworkModule, tokenizer: Tokenizer, parts: list[list[int]], mask: int, top: int) -> Filled:
    first, last = tokenizer.frame
    ids = [*first, *parts[0]]
    places = []
    for part in parts[1:]:
        places.append(len(ids))
        ids += [mask, *part]
    ids += last
    hidden_away = sorted(i for i in tokenizer.special.control if i < network.config.vocab_size)

    def read() -> torch.Tensor:
        scores = network.score(network.encode(torch.tensor([ids], device=device_of(network))))[
            0, places, : len(tokenizer)
        ].float()
        scores[:, hidden_away] = float("-inf")
        return scores.softmax(-1)

    probabilities = read()
    best = probabilities.topk(min(top, probabilities.shape[-1]))
    candidates = [
        [(tokenizer.pieces.later[i].decode("utf-8", "replace"), p) for i, p in zip(row, values, strict=True)]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    left = list(range(len(places)))
    while left:
        number = max(left, key=lambda gap: float(probabilities[gap].max()))
        ids[places[number]] = int(probabilities[number].argmax())
        left.remove(number)
        probabilities = read() if left else probabilities
    chosen = [tokenizer.pieces.later[ids[place]].decode("utf-8", "replace") for place in places]
    return Filled(tokenizer.decode(ids[len(first) : len(ids) - len(last)]), chosen, candidates)


def _write_spans(
    network: NetworkModule, tokenizer: Tokenizer, parts: list[list[int]], settings: Settings, start: int | None
) -> Filled:
    special, gaps = tokenizer.special, len(parts) - 1
    if gaps > len(special.sentinels):
        raise InputError(f"the text has {gaps} gaps, and the tokenizer {len(special.sentinels)} sentinels for them")
    first, last = tokenizer.frame
    source = [*first, *parts[0]]
    for sentinel, part in zip(special.sentinels, parts[1:], strict=False):
        source += [sentinel, *part]
    ends = {i for i in (special.eos, special.bos, special.pad, *special.sentinels[gaps : gaps + 1]) if i is not None}
    engine = Engine(PlainForward(network), tokenizer, ends=frozenset(ends), context=None)
    engine.add(Request([start_of(tokenizer, start)], settings, [*source, *last]))
    written = [event.id for event in engine.run() if isinstance(event, Token) and event.sample == 0]
    spans = _spans(written, special.sentinels[:gaps])
    whole = [*parts[0]]
    for span, part in zip(spans, parts[1:], strict=True):
        whole += [*span, *part]
    texts = [b"".join(tokenizer.pieces.later[i] for i in span).decode("utf-8", "replace") for span in spans]
    return Filled(tokenizer.decode(whole), texts, [[] for _ in spans])


def _spans(written: Sequence[int], sentinels: Sequence[int]) -> list[list[int]]:
    """What stands behind each sentinel; nothing for one that was not written, and the first place counts."""
    spans: dict[int, list[int]] = {}
    current: list[int] | None = None
    for token in written:
        if token in sentinels:
            current = None if token in spans else spans.setdefault(token, [])
        elif current is not None:
            current.append(token)
    return [spans.get(sentinel, []) for sentinel in sentinels]

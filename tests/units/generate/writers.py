"""Tiny models that write, and the engine that runs them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from contracts.sides import ALL, VOCABULARY, strong

from yuyan.generate import Done, Engine, PlainForward, Request, Token
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig

PAIRS = ("t5", "transformer", "bahdanau", "luong", "sutskever")
ENDS = frozenset({5, 9})


@cache
def tokenizer(size: int = VOCABULARY) -> Tokenizer:
    text = "".join(chr(97 + i) if i < 26 else chr(0x4E00 + i) for i in range(size - 4))
    made = train_tokenizer([text], CharConfig(vocab_size=size))
    assert len(made) == size
    return made


@cache
def model(name: str) -> Any:
    if name == "ngram":
        ids = np.random.default_rng(0).integers(4, 20, 500)
        return NGram.fit(ids, np.array([0, 300, 500]), order=3, vocab_size=VOCABULARY, bos=1, eos=2)
    return strong(ALL[name])


class Text(NamedTuple):
    """What came back."""

    ids: list[int]
    text: str
    done: Done | None
    tokens: list[Token]


def request(name: str, ids: Sequence[int], settings: Any, **more: Any) -> Request:
    """A prompt for a decoder, a source for an encoder."""
    return Request([1], settings, source=ids, **more) if name in PAIRS else Request(ids, settings, **more)


def engine_of(network: Any, *, context: int | None = 40, size: int = VOCABULARY, **more: Any) -> Engine:
    return Engine(PlainForward(network, **more), tokenizer(size), ends=ENDS, context=context)


def run(engine: Engine, requests: Sequence[Request]) -> list[list[Text]]:
    """The texts of each request, all in one batch."""
    numbers = [engine.add(request) for request in requests]
    found: dict[int, dict[int, Text]] = {number: {} for number in numbers}
    for event in engine.run():
        texts = found[event.request]
        text = texts.setdefault(event.sample, Text([], "", None, []))
        assert text.done is None, "nothing comes after the end"
        if isinstance(event, Token):
            text.ids.append(event.id)
            text.tokens.append(event)
        done = event if isinstance(event, Done) else None
        texts[event.sample] = text._replace(text=text.text + event.text, done=done)
    assert all(text.done is not None for texts in found.values() for text in texts.values())
    return [[texts[sample] for sample in sorted(texts)] for texts in found.values()]


def network(name: str) -> NetworkModule:
    made = model(name)
    assert isinstance(made, NetworkModule)
    return made

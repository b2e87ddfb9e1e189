"""How a model of a folder writes: what its prompt becomes, which tokens end a text, and what comes back.

Used by `LanguageModel` for Python, the command line and samples while training, so that all give the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from yuyan.errors import InputError
from yuyan.generate import Beam, Contrastive, Done, Engine, Event, Greedy, PlainForward, Request, Sampling, Token
from yuyan.generate.forward import Forward
from yuyan.generate.grammar import Grammars
from yuyan.generate.guess import DraftGuesser, LookupGuesser
from yuyan.generate.prefixes import Prefixes
from yuyan.generate.rules import Constraint
from yuyan.generate.search import Alternative, Guesser, Reason
from yuyan.generate.speculation import DraftModel
from yuyan.generate.strategy import Settings, decoding
from yuyan.models.network import Network, NetworkModule
from yuyan.models.ngram import NGram
from yuyan.nn.head import WORDS, LabelHead
from yuyan.nn.stack import Stack
from yuyan.tokens import Tokenizer

if TYPE_CHECKING:
    from yuyan.generate.packed import PackedDecoder

SHAPES = {"schema": "json_schema", "regex": "regex", "grammar": "grammar"}
"""The names by which Python gives a constraint, and its kinds."""


class Completion(NamedTuple):
    """A text that was written."""

    text: str
    ids: list[int]
    """Its tokens, without an end mark; the last ones may belong to a stop string that is not in the text."""
    reason: Reason
    """Why it ended: `stop` at an end mark or a stop string, `length`, or `forbidden` if the rules left no token."""
    stop: str | None = None
    """The stop string that ended it."""
    score: float | None = None
    """What several texts of one request are ordered by."""
    logprobs: list[float] | None = None
    """The model's log-probability of each token, where asked for."""
    top: list[tuple[Alternative, ...]] | None = None
    """The likeliest tokens at each place, (id, log-probability), where asked for."""
    valid: bool | None = None
    """Whether the text obeys its constraint; None without one."""

    @property
    def unfinished(self) -> str | None:
        """Why the text does not obey its constraint; None if it does, or has none."""
        return None if self.valid is not False else why_unfinished(self.reason, len(self.ids))


class Writer:
    """A network that continues texts. `start` is what a decoder with an encoder begins with, `ends` what ends a text.

    Raises InputError for a network that cannot write.
    """

    def __init__(
        self, network: NetworkModule | NGram, tokenizer: Tokenizer, context: int | None, *,
        start: int | None = None, prefixes: Prefixes | None = None, grammars: Grammars | None = None,
        ends: frozenset[int] | None = None,
        packed: PackedDecoder | None = None,
    ):  # fmt: skip
        self.network, self.tokenizer, self.prefixes = network, tokenizer, prefixes
        self.start = start_of(tokenizer, start)
        self.packed = packed
        self.reads = isinstance(network, NetworkModule) and network.encoder is not None
        if isinstance(network, NetworkModule) and (why := why_silent(network.config)):
            raise InputError(f"this model writes no text: {why}; use logits, hidden or embed")
        self.stack = isinstance(network, NetworkModule) and isinstance(network.config.decoder, Stack)
        carries = isinstance(network, NetworkModule) and not self.stack
        self.context = None if carries else context  # a network that carries a state reads any number of tokens
        self.ends = ends_of(tokenizer) if ends is None else ends
        self.grammars = grammars or Grammars(tokenizer, self.ends)

    def engine(self) -> Engine:
        """A new engine, without requests."""
        return Engine(self._forward(), self.tokenizer, ends=self.ends, context=self.context)

    def _forward(self) -> Forward:
        if self.packed is not None:
            from yuyan.generate.fast import FastForward

            return FastForward(self.packed, self.prefixes)
        device = "cpu" if isinstance(self.network, NGram) else self.network.embedding.token.weight.device
        return PlainForward(self.network, self.prefixes, device)

    def request(self, prompt: str, settings: Settings, draft: Writer | None = None) -> Request:
        """What is asked of the engine. With an encoder, `prompt` is the text that it reads. Raises InputError."""
        special, ids = self.tokenizer.special, self.tokenizer.encode(prompt)
        source = None
        if self.reads:
            first, last = self.tokenizer.frame
            source = [*first, *ids, *last]
            ids = [self.start]
        else:
            mark = [] if special.bos is None else [special.bos]
            # what was counted are documents behind the mark, whatever a tokenizer's file tells other programs
            begin = mark if isinstance(self.network, NGram) else self.tokenizer.begin
            ids = [*begin, *ids] or mark
        return self.requested(ids, settings, source=source, draft=draft)

    def requested(
        self, ids: Sequence[int], settings: Settings, *, source: list[int] | None = None, draft: Writer | None = None
    ) -> Request:
        """The same for tokens that the decoder reads as they are. Raises InputError."""
        if isinstance(settings, Contrastive) and isinstance(self.network, NGram):
            raise InputError(
                "contrastive search compares hidden states, and an n-gram model has none; use kind=sampling"
            )
        return Request(ids, settings, source, self._constraint(settings), self._guesser(settings, draft))

    def _constraint(self, settings: Settings) -> Constraint | None:
        if settings.constraint is None:
            return None
        if settings.stop:
            raise InputError("stop: a text that must obey a constraint ends where that says; leave one of the two out")
        return self.grammars.constraint(settings.constraint)

    def _guesser(self, settings: Settings, draft: Writer | None) -> Guesser | None:
        if not isinstance(settings, Greedy | Sampling) or settings.speculation is None:
            return None
        if not self.stack:
            raise InputError(
                "speculation checks many tokens in one pass, which needs a decoder of attention layers; leave it out"
            )
        if not isinstance(settings.speculation, DraftModel):
            return LookupGuesser(settings.speculation)
        assert draft is not None
        if self.reads or draft.reads:
            raise InputError("speculation: a draft continues a text, so neither model may have an encoder")
        if draft.tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise InputError(f"{settings.speculation.path}: the draft has another tokenizer; both need the same tokens")
        return DraftGuesser(draft.network, settings.speculation.tokens, draft.context, len(self.tokenizer))


def start_of(tokenizer: Tokenizer, said: int | None) -> int:
    """What a decoder with an encoder begins with: what its folder says, else what its tokenizer has for it."""
    return next(i for i in (said, tokenizer.special.start, 0) if i is not None)


def ends_of(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end a text."""
    special = tokenizer.special
    return frozenset(i for i in (special.eos, special.bos, special.pad) if i is not None)


def why_unfinished(reason: Reason, tokens: int) -> str:
    """What to say of a text that does not obey its constraint."""
    if reason == "length":
        return f"the text ended after {tokens} tokens, before it obeyed its constraint; allow more (max_tokens)"
    return (
        f"the text ended after {tokens} tokens, before it obeyed its constraint: the rules, or the tokens of this model, "
        "left nothing that could follow"
    )


def why_silent(network: Network) -> str | None:
    """Why a network cannot continue a text; None if it can."""
    if network.decoder is None:
        return "it has an encoder only"
    if isinstance(network.head, WORDS):
        return None
    return "it scores labels" if isinstance(network.head, LabelHead) else "it has no scores of tokens"


def settings_of(settings: Settings | None, changes: Mapping[str, object], *, one: bool = False) -> Settings:
    """`settings` with some keys changed; another `kind` begins from its defaults. Raises ConfigError, InputError.

    `schema`, `regex` or `grammar` is what the text must obey. With `one`, only settings that give one text.
    """
    chosen = settings or Sampling()
    changes = with_shape(changes)
    if changes:
        kept = chosen.model_dump(mode="json") if changes.get("kind", chosen.kind) == chosen.kind else {}
        chosen = decoding({**kept, **changes})
    if one and texts_of(chosen) > 1:
        raise InputError(f"n: one text is given here, not {texts_of(chosen)}; use complete")
    return chosen


def with_shape(values: Mapping[str, object]) -> dict[str, object]:
    """Plain settings, in which `schema`, `regex` or `grammar` has become their constraint. Raises InputError."""
    given = {name: values[name] for name in SHAPES if values.get(name) is not None}
    rest = {key: value for key, value in values.items() if key not in SHAPES}
    if not given:
        return rest
    if len(given) > 1 or rest.get("constraint") is not None:
        raise InputError(f"{', '.join(given)}: a text obeys one constraint; give only one")
    ((name, content),) = given.items()
    if content == "":
        raise InputError(f"{name}: it is empty; leave it out for a text that may be anything")
    return {**rest, "constraint": {"kind": SHAPES[name], "content": content}}


def texts_of(settings: Settings) -> int:
    """How many texts a request gives."""
    return settings.n if isinstance(settings, Sampling | Beam) else 1


def completions(engine: Engine, requests: Iterable[Request], batch: int) -> Iterator[tuple[int, list[Completion]]]:
    """The texts of each request, as they are finished, with its place; at most `batch` are under way at once."""
    waiting = enumerate(requests)
    places: dict[int, int] = {}
    events: dict[int, list[Event]] = {}
    while True:
        while len(places) < batch and (following := next(waiting, None)) is not None:
            number = engine.add(following[1])
            places[number], events[number] = following[0], []
        if not places:
            return
        for event in engine.step():
            events[event.request].append(event)
        for number in [n for n in places if not engine.holds(n)]:
            yield places.pop(number), gathered(events.pop(number))


def gathered(events: Sequence[Event]) -> list[Completion]:
    """The texts that the events of one request tell of, in their order."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        text = found.setdefault(event.sample, {"text": "", "ids": [], "reason": "length", "logprobs": [], "top": []})
        text["text"] += event.text
        if isinstance(event, Done):
            text |= {"reason": event.reason, "stop": event.stop, "score": event.score, "valid": event.valid}
        else:
            assert isinstance(event, Token)
            text["ids"].append(event.id)
            if event.logprob is not None:
                text["logprobs"].append(event.logprob)
                text["top"].append(event.top)
    for text in found.values():
        if len(text["logprobs"]) < len(text["ids"]) or not text["ids"]:
            text |= {"logprobs": None, "top": None}
    return [Completion(**found[sample]) for sample in sorted(found)]

"""Whether another engine computes what the model computes: the same texts through both, and what differs.

The texts are the model's own, so no data are needed: a few tokens by chance, continued by sampling. A model that writes
also continues each beginning greedily, in both engines.

T tokens, S tokens of a source, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch

from yuyan.generate import Greedy, Request, Sampling
from yuyan.models.network import NetworkModule
from yuyan.nn.head import LabelHead, LanguageModelHead, MaskedHead
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import completions

CASES, BEGINNING, LENGTH, GREEDY = 16, 4, 24, 16
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""How far scores may be apart, as a share of the largest score."""
PERPLEXITY_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}


class Case(NamedTuple):
    """A text: what the decoder reads (or the encoder, if there is no decoder), and what the encoder reads."""

    ids: list[int]
    source: list[int] | None = None

    @property
    def beginning(self) -> list[int]:
        """What a greedy continuation begins with."""
        return self.ids[: 1 if self.source is not None else BEGINNING]


Gives = Literal["scores", "log_probs", "token_log_probs"]
"""Scores (T, V); log-probabilities (T, V), NaN where it is silent; or those (T - 1,) of the tokens after the first."""


class Runtime(Protocol):
    """Another engine with the exported model."""

    name: str
    gives: Gives

    def read(self, case: Case) -> np.ndarray:
        """What it `gives` of a decoder, or what an encoder gives."""
        ...

    def write(self, case: Case, count: int) -> list[int]:
        """At most so many tokens, each the likeliest; those that end a text are left out."""
        ...


class Reader(Protocol):
    """What a runtime without a generation of its own offers."""

    def read(self, case: Case) -> np.ndarray: ...


def written_by_reading(reader: Reader, case: Case, count: int, ends: frozenset[int]) -> list[int]:
    """Greedy decoding by reading everything again for each token."""
    ids = case.beginning
    begun = len(ids)
    while len(ids) - begun < count:
        token = int(np.nanargmax(reader.read(case._replace(ids=ids))[-1]))
        if token in ends:
            break
        ids = [*ids, token]
    return ids[begun:]


@dataclass(frozen=True)
class Parity:
    """What was measured."""

    runtime: str
    dtype: str
    texts: int
    difference: float
    """The largest difference of two numbers."""
    largest: float
    """The largest number of ours, by amount."""
    same_text: int | None = None
    """How many greedy continuations are the same, but for ties."""
    perplexity: tuple[float, float] | None = None
    """A token's, ours and theirs."""
    told: tuple[int, int] | None = None
    """Of how many tokens that is, and how many there are: an engine may tell the likeliest ones only."""
    same_tokens: tuple[int, int] | None = None
    """How many texts the engine's own tokenizer cuts into as many tokens as ours, of how many."""

    @property
    def passed(self) -> bool:
        """Whether the other engine computes the same model."""
        near = self.difference <= TOLERANCE[self.dtype] * max(1.0, self.largest)
        ours, theirs = self.perplexity or (1.0, 1.0)
        likely = abs(theirs / ours - 1) <= PERPLEXITY_TOLERANCE[self.dtype]
        return bool(near and likely and (self.same_text is None or self.same_text == self.texts))

    def rows(self) -> list[tuple[str, str]]:
        """For a table."""
        found = [
            ("engine", self.runtime),
            ("texts", str(self.texts)),
            ("largest difference", f"{self.difference:.2e} (of {self.largest:.3g}; numbers as {self.dtype})"),
        ]
        if self.perplexity is not None:
            ours, theirs = self.perplexity
            few = "" if self.told is None or self.told[0] == self.told[1] else ", of {} tokens of {}".format(*self.told)
            row = f"{ours:.4f} ours, {theirs:.4f} there ({theirs / ours - 1:+.1e}){few}"
            found.append(("perplexity a token", row))
        if self.same_text is not None:
            found.append(("same greedy text", f"{self.same_text} of {self.texts}"))
        if self.same_tokens is not None:
            found.append(("cut into as many tokens", "{} of {}".format(*self.same_tokens)))
        return [*found, ("verdict", "the same" if self.passed else "NOT the same")]


def cases_of(model: LanguageModel, count: int = CASES) -> list[Case]:
    """Texts for a model."""
    network, tokenizer = model.network, model.tokenizer
    assert isinstance(network, NetworkModule)
    random = np.random.default_rng(0)
    usual = [i for i in range(len(tokenizer)) if i not in tokenizer.special.control]

    def some(size: int) -> list[int]:
        return [int(i) for i in random.choice(usual, size)]

    first, last = tokenizer.frame
    if not writes(model):
        return [Case([*first, *some(4 + number), *last]) for number in range(count)]
    writer = model.writer()
    requests = []
    for number in range(count):
        settings = Sampling(temperature=1.0, seed=number, max_tokens=LENGTH - BEGINNING)
        if writer.reads:
            start = writer.request("a", settings)
            requests.append(Request(start.prompt, settings, [*first, *some(8), *last]))
        else:
            begin = [] if tokenizer.special.bos is None else [tokenizer.special.bos]
            requests.append(Request([*begin, *some(BEGINNING - len(begin))], settings))
    texts = dict(completions(writer.engine(), requests, count))
    source = [None if r.source is None else list(r.source) for r in requests]
    return [Case([*r.prompt, *texts[i][0].ids], source[i]) for i, r in enumerate(requests)]


def writes(model: LanguageModel) -> bool:
    """Whether the model continues texts."""
    network = model.network
    return (
        isinstance(network, NetworkModule)
        and network.decoder is not None
        and isinstance(network.config.head, LanguageModelHead | MaskedHead)
    )


@torch.no_grad()
def read_by_us(model: LanguageModel, case: Case) -> np.ndarray:
    """What `Runtime.read` should give: scores (T, V), scores of labels, or hidden states (T, D)."""
    network = model.network
    assert isinstance(network, NetworkModule)
    ids = torch.tensor([case.ids])
    if case.source is not None:
        found = model.logits(torch.tensor([case.source]), decoder_input_ids=ids)
    elif writes(model) or isinstance(network.config.head, LabelHead):
        found = model.logits(ids)
    else:
        found = model.hidden(ids)
    out: np.ndarray = found[0].float().numpy()
    return out


def measure(
    model: LanguageModel,
    runtime: Runtime,
    cases: Sequence[Case],
    dtype: str,
    same_tokens: tuple[int, int] | None = None,
) -> Parity:
    """Read and continue all texts in both engines."""
    difference = largest = 0.0
    log_probs: list[tuple[np.ndarray, np.ndarray]] = []
    same = count = 0
    for case in cases:
        scores, theirs = read_by_us(model, case), runtime.read(case).astype(np.float32)
        ours = _as_given(scores, case.ids, runtime.gives)
        if ours.shape != theirs.shape:
            raise ValueError(f"the engine gives numbers of shape {theirs.shape}, not {ours.shape}")
        silent = np.isnan(theirs) if runtime.gives == "log_probs" else np.zeros_like(theirs, dtype=bool)
        apart = np.abs(ours - theirs)[~silent]
        difference = float("inf") if np.isnan(apart).any() else max(difference, float(apart.max(initial=0.0)))
        largest = max(largest, float(np.abs(ours).max(initial=0.0)))
        if writes(model):
            pair = (_of_tokens(scores, case.ids, "scores"), _of_tokens(theirs, case.ids, runtime.gives))
            told, count = ~np.isnan(pair[1]), count + len(pair[1])
            log_probs.append((pair[0][told], pair[1][told]))
            same += _same_text(model, case, runtime.write(case, GREEDY), difference)
    perplexity = told_of = None
    if log_probs:
        told_of = (sum(len(ours) for ours, _ in log_probs), count)
        perplexity = tuple(float(np.exp(-np.concatenate(side).mean())) for side in zip(*log_probs, strict=True))
    return Parity(
        runtime.name, dtype, len(cases), difference, largest, same if log_probs else None,
        perplexity, told_of, same_tokens,  # type: ignore[arg-type]
    )  # fmt: skip


def _as_given(scores: np.ndarray, ids: Sequence[int], gives: Gives) -> np.ndarray:
    """Our scores as the engine gives its own."""
    if gives == "token_log_probs":
        return _of_tokens(scores, ids, "scores")
    return scores if gives == "scores" else _log_softmax(scores)


def _of_tokens(numbers: np.ndarray, ids: Sequence[int], gives: Gives) -> np.ndarray:
    """(T - 1,): the log-probability of each token after the first."""
    if gives == "token_log_probs":
        return numbers
    logs = numbers if gives == "log_probs" else _log_softmax(numbers)
    out: np.ndarray = logs[np.arange(len(ids) - 1), np.array(ids[1:], dtype=np.int64)]
    return out


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    out: np.ndarray = torch.from_numpy(scores).double().log_softmax(-1).numpy()
    return out


def _same_text(model: LanguageModel, case: Case, theirs: list[int], difference: float) -> bool:
    """Whether our greedy text is the same, up to the first token that a difference of this size can turn."""
    writer = model.writer()
    request = Request(case.beginning, Greedy(max_tokens=GREEDY), case.source)
    ((_, (ours,)),) = completions(writer.engine(), [request], 1)
    if ours.ids == theirs:
        return True
    same = next((n for n, pair in enumerate(zip(ours.ids, theirs, strict=False)) if pair[0] != pair[1]), None)
    count = min(len(ours.ids), len(theirs)) if same is None else same
    scores = read_by_us(model, case._replace(ids=[*case.beginning, *ours.ids[:count]]))[-1][: len(model.tokenizer)]
    best = scores.max()
    choice = (
        theirs[count] if count < len(theirs) else max(model.ends, key=lambda i: scores[i], default=int(scores.argmax()))
    )
    return bool(best - scores[choice] <= 2 * difference)

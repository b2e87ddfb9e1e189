"""How probable a model finds held-out documents: -log p of every token, summed by document.

A document is scored as it is trained on: `<s> text </s>`, every token given those before it in the same document. A
network with a limited context reads a long document in windows that overlap by half, and each token is scored once, in the
window where it has the longer past. A recurrent network carries its state through; an n-gram model looks its tokens up.

B documents, T tokens, N tokens scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field

from yuyan.config import Config, dump
from yuyan.metrics import bits_per_byte, perplexity, ratio_interval
from yuyan.metrics.interval import Interval
from yuyan.metrics.likelihood import total
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.nn.cache import Cache
from yuyan.nn.device import device_of
from yuyan.nn.linear_cross_entropy import IGNORE

TOKENS_AT_ONCE = 16_384


class DocumentScores(NamedTuple):
    """One entry a document: `nats` is -log p, `tokens` how many were scored (the end mark too), `bytes` of the text."""

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray


class Likelihood(Config):
    """What a report says of a model on held-out text."""

    better: ClassVar[str] = "lower"
    bits_per_byte: float
    interval: tuple[float, float]
    """95 %, by bootstrap over documents."""
    perplexity: float
    """Of a token of the model's own tokenizer: comparable only between models that share it."""
    nats: float
    tokens: int
    bytes: int
    documents: int
    each: tuple[tuple[float, float], ...] = Field((), exclude=True, repr=False)
    """(bits, bytes) of every document, for paired comparisons; no part of a report."""

    def plain(self) -> dict[str, Any]:
        """As it stands in a log."""
        kept = ("bits_per_byte", "interval", "perplexity", "tokens", "nats")
        return {key: value for key, value in dump(self).items() if key in kept}

    @property
    def measure(self) -> str:
        """What the model is chosen by."""
        return "bits_per_byte"

    @property
    def value(self) -> float:
        """The number to be made small."""
        return self.bits_per_byte


def summarise(scores: DocumentScores) -> Likelihood:
    """The totals of `scores` as rates, with the interval over documents."""
    nats, tokens, size = total(scores.nats), int(scores.tokens.sum()), int(scores.bytes.sum())
    low, high = ratio_interval(scores.nats / np.log(2), scores.bytes.astype(np.float64))
    return Likelihood(
        bits_per_byte=bits_per_byte(nats, size), interval=Interval(low, high), perplexity=perplexity(nats, tokens),
        nats=nats, tokens=tokens, bytes=size, documents=len(scores.nats),
        each=tuple(zip((scores.nats / np.log(2)).tolist(), scores.bytes.astype(float).tolist(), strict=True)),
    )  # fmt: skip


def score_documents(
    model: NetworkModule | NGram,
    documents: Sequence[np.ndarray],
    sizes: Sequence[int] | np.ndarray,
    *,
    bos: int,
    eos: int,
    context: int | None,
    told: Callable[[int], None] | None = None,
) -> DocumentScores:
    """Score documents (bare token ids) of `sizes` bytes. `context` tokens are seen at most; None: a carried state.

    `told` hears of every so many tokens that a network has scored.
    """
    each = token_log_probs(model, documents, bos=bos, eos=eos, context=context, told=told)
    tokens = np.array([len(log_probs) for log_probs in each], dtype=np.int64)
    return DocumentScores(
        np.array([-total(log_probs) for log_probs in each]), tokens, np.asarray(sizes, dtype=np.int64)
    )


def token_log_probs(
    model: NetworkModule | NGram,
    documents: Sequence[np.ndarray],
    *,
    bos: int,
    eos: int,
    context: int | None,
    told: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """log p of every token of each document (bare ids) and of its end, float64 (tokens + 1,)."""
    marked = [np.concatenate(([bos], ids, [eos])).astype(np.int64) for ids in documents]
    if not isinstance(model, NGram):
        return _of_network(model, marked, context, told)
    starts = np.cumsum([0, *map(len, marked)])
    each = model.log_probs_documents(np.concatenate(marked), starts)
    return [each[a + 1 : b] for a, b in pairwise(starts)]  # the begin mark is given, not predicted


@torch.no_grad()
def _of_network(
    model: NetworkModule, documents: Sequence[np.ndarray], context: int | None, told: Callable[[int], None] | None
) -> list[np.ndarray]:
    was_training = model.training
    model.eval()
    parts: list[list[np.ndarray]] = [[] for _ in documents]
    runs = _carried(model, documents) if context is None else _windowed(model, documents, context)
    for index, log_probs in runs:  # those of a document come in the order of its tokens
        parts[index].append(log_probs)
        if told is not None:
            told(len(log_probs))
    model.train(was_training)
    return [np.concatenate(each) for each in parts]


class _Window(NamedTuple):
    document: int
    start: int
    stop: int  # of the inputs; labels are one to the right
    first_scored: int


def _windows(lengths: Sequence[int], context: int) -> list[_Window]:
    """Cover every label once; all but the first window of a document score only their second half."""
    windows, half = [], max(1, context // 2)
    for document, length in enumerate(lengths):
        inputs = length - 1
        stop = min(context, inputs)
        windows.append(_Window(document, 0, stop, 0))
        while stop < inputs:
            scored_from, stop = stop, min(stop + half, inputs)
            windows.append(_Window(document, stop - context, stop, scored_from - (stop - context)))
    return windows


def _windowed(model: NetworkModule, documents: Sequence[np.ndarray], context: int) -> Iterator[tuple[int, np.ndarray]]:
    windows = sorted(_windows([len(d) for d in documents], context), key=lambda w: w.start - w.stop)
    position = 0
    while position < len(windows):
        longest = windows[position].stop - windows[position].start
        group = windows[position : position + max(1, TOKENS_AT_ONCE // longest)]
        position += len(group)
        input_ids = torch.zeros(len(group), longest, dtype=torch.int64)
        labels = torch.full((len(group), longest), IGNORE)
        for row, (document, start, stop, first) in enumerate(group):
            ids = torch.from_numpy(documents[document])
            # padding sits on the right: a causal network never looks there, so no mask is needed
            input_ids[row, : stop - start] = ids[start:stop]
            labels[row, first : stop - start] = ids[start + first + 1 : stop + 1]
        yield from zip(
            (w.document for w in group),
            _log_probs(model, model.decode(input_ids.to(device_of(model))), labels),
            strict=True,
        )


def _carried(
    model: NetworkModule, documents: Sequence[np.ndarray], chunk: int = 128
) -> Iterator[tuple[int, np.ndarray]]:
    order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    rows = max(1, TOKENS_AT_ONCE // chunk)
    for start in range(0, len(order), rows):
        group = order[start : start + rows]
        longest = len(documents[group[0]]) - 1
        input_ids, labels = (
            torch.zeros(len(group), longest, dtype=torch.int64),
            torch.full((len(group), longest), IGNORE),
        )
        for row, index in enumerate(group):
            ids = torch.from_numpy(documents[index])
            input_ids[row, : len(ids) - 1], labels[row, : len(ids) - 1] = ids[:-1], ids[1:]
        cache, input_ids = Cache(), input_ids.to(device_of(model))
        for part in (slice(at, at + chunk) for at in range(0, longest, chunk)):
            hidden = model.decode(input_ids[:, part], cache=cache)
            yield from zip(group, _log_probs(model, hidden, labels[:, part]), strict=True)


def _log_probs(model: NetworkModule, hidden: torch.Tensor, labels: torch.Tensor) -> list[np.ndarray]:
    """Of each row, those of its labels that are scored."""
    given = labels.flatten().to(hidden.device)
    each = model.token_losses(hidden.flatten(0, 1), given).view(labels.shape).double().cpu()
    return [-row[scored].numpy() for row, scored in zip(each, labels != IGNORE, strict=True)]

"""Generating text: ask for scores, choose, repeat, on anything with `decode` and `score`.

An n-gram table, an LSTM and a Transformer pass through the same lines. Prompts of a batch may differ in length: they are
padded on the left, and a padded request gives what it would give alone. A finished request keeps its row until the batch
is done, so that no other row notices.

B requests, T tokens of a step, S tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from yuyan.errors import InputError
from yuyan.generate.sampling import Sampling, choose
from yuyan.nn.cache import Cache

DEFAULT_TOKENS = 200


class Decoder(Protocol):
    """The narrow waist between models and everything that uses them."""

    def decode(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, cache: Any = None) -> Tensor: ...

    def score(self, hidden: Tensor) -> Tensor: ...


class Token(NamedTuple):
    """A new token of one request."""

    request: int
    id: int


class Done(NamedTuple):
    """A request is finished: `stop` at an end mark, `length` at its limit."""

    request: int
    reason: Literal["stop", "length"]


@torch.no_grad()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    stop_ids: frozenset[int],
    context: int | None,
    pad: int = 0,
    vocab_size: int | None = None,
    new_cache: Callable[[], Any] = Cache,
) -> Iterator[Token | Done]:
    """Continue every prompt, yielding tokens as they are chosen. A prompt already carries its begin mark.

    Published models may score more ids than their tokenizer has; those from `vocab_size` on are never chosen.
    Raises InputError for an empty prompt, and for one that leaves no room for a new token within `context`.
    """
    left = [_limit(len(p), s.max_tokens, context) for p, s in zip(prompts, samplings, strict=True)]
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
    generators = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]
    padded = None if bool(mask.all()) else mask  # the cache remembers who is padding
    cache, open_rows = new_cache(), set(range(len(prompts)))
    while True:
        scores = model.score(model.decode(input_ids, padded, cache=cache)[:, -1:])[:, -1, :vocab_size]
        chosen = [pad] * len(prompts)
        for row in sorted(open_rows):
            chosen[row] = choose(scores[row], samplings[row], generators[row])
            left[row] -= 1
            if chosen[row] in stop_ids:
                open_rows.discard(row)
                yield Done(row, "stop")
                continue
            yield Token(row, chosen[row])
            if left[row] == 0:
                open_rows.discard(row)
                yield Done(row, "length")
        if not open_rows:
            return
        input_ids, padded = torch.tensor(chosen)[:, None], None


def _limit(prompt: int, wanted: int | None, context: int | None) -> int:
    if prompt == 0:
        raise InputError("the prompt is empty, and this model has no begin mark to start from")
    if context is None:
        return wanted or DEFAULT_TOKENS
    room = context - prompt + 1  # the last token chosen is never read again
    if room <= 0:
        raise InputError(f"the prompt has {prompt} tokens, and the model reads at most {context}; shorten the prompt")
    if wanted is not None and wanted > room:
        raise InputError(
            f"{prompt} tokens of prompt and {wanted} new ones do not fit the {context} that the model reads; "
            f"ask for at most {room} (--max-tokens {room})"
        )
    return min(wanted or DEFAULT_TOKENS, room)

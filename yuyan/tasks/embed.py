"""One vector for a text: the hidden states of its tokens, pooled and brought to length 1, as the model's folder says.

Texts of like length are read together, so that little is padded; the order of the texts does not change the vectors
beyond rounding.

N texts, B texts of a batch, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.errors import InputError
from yuyan.hub.sentence import Sentence
from yuyan.models.network import NetworkModule
from yuyan.nn.device import device_of
from yuyan.nn.head import pool
from yuyan.tokens import Tokenizer

POOL: dict[str, Literal["first", "last", "mean"]] = {"cls": "first", "lasttoken": "last", "mean": "mean"}


@torch.no_grad()
def embed(
    network: NetworkModule,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    sentence: Sentence,
    *,
    longest: int | None,
    prompt: str | None = None,
    batch: int = 32,
) -> Tensor:
    """(N, D) vectors; `longest` is how many tokens the network reads, `prompt` the name of one of the folder's.

    Raises InputError for a text that is not one, an empty one that no control token frames, an unknown prompt.
    """
    rows = framed_rows(tokenizer, [before(sentence, prompt) + text for text in _texts(texts)], sentence, longest)
    if empty := [number for number, row in enumerate(rows) if not row]:
        raise InputError(f"texts: text {empty[0]} has no token")
    if batch < 1:
        raise InputError(f"batch: {batch}; at least one text is read at once")
    size = network.config.hidden_size
    vectors = torch.empty(len(rows), size)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        found = pooled(network, [rows[number] for number in chosen], tokenizer.special.pad or 0, sentence)
        vectors[chosen] = found.cpu()
    return vectors


def _texts(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("texts: expected a list of texts")
    return texts


def before(sentence: Sentence, prompt: str | None) -> str:
    """What is put before each text. Raises InputError for a prompt that the folder does not have."""
    name = sentence.default_prompt if prompt is None else prompt
    if name is None:
        return ""
    if name not in sentence.prompts:
        raise InputError(f"prompt: {name!r} is none of this model's ({', '.join(sentence.prompts) or 'it has none'})")
    return sentence.prompts[name]


def framed_rows(tokenizer: Tokenizer, texts: Sequence[str], sentence: Sentence, longest: int | None) -> list[list[int]]:
    """The ids of each text between its control tokens, cut so that they fit."""
    begin, end = tokenizer.frame
    limit = min((size for size in (sentence.max_length, longest) if size is not None), default=None)
    room = None if limit is None else max(0, limit - len(begin) - len(end))
    texts = [text.lower() for text in texts] if sentence.lower else texts
    return [begin + ids[:room] + end for ids in tokenizer.encode_batch(texts)]


def pooled(network: NetworkModule, rows: Sequence[Sequence[int]], pad: int, sentence: Sentence) -> Tensor:
    """(B, D) vectors of one batch."""
    length = max(len(row) for row in rows)
    device = device_of(network)
    input_ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=device)
    mask = None
    if any(len(row) < length for row in rows):
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
    hidden = network.read(input_ids, mask).float()
    if sentence.pooling == "max":
        hidden = hidden if mask is None else hidden.masked_fill(mask[:, :, None] == 0, float("-inf"))
        vectors = hidden.amax(1)
    else:
        vectors = pool(hidden, mask, POOL[sentence.pooling])
    return F.normalize(vectors, dim=1) if sentence.normalise else vectors

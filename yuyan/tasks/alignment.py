"""What a decoder reads of its source at each token that it writes: the weights of attention as a soft alignment.

A recurrent decoder has one attention (Bahdanau et al. 2015, figure 3). Of a Transformer the mean over the heads of the last
layer but one is taken, which follows word alignments best (Garg et al. 2019, section 4.1).

S tokens of the source, T tokens that are written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from yuyan.errors import InputError
from yuyan.models.network import NetworkModule
from yuyan.nn.attention import Attention
from yuyan.nn.device import device_of
from yuyan.nn.recurrent import MemoryAttention
from yuyan.tokens import Tokenizer


class Alignment(NamedTuple):
    """Each row sums to 1: what was read when a token of the target was written."""

    source: list[str]
    """The tokens that were read, marks included."""
    target: list[str]
    """The tokens that were written, the end mark included."""
    weights: np.ndarray
    """(T, S)."""


@torch.no_grad()
def alignment(network: NetworkModule, tokenizer: Tokenizer, source: list[int], target: list[int]) -> Alignment:
    """How `target` (its first token is what the decoder begins with) attends to `source`.

    Raises InputError for a network that reads no source by attention.
    """
    modules = attentions(network)
    module = modules[max(0, len(modules) - 2)]
    found: list[Tensor] = []

    def keep(called: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(called, Attention | MemoryAttention)
        found.append(called.weights(*arguments))

    hook = module.register_forward_pre_hook(keep)
    try:
        memory = network.eval().encode(torch.tensor([source], device=device_of(network)))
        network.decode(torch.tensor([target], device=device_of(network)), memory=memory)
    finally:
        hook.remove()
    weights = torch.cat(found, 2).mean(1)[0].double().cpu().numpy()
    end = tokenizer.special.eos
    written = target[1:] if end is None else [*target[1:], end]
    return Alignment(_names(tokenizer, source), _names(tokenizer, written), weights[: len(written)])


def attentions(network: NetworkModule) -> list[Attention | MemoryAttention]:
    """What reads the source, layer by layer. Raises InputError where nothing does."""
    found: list[Attention | MemoryAttention] = []
    decoder = network.decoder if network.encoder is not None else None
    for name, module in decoder.named_modules() if decoder is not None else ():
        crosses = isinstance(module, Attention) and "cross_attention" in name
        if crosses or isinstance(module, MemoryAttention):
            found.append(module)
    if not found:
        raise InputError(
            "this model does not read a source by attention: an alignment needs an encoder and a decoder (t5, or seq2seq "
            "with attention)"
        )
    return found


def _names(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The text of each token; of a control token its name; of a part of a character the token itself."""
    control, vocabulary = tokenizer.pieces.control, tokenizer.vocabulary
    texts = [vocabulary[i] if i in control else tokenizer.decode([i]) for i in ids]
    return [
        vocabulary[i] if not text.strip() or "\ufffd" in text else text.strip()
        for i, text in zip(ids, texts, strict=True)
    ]

"""A vocabulary of letters, and networks small enough to train within a test."""

from __future__ import annotations

import numpy as np

from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Mlp
from yuyan.nn.head import Head, LanguageModelHead, ReplacedHead
from yuyan.nn.mask import Full
from yuyan.nn.stack import Stack
from yuyan.tokens.pieces import Pieces
from yuyan.tokens.special import Special

LETTERS = 24
BOS, EOS, PAD, MASK = LETTERS, LETTERS + 1, LETTERS + 2, LETTERS + 3
SENTINELS = tuple(range(LETTERS + 4, LETTERS + 12))
SIZE = LETTERS + 12


class Letters:
    """A tokenizer as objectives see it: 24 letters, every fourth with a space before it, then control tokens."""

    def __init__(self, special: Special | None = None):
        self.special = special or Special(bos=BOS, eos=EOS, pad=PAD, mask=MASK, sentinels=SENTINELS)
        letters = [b" " * (i % 4 == 3) + bytes([ord("a") + i]) for i in range(LETTERS)] + [b""] * (SIZE - LETTERS + 100)
        self.pieces = Pieces(letters, letters, self.special.control)

    def __len__(self) -> int:
        return SIZE


def stack(**seams: object) -> Stack:
    return Stack(**{"num_layers": 1, "heads": Heads(count=2), "ffn": Mlp(intermediate_size=48)} | seams)


def decoder() -> Network:
    return Network(vocab_size=SIZE, hidden_size=32, decoder=stack())


def encoder(head: Head | None = None) -> Network:
    return Network(vocab_size=SIZE, hidden_size=32, encoder=stack(mask=Full()), head=head or LanguageModelHead())


def discriminator() -> Network:
    return encoder(ReplacedHead())


def both() -> Network:
    return Network(vocab_size=SIZE, hidden_size=32, encoder=stack(mask=Full()), decoder=stack(cross=True))


def cycle(start: int, length: int, step: int = 1, period: int = 12) -> np.ndarray:
    """A text that is easy to learn: every letter follows from the one before."""
    return (start + step * np.arange(length)) % period


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 3]))

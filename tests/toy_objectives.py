"""A vocabulary of letters, and networks small enough to train within a test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from yuyan.models.network import Network, NetworkModule
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


def strong(config: Network, seed: int = 0) -> NetworkModule:
    """Weights large enough that nothing is hidden."""
    model = config.build().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def log_softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    log_sum = top + math.log(math.fsum(math.exp(s - top) for s in scores))
    return [s - log_sum for s in scores]


def log_probs(scores: Tensor) -> list[list[list[float]]]:
    """(B, T, V) scores as lists of log-probabilities."""
    return [[log_softmax(token) for token in row] for row in scores.double().tolist()]


def close(found: Tensor, wanted: Sequence[float]) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=2e-5, atol=2e-5)


def rows(lengths: Sequence[int] = (13, 9, 11)) -> list[np.ndarray]:
    return [cycle(3 * i, length, step=i + 1, period=20) for i, length in enumerate(lengths)]


def chi_square(seen: Sequence[int] | np.ndarray, wanted: Sequence[float] | np.ndarray) -> float:
    seen, wanted = np.asarray(seen, float), np.asarray(wanted, float)
    return float(((seen - wanted) ** 2 / wanted).sum())

"""The formulas of the theory, number by number, in plain Python: what the parts are tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from yuyan.nn.cache import NoCache
from yuyan.nn.mask import Places

Matrix = list[list[float]]


def rows(x: Tensor) -> Matrix:
    listed: Matrix = x.detach().double().tolist()
    return listed


def product(x: Matrix, weight: Tensor, bias: Tensor | None = None) -> Matrix:
    """x W^T + b, entry by entry."""
    w, b = rows(weight), [0.0] * weight.shape[0] if bias is None else bias.tolist()
    return [[sum(xi * wi for xi, wi in zip(r, v, strict=True)) + c for v, c in zip(w, b, strict=True)] for r in x]


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    return [w / sum(weights) for w in weights]


def attention(q: Matrix, k: Matrix, v: Matrix, scale: float, blocked: list[list[bool]], low: float) -> Matrix:
    """softmax(Q K^T scale + mask) V, with `low` where the mask blocks."""
    out = []
    for query, hidden in zip(q, blocked, strict=True):
        scores = [
            scale * sum(a * b for a, b in zip(query, key, strict=True)) + (low if h else 0.0)
            for key, h in zip(k, hidden, strict=True)
        ]
        weights = softmax(scores)
        out.append([sum(w * value[d] for w, value in zip(weights, v, strict=True)) for d in range(len(v[0]))])
    return out


def near(actual: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected), rtol=tolerance, atol=tolerance)


def places(shape: tuple[int, int], **given: Tensor) -> Places:
    return NoCache().place(shape, torch.device("cpu"), **given)

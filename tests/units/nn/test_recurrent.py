"""Recurrent cells and attention over a memory against their formulas, gate by gate, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from naive import Matrix, attention, near, places, product, rows, softmax
from torch import Tensor, nn

from yuyan.nn.cache import NoCache
from yuyan.nn.recurrent import AdditiveAttention, MultiplicativeAttention, Recurrent


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def step(
    cell: str, x: list[float], h: list[float], c: list[float], layer: tuple[Tensor, ...]
) -> tuple[list[float], list[float]]:
    """One token through one layer, gate by gate."""
    w, u, b, d = layer
    size = len(h)
    left, right = product([x], w, b)[0], product([h], u, d)[0]
    cut = [slice(i * size, (i + 1) * size) for i in range(len(left) // size)]
    if cell == "rnn":
        return [math.tanh(a + r) for a, r in zip(left, right, strict=True)], c
    if cell == "gru":
        reset, update = ([sigmoid(a + r) for a, r in zip(left[s], right[s], strict=True)] for s in cut[:2])
        new = [math.tanh(a + g * r) for a, g, r in zip(left[cut[2]], reset, right[cut[2]], strict=True)]
        return [(1 - z) * n + z * old for z, n, old in zip(update, new, h, strict=True)], c
    enter, forget, out = ([sigmoid(a + r) for a, r in zip(left[cut[i]], right[cut[i]], strict=True)] for i in (0, 1, 3))
    new = [math.tanh(a + r) for a, r in zip(left[cut[2]], right[cut[2]], strict=True)]
    c = [f * old + i * n for f, old, i, n in zip(forget, c, enter, new, strict=True)]
    return [o * math.tanh(v) for o, v in zip(out, c, strict=True)], c


def run(cell: str, module: nn.RNNBase, x: Matrix, layer: int, backwards: bool = False) -> Matrix:
    """A text through one direction of one layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = tuple(getattr(module, f"{n}_l{layer}" + ("_reverse" if backwards else "")) for n in names)
    h = c = [0.0] * module.hidden_size
    out = []
    for token in reversed(x) if backwards else x:
        h, c = step(cell, token, h, c, weights)
        out.append(h)
    return out[::-1] if backwards else out


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers(cell: str, both: bool) -> None:
    torch.manual_seed(5)
    side = Recurrent(cell=cell, num_layers=2, bidirectional=both).build(3, 4)  # type: ignore[arg-type]
    x = torch.randn(1, 6, 3)
    out = side(x, places((1, 6)), None, None, NoCache())
    hidden = rows(x[0])
    for layer in range(2):
        forward = run(cell, side.cell, hidden, layer)
        backward = run(cell, side.cell, hidden, layer, backwards=True) if both else [[] for _ in hidden]
        hidden = [a + b for a, b in zip(forward, backward, strict=True)]
    near(out[0], hidden)


def test_additive_attention() -> None:
    """score(s, m) = v . tanh(W s + U m) (Bahdanau 2015, A.1.2)."""
    module, query, memory = AdditiveAttention(4, 3), torch.randn(1, 2, 4), torch.randn(1, 5, 4)
    s, m = product(rows(query[0]), module.query_proj.weight), product(rows(memory[0]), module.key_proj.weight)
    v = module.score_proj.weight[0].tolist()
    expected = []
    for left in s:
        weights = softmax([sum(w * math.tanh(a + b) for w, a, b in zip(v, left, right, strict=True)) for right in m])
        expected.append([sum(w * r[d] for w, r in zip(weights, rows(memory[0]), strict=True)) for d in range(4)])
    near(module(query, memory, None, NoCache())[0], expected)


def test_multiplicative_attention() -> None:
    """score(h, m) = h . W m (Luong 2015, section 3.1)."""
    module, query, memory = MultiplicativeAttention(4), torch.randn(1, 2, 4), torch.randn(1, 5, 4)
    keys = product(rows(memory[0]), module.key_proj.weight)
    expected = attention(rows(query[0]), keys, rows(memory[0]), 1.0, [[False] * 5] * 2, 0.0)
    near(module(query, memory, None, NoCache())[0], expected)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_a_recurrent_decoder_over_a_memory(kind: str) -> None:
    """Bahdanau reads with the last state and feeds what it read; Luong reads after the step; both join by tanh."""
    torch.manual_seed(6)
    side = Recurrent.model_validate({"cell": "gru", "num_layers": 1, "cross": {"kind": kind}}).build(3, 4)
    x, memory = torch.randn(1, 5, 3), torch.randn(1, 6, 4)
    out = side(x, places((1, 5)), memory, None, NoCache())
    mean = [[sum(column) / 6 for column in zip(*rows(memory[0]), strict=True)]]
    assert side.first_state is not None and side.memory_attention is not None and side.combine is not None
    h = [math.tanh(v) for v in product(mean, side.first_state.weight, side.first_state.bias)[0]]
    weights = tuple(getattr(side.cell, f"{n}_l0") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def read(state: list[float]) -> list[float]:
        context: list[float] = side.memory_attention(torch.tensor([[state]]), memory, None, NoCache())[0, 0].tolist()
        return context

    expected = []
    for token in rows(x[0]):
        if kind == "additive":
            context = read(h)
            h, _ = step("gru", token + context, h, [], weights)
        else:
            h, _ = step("gru", token, h, [], weights)
            context = read(h)
        expected.append([math.tanh(v) for v in product([context + h], side.combine.weight)[0]])
    near(out[0], expected)

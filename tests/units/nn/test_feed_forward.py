"""The neural n-gram model against its formula, token by token, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from naive import near, product, rows

from yuyan.config import build, dump
from yuyan.errors import ConfigError
from yuyan.models.classic import Nplm
from yuyan.models.cost import parameter_count


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("direct", [False, True])
def test_the_scores_of_the_paper(direct: bool) -> None:
    """b + W x + U tanh(d + H x), x the vectors of the last n - 1 tokens, the newest first (Bengio 2003, section 2)."""
    model = Nplm(order=4, embedding_size=3, hidden_size=5, direct=direct).build(11, 0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    ids = torch.tensor([[4, 7, 7, 0, 9, 2]])
    vectors = rows(model.embedding.token.weight)
    side, (output, bias) = model.decoder, model.output_projection()
    u, w = output[:, :5], output[:, 5:]
    expected = []
    for t in range(ids.shape[1]):
        past = [vectors[int(ids[0, t - back])] if t >= back else [0.0] * 3 for back in range(3)]
        x = [value for vector in past for value in vector]
        hidden = [math.tanh(value) for value in product([x], side.dense.weight, side.dense.bias)[0]]  # type: ignore[union-attr]
        scores = product([hidden], u, bias)[0]
        expected.append([a + b for a, b in zip(scores, product([x], w)[0], strict=True)] if direct else scores)
    near(model.score(model.decode(ids))[0], expected)


def test_a_token_beyond_the_order_is_not_seen() -> None:
    model = Nplm(order=3, embedding_size=4, hidden_size=6).build(20, 0).eval()
    ids = torch.arange(10)[None]
    other = ids.clone()
    other[0, 4] = 15
    moved = (model.decode(ids) != model.decode(other)).any(-1)[0]
    assert moved.tolist() == [False] * 4 + [True, True] + [False] * 4


def test_the_size_of_the_paper() -> None:
    """|V| (1 + n m + h) + h (1 + (n - 1) m) with direct connections (Bengio 2003, section 2), n - 1 words of context."""
    v, n, m, h = 17_964, 5, 30, 100
    direct = parameter_count(Nplm(order=n, embedding_size=m, hidden_size=h, direct=True).network(v))
    assert direct == v * (1 + n * m + h) + h * (1 + (n - 1) * m)
    assert parameter_count(Nplm().network(v)) == direct - v * (n - 1) * m


def test_direct_connections_need_room() -> None:
    network = Nplm(order=3, embedding_size=4, hidden_size=6, direct=True).network(9)
    data = dump(network) | {"hidden_size": 8}
    with pytest.raises(ConfigError, match="no room"):
        build(type(network), data)

"""The published starting points: deviations by part, identity blocks, the forget gate."""

from __future__ import annotations

import math

import pytest
import torch

from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated
from yuyan.nn.initialise import Initialisation
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.nn.recurrent import Recurrent
from yuyan.nn.stack import Stack


def gpt(initialisation: Initialisation) -> NetworkModule:
    stack = Stack(
        num_layers=3, heads=Heads(count=4, bias=True), ffn=Gated(intermediate_size=200), norm=LayerNorm(),
        position=Learned(max_position_embeddings=100),
    )  # fmt: skip
    return Network(vocab_size=300, hidden_size=128, decoder=stack).build(0, initialisation)


def std(model: NetworkModule, name: str) -> float:
    return float(model.get_parameter(name).std().detach())


def test_gpt2() -> None:
    model = gpt(Initialisation())
    layer = "decoder.layers.1."
    for name in ("embedding.token.weight", "decoder.position.table.weight", layer + "ffn.inner.gate_proj.weight"):
        assert std(model, name) == pytest.approx(0.02, rel=0.05)
    for name in ("attention.inner.o_proj.weight", "ffn.inner.down_proj.weight"):
        assert std(model, layer + name) == pytest.approx(0.02 / math.sqrt(6), rel=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not bool(parameter.any()), name
        if name.endswith("norm.weight"):
            assert bool((parameter == 1).all()), name


def test_settings() -> None:
    model = gpt(Initialisation(std=0.1, embedding_std=0.5, residual_scaling=False))
    assert std(model, "embedding.token.weight") == pytest.approx(0.5, rel=0.05)
    assert std(model, "decoder.layers.0.attention.inner.o_proj.weight") == pytest.approx(0.1, rel=0.05)


def test_queries_of_an_attention_without_a_scale_are_smaller() -> None:
    heads = Heads(count=4, head_size=16, scale=1.0)
    stack = Stack(num_layers=1, heads=heads, ffn=Gated(intermediate_size=8))
    model = Network(vocab_size=9, hidden_size=128, decoder=stack).build()
    inner = "decoder.layers.0.attention.inner."
    assert std(model, inner + "q_proj.weight") == pytest.approx(0.02 / 4, rel=0.05)
    assert std(model, inner + "k_proj.weight") == pytest.approx(0.02, rel=0.05)


def test_blocks_that_start_as_the_identity() -> None:
    model = gpt(Initialisation(zero_output=True)).eval()
    ids = torch.arange(7)[None]
    position = model.decoder.position.table.weight[:7]  # type: ignore[union-attr, index]
    expected = model.decoder.norm(model.embedding.token(ids) + position)  # type: ignore[union-attr, operator]
    assert torch.equal(model.decode(ids), expected)


def test_recurrent_cells() -> None:
    side = Recurrent(num_layers=2)
    network = Network(vocab_size=30, hidden_size=64, decoder=side, embedding=Embedding(size=16))
    cell = network.build().decoder.cell  # type: ignore[union-attr]
    bound = 1 / math.sqrt(64)
    for layer in range(2):
        for name in (f"weight_ih_l{layer}", f"weight_hh_l{layer}"):
            weight = getattr(cell, name)
            assert float(weight.detach().abs().max()) <= bound
            assert float(weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        total = getattr(cell, f"bias_ih_l{layer}") + getattr(cell, f"bias_hh_l{layer}")
        assert total.tolist() == [0.0] * 64 + [1.0] * 64 + [0.0] * 128  # enter, forget, new, out
    narrow = network.build(0, Initialisation(recurrent_range=0.01, forget_bias=-2.0)).decoder.cell  # type: ignore[union-attr]
    assert float(narrow.weight_hh_l0.detach().abs().max()) <= 0.01
    assert narrow.bias_ih_l0[64:128].tolist() == [-2.0] * 64

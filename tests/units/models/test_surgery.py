"""More blocks and another vocabulary: what the network said, it still says, and it is saved and read as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contracts.sides import ALL, DECODERS, ENCODERS, PAIRS, VOCABULARY, strong

from yuyan.errors import InputError
from yuyan.hub import read_model, write_model
from yuyan.models.cost import parameter_count
from yuyan.models.network import NetworkModule
from yuyan.models.surgery import deepen, fixed_scores, resize_embeddings
from yuyan.nn.adapt import Lora, adapt
from yuyan.nn.head import AdaptiveHead
from yuyan.nn.stack import Stack, StackModule

DEEP = [name for name, config in ALL.items()
        if isinstance(side := config.decoder or config.encoder, Stack) and side.residual == "pre"]  # fmt: skip


def side_of(model: NetworkModule) -> StackModule:
    side = model.decoder or model.encoder
    assert isinstance(side, StackModule)
    return side


def same_after_a_round_trip(model: NetworkModule, folder: Path) -> None:
    write_model(model, folder)
    again = read_model(folder)
    assert again.config == model.config
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", DEEP)
@torch.no_grad()
def test_new_blocks_change_nothing_at_first(name: str, tmp_path: Path) -> None:
    model = strong(ALL[name])
    before, old = fixed_scores(model), len(side_of(model).layers)
    deepen(model, 3)
    assert torch.allclose(fixed_scores(model), before, atol=1e-5)
    assert len(side_of(model).layers) == side_of(model).config.num_layers == old + 3
    assert parameter_count(model.config) == sum(p.numel() for p in model.parameters())
    same_after_a_round_trip(model, tmp_path)


def test_new_blocks_lie_evenly_and_learn() -> None:
    model = strong(DECODERS["window"])
    first, second = side_of(model).layers
    deepen(model, 2)
    layers = side_of(model).layers
    assert layers[0] is first and layers[2] is second
    fixed_scores(model).square().sum().backward()
    new = layers[1].attention.inner
    assert bool(new.o_proj.weight.grad.any()) and not bool(new.o_proj.weight.any())
    assert torch.equal(new.q_proj.weight, first.attention.inner.q_proj.weight)


def test_a_block_with_a_mask_of_its_own_is_copied_with_it() -> None:
    model = strong(DECODERS["some windows"])
    deepen(model, 2)
    local = side_of(model).config.local
    assert local is not None and local.layers == (0, 1)


def test_the_encoder_of_a_pair_can_be_named() -> None:
    model = strong(PAIRS["t5"])
    deepen(model, 1, "encoder")
    assert len(model.encoder.layers) == 3 and len(model.decoder.layers) == 2


@pytest.mark.parametrize(("name", "said"), [("bert", "norm after"), ("lstm", "no attention blocks")])
def test_where_no_block_can_be_added(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        deepen(strong(ALL[name]), 1)
    with pytest.raises(InputError, match="at least one"):
        deepen(strong(DECODERS["window"]), 0)


@pytest.mark.parametrize("name", [name for name, config in ALL.items() if not isinstance(config.head, AdaptiveHead)])
@torch.no_grad()
def test_new_tokens_start_as_the_mean_and_old_ones_are_as_they_were(name: str, tmp_path: Path) -> None:
    model = strong(ALL[name])
    old = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    resize_embeddings(model, VOCABULARY + 5)
    assert parameter_count(model.config) == sum(p.numel() for p in model.parameters())
    for key, tensor in model.state_dict().items():
        if tensor.shape == old[key].shape:
            assert torch.equal(tensor, old[key])
        else:
            assert torch.equal(tensor[:VOCABULARY], old[key])
            assert torch.allclose(tensor[VOCABULARY:], old[key].mean(0).expand_as(tensor[VOCABULARY:]), atol=1e-6)
    same_after_a_round_trip(model, tmp_path)
    resize_embeddings(model, VOCABULARY)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in old.items())


@pytest.mark.parametrize("name", ["window", "untied, scaled", "narrow embedding"])
@torch.no_grad()
def test_scores_of_known_tokens_stay(name: str) -> None:
    model, ids = strong(DECODERS[name]), torch.arange(12)[None]
    before = model.score(model.decode(ids))
    resize_embeddings(model, VOCABULARY + 2)
    after = model.score(model.decode(ids))
    assert after.shape[-1] == VOCABULARY + 2
    assert torch.allclose(after[..., :VOCABULARY], before, atol=1e-5)
    assert torch.allclose(after[..., VOCABULARY], before.mean(-1), atol=1e-4)  # the mean row scores the mean


@pytest.mark.parametrize("name", ["window", "untied, scaled", "bert"])
def test_a_resized_network_learns_its_new_tokens(name: str) -> None:
    model = strong((DECODERS | ENCODERS)[name])
    resize_embeddings(model, VOCABULARY + 2)
    ids = torch.tensor([[VOCABULARY + 1, 3, 4]])
    model.score(model.read(ids)).square().sum().backward()
    assert bool(model.embedding.token.weight.grad[VOCABULARY + 1].any())


def test_what_cannot_be_resized() -> None:
    model = strong(DECODERS["window"])
    with pytest.raises(InputError, match="at least one token"):
        resize_embeddings(model, 0)
    adapt(model, Lora(targets=("embedding.token",)), seed=0)
    with pytest.raises(InputError, match="merge it first"):
        resize_embeddings(model, 100)
    with pytest.raises(InputError, match="divided by frequency"):
        resize_embeddings(strong(ALL["lstm, classes"]), 100)

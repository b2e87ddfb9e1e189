"""Low-rank adapters and freezing: what is trained, what stays, and that merging changes no score."""

from __future__ import annotations

import copy

import pytest
import torch
from contracts.sides import ALL, DECODERS, ENCODERS, strong
from torch import Tensor

from yuyan.config import build
from yuyan.errors import ConfigError, InputError
from yuyan.models.network import NetworkModule
from yuyan.models.surgery import fixed_scores, merge_adapters, without_adapters
from yuyan.nn.adapt import (
    Freeze,
    Lora,
    adapt,
    adapters_of,
    attach,
    targets_of,
    trained_groups,
    unmerge,
)
from yuyan.nn.linear_cross_entropy import linear_cross_entropy

EVERYTHING = Lora(targets=("all", "embedding.token"), rank=3, alpha=5)
STACKED = [name for name in ALL if any("attention.inner" in n for n, _ in ALL[name].build().named_modules())]


def busy(model: NetworkModule) -> None:
    """Adapters as after training: no longer zero."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for adapter in adapters_of(model).values():
            adapter.up.copy_(torch.randn(adapter.up.shape, generator=generator) * 0.2)


def adapted(name: str, config: Lora = EVERYTHING) -> NetworkModule:
    model = strong(ALL[name])
    adapt(model, config, seed=1)
    busy(model)
    return model


def llama() -> NetworkModule:
    return strong(DECODERS["window"])


# ---------------------------------------------------------------- low-rank adapters


@pytest.mark.parametrize("name", STACKED)
@torch.no_grad()
def test_a_new_adapter_changes_nothing_and_a_trained_one_does(name: str) -> None:
    model = strong(ALL[name])
    before = fixed_scores(model)
    adapt(model, EVERYTHING, seed=1)
    assert float((fixed_scores(model) - before).abs().max()) < 1e-5  # sums in another order
    busy(model)
    assert float((fixed_scores(model) - before).abs().max()) > 1e-2


def test_the_formula() -> None:
    """W x + b + alpha / rank * B A x, in float64 (Hu 2021, section 4.1)."""
    layer = torch.nn.Sequential(torch.nn.Linear(5, 4).double())
    weight, bias, x = layer[0].weight.detach().clone(), layer[0].bias.detach().clone(), torch.randn(2, 3, 5).double()
    a, b = torch.randn(2, 5).double(), torch.randn(4, 2).double()
    attach(layer, "0", a, b, scale=16 / 2)
    expected = x @ weight.T + bias + 16 / 2 * (x @ a.T @ b.T)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert torch.allclose(layer[0].weight, weight + 8 * b @ a, atol=1e-12)


@pytest.mark.parametrize(("settings", "scale"), [({}, 16 / 4), ({"rslora": True}, 16 / 2), ({"alpha": 4.0}, 1.0)])
def test_the_scale(settings: dict[str, object], scale: float) -> None:
    model = llama()
    adapt(model, build(Lora, {"rank": 4, **settings}), seed=0)
    assert {adapter.scale for adapter in adapters_of(model).values()} == {scale}


def test_kinds_of_targets_are_parts_of_the_network() -> None:
    model = strong(ALL["t5"])
    attention, ffn = targets_of(model, ["attention"]), targets_of(model, ["ffn"])
    assert {name.rsplit(".", 1)[1] for name in attention} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert any("cross_attention" in name for name in attention) and any("encoder" in name for name in attention)
    assert {name.rsplit(".", 1)[1] for name in ffn} <= {"up_proj", "down_proj", "gate_proj"}
    assert set(targets_of(model, ["all"])) == {*attention, *ffn}
    assert targets_of(model, ["*.cross_attention.*.q_proj", "attention"])[0].endswith("q_proj")
    assert targets_of(strong(ALL["luong"]), ["attention"]) == ["decoder.memory_attention.key_proj"]


@pytest.mark.parametrize("target", ["attentoin", "*.query", "decoder.layers.9.*", "", "encoder"])
def test_a_target_that_matches_nothing_is_an_error(target: str) -> None:
    with pytest.raises(InputError, match=r"adapt\.targets") as error:
        adapt(llama(), Lora(targets=("ffn", target)), seed=0)
    assert repr(target) in str(error.value)
    assert target != "attentoin" or "did you mean 'attention'" in str(error.value)


def test_a_recurrent_network_without_linear_layers_has_no_target() -> None:
    with pytest.raises(InputError, match="attention"):
        adapt(strong(DECODERS["lstm"]), Lora(), seed=0)


def gradients(model: NetworkModule) -> dict[str, bool]:
    model.zero_grad()
    scores = fixed_scores(model)
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["window", "t5", "bert", "labels"])
def test_only_adapters_learn_and_all_of_them_do(name: str) -> None:
    model = adapted(name)
    for parameter, learned in gradients(model).items():
        expected = parameter.endswith((".down", ".up")) or (name == "labels" and parameter.startswith("head."))
        assert learned == expected, parameter
        assert dict(model.named_parameters())[parameter].requires_grad == expected


def test_what_is_trained_beside_the_adapters_is_named() -> None:
    model = llama()
    adapt(model, Lora(also=("*norm*", "embedding.token.weight")), seed=0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "_proj." not in name}
    assert trained == {n for n, _ in model.named_parameters() if "norm" in n} | {"embedding.token.weight"}
    with pytest.raises(InputError, match=r"adapt\.also: '\*layernorm\*'"):
        adapt(llama(), Lora(also=("*layernorm*",)), seed=0)
    with pytest.raises(InputError, match=r"adapt\.also: .*q_proj\.weight: has an adapter"):
        adapt(llama(), Lora(also=("*.q_proj.*",)), seed=0)


def test_the_start_is_a_function_of_the_seed_alone() -> None:
    def downs(seed: int) -> list[Tensor]:
        model = llama()
        adapt(model, Lora(), seed)
        return [adapter.down.detach() for adapter in adapters_of(model).values()]

    torch.manual_seed(123)
    first, state = downs(4), torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(first, downs(4), strict=True))
    assert not torch.equal(first[0], downs(5)[0]) and not torch.equal(first[0], first[1])
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_is_on_in_training_and_off_in_evaluation() -> None:
    model = adapted("window", Lora(dropout=0.5))
    assert torch.equal(fixed_scores(model), fixed_scores(model))
    model.train()
    assert not torch.equal(fixed_scores(model), fixed_scores(model))


def test_an_adapter_is_put_on_once_and_must_fit() -> None:
    model = adapted("window")
    name = next(iter(adapters_of(model)))
    with pytest.raises(InputError, match="has an adapter already"):
        attach(model, name, torch.ones(2, 2), torch.ones(2, 2), scale=1.0)
    with pytest.raises(InputError, match="no linear layer"):
        attach(model, "decoder.norm", torch.ones(2, 2), torch.ones(2, 2), scale=1.0)
    layer = torch.nn.Sequential(torch.nn.Linear(5, 4))
    with pytest.raises(InputError, match="does not fit 5 inputs and 4 outputs"):
        attach(layer, "0", torch.ones(2, 4), torch.ones(5, 2), scale=1.0)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("name", STACKED)
@torch.no_grad()
def test_merged_weights_say_the_same_and_unmerging_is_exact(name: str) -> None:
    model = adapted(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    scores = fixed_scores(model)
    assert merge_adapters(model) < 1e-4
    assert torch.equal(fixed_scores(model), fixed_scores(model))
    base = next(iter(adapters_of(model).values())).base
    assert not torch.equal(base.weight, before[next(iter(adapters_of(model))) + ".base.weight"])
    unmerge(model)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())
    assert torch.equal(fixed_scores(model), scores)


@pytest.mark.parametrize("name", STACKED)
@torch.no_grad()
def test_a_network_without_its_adapters_is_plain_and_says_the_same(name: str) -> None:
    model = adapted(name)
    plain = without_adapters(model)
    scores = fixed_scores(model)
    assert float((fixed_scores(plain) - scores).abs().max()) < 1e-4 * float(scores.abs().max())
    assert plain.state_dict().keys() == strong(ALL[name]).state_dict().keys()
    assert adapters_of(model) and not adapters_of(plain)
    assert all(p.requires_grad for p in plain.parameters())


def test_a_merge_that_would_change_the_scores_is_refused() -> None:
    model = adapted("window").to(torch.bfloat16)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match="merging would change the scores"):
        merge_adapters(model, tolerance=1e-6)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())
    assert merge_adapters(model) > 1e-6


def test_a_merge_that_gives_no_numbers_is_refused() -> None:
    model = adapted("window")
    with torch.no_grad():
        next(iter(adapters_of(model).values())).up.fill_(float("inf"))
    with pytest.raises(InputError, match="nothing was merged"):
        merge_adapters(model)


def test_there_must_be_something_to_merge() -> None:
    with pytest.raises(InputError, match="no adapters"):
        merge_adapters(llama())


def test_merging_leaves_the_mode_as_it_was() -> None:
    model = adapted("window", Lora(dropout=0.5)).train()
    merge_adapters(model)
    assert model.training and all(module.training for module in model.modules())


# ---------------------------------------------------------------- freezing


def frozen(model: NetworkModule) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def test_freezing_by_name() -> None:
    model = llama()
    adapt(model, Freeze(names=("embedding.*", "*.ffn.*")), seed=0)
    assert frozen(model) == {n for n, _ in model.named_parameters() if n.startswith("embedding.") or ".ffn." in n}
    with pytest.raises(InputError, match=r"adapt\.names: 'embeding"):
        adapt(llama(), Freeze(names=("embeding.*",)), seed=0)


def test_freezing_by_depth() -> None:
    model = strong(ENCODERS["bert"])
    adapt(model, Freeze(layers=1), seed=0)
    below = ("embedding.", "encoder.position.", "encoder.layers.0.")
    assert frozen(model) == {n for n, _ in model.named_parameters() if n.startswith(below)}
    with pytest.raises(InputError, match=r"adapt\.layers: 9"):
        adapt(llama(), Freeze(layers=9), seed=0)


def test_something_must_be_left_to_train_and_something_frozen() -> None:
    with pytest.raises(InputError, match="nothing is left"):
        adapt(llama(), Freeze(names=("*",)), seed=0)
    with pytest.raises(ConfigError, match="nothing to freeze"):
        build(Freeze, {"kind": "freeze"})


# ---------------------------------------------------------------- the table


def test_the_table_counts_every_parameter_once() -> None:
    model = adapted("window", Lora(rank=3, also=("*norm*",)))
    groups = trained_groups(model)
    assert sum(group.parameters for group in groups) == sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(group.trained for group in groups) == trained > 0
    down = next(group for group in groups if group.name.endswith("q_proj.down"))
    assert down.name == "decoder.layers.*.attention.inner.q_proj.down" and down.tensors == 2
    assert down.trained == down.parameters == 2 * 3 * model.config.hidden_size


def test_a_copy_is_independent() -> None:
    model = adapted("window")
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(iter(adapters_of(other).values())).up.zero_()
    assert not torch.equal(fixed_scores(other), fixed_scores(model))


@pytest.mark.parametrize("weights", [torch.ones(9), torch.arange(9.0)])
def test_a_frozen_table_costs_no_gradient_and_changes_no_other(weights: Tensor) -> None:
    def gradients(frozen: bool) -> tuple[Tensor | None, ...]:
        generator = torch.Generator().manual_seed(3)
        hidden, table, bias = (
            torch.randn(shape, generator=generator).requires_grad_() for shape in ((9, 4), (7, 4), (7,))
        )
        table.requires_grad_(not frozen)
        labels = torch.tensor([0, 1, -100, 3, 4, 5, 6, -100, 2])
        (linear_cross_entropy(hidden, table, bias, labels) * weights).sum().backward()
        return hidden.grad, bias.grad, table.grad

    hidden, bias, table = gradients(frozen=True)
    expected = gradients(frozen=False)
    assert table is None and expected[2] is not None
    assert torch.equal(hidden, expected[0]) and torch.equal(bias, expected[1])

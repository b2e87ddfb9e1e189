"""What `yuyan model show` says of a model is what the built model has, keeps and computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sides import ALL, DECODERS, ENCODERS, PAIRS, VOCABULARY
from test_families import EXPRESSIBLE
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from yuyan.commands.model import describe, described, parameters_by_name, show_command, training_flops
from yuyan.config import build
from yuyan.errors import InputError
from yuyan.hub import write_model
from yuyan.models.classic import Lstm, Nplm
from yuyan.models.cost import flops_per_token, parameters_by_part
from yuyan.models.memory import activation_bytes, generation_memory, training_memory
from yuyan.models.network import Network, NetworkModule
from yuyan.models.presets import Gpt
from yuyan.nn.adapt import Lora, adapt
from yuyan.nn.cache import Cache
from yuyan.objectives import NextToken
from yuyan.train import Adafactor, AdamW, Learner, MasterWeights, Muon, OptimizerConfig, Sgd, parameter_kinds

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = [
    file for file in sorted(CONFIGS.rglob("*.yaml")) if "kind: pretrained" not in file.read_text(encoding="utf-8")
]
PRESETS = {
    "gpt": Gpt(hidden_size=64, num_layers=3, num_heads=4).network(VOCABULARY),
    "grouped gpt": Gpt(hidden_size=96, num_layers=3, num_heads=4, key_value_heads=2, dropout=0.1).network(VOCABULARY),
    "nplm preset": Nplm(order=4, hidden_size=64, embedding_size=32, direct=True, dropout=0.1).network(VOCABULARY),
    "lstm preset": Lstm(hidden_size=64, num_layers=2, dropout=0.1).network(VOCABULARY),
}
NETWORKS = ALL | PRESETS | {name: network for name, (_, network) in EXPRESSIBLE.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_those_of_the_built_model(name: str) -> None:
    built, total = NETWORKS[name].build(), 0
    parts, trained = parameters_by_name(built)
    for side, expected in parameters_by_part(NETWORKS[name]).items():
        mine = sum(count for part, count in parts.items() if part.startswith(side))
        assert mine == expected == sum(p.numel() for p in getattr(built, side).parameters()), side
        total += mine
    assert total == sum(parts.values()) == sum(p.numel() for p in built.parameters()) and trained == parts


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_config_is_described(file: Path) -> None:
    size = 50304 if file.stem == "gpt2-small" else 600  # the one that spells its architecture
    model = described(file, [f"tokenizer={{kind: bpe, vocab_size: {size}}}"])
    result = describe(model)
    assert result["vocab_size"] == size
    assert result["parameters"]["total"] == sum(p.numel() for p in model.module.parameters())
    if result["parameters"]["total"] < 1e7:
        assert result["parameters"]["total"] == sum(p.numel() for p in model.network.build().parameters())
    assert result["training_bytes"]["total"] > result["parameters"]["total"] * 8


# ---------------------------------------------------------------- memory


def kept_bytes(model: NetworkModule, ids: Tensor) -> int:
    """What PyTorch keeps for the backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if model.encoder is not None and model.decoder is not None:
            model.decode(ids, memory=model.encode(ids))
        else:
            model.read(ids)
    return sum(size for size, _ in kept.values())


def bare(network: Network) -> Network:
    """Without the head, whose part is the loss's."""
    return network.filled().model_copy(update={"head": None})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", {**ALL, **PRESETS})
def test_activations_are_about_what_is_kept(name: str, dtype: torch.dtype) -> None:
    network = bare((ALL | PRESETS)[name])
    kept = kept_bytes(network.build().train().to(dtype), torch.randint(0, VOCABULARY, (3, 32)))
    assert 0.7 < activation_bytes(network, 3, 32, dtype.itemsize) / kept < 1.3


def wider(data: Any) -> Any:
    """The same network eight times as wide, with dropout."""
    if not isinstance(data, dict):
        return data
    sizes = ("hidden_size", "intermediate_size", "head_size")
    return {key: 0.1 if key == "dropout" else value * 8 if key in sizes and value else wider(value)
            for key, value in data.items()}  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_activations_of_a_usual_size(name: str) -> None:
    network = build(Network, wider(bare((DECODERS | ENCODERS)[name]).model_dump(mode="json")))
    kept = kept_bytes(network.build().train(), torch.randint(0, VOCABULARY, (2, 40)))
    assert 0.92 < activation_bytes(network, 2, 40, 4) / kept < 1.08


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_gradients_and_optimizer_are_exact(dtype: torch.dtype) -> None:
    network = PRESETS["gpt"]
    model = network.build()
    adapt(model, Lora(rank=2), 0)
    count, trained = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (True, False))
    learner = Learner(model, NextToken())
    kinds, weights = parameter_kinds(learner), MasterWeights(learner, dtype)
    optimizer = AdamW().build(weights.masters, kinds)
    ids = torch.arange(20)[None]
    for _ in range(2):  # micro-batches, whose sum is float32
        learner({"input_ids": ids, "labels": ids}).total.sum().backward()
        working = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        weights.take_gradients()
    gradients = sum(p.grad.nbytes for p in weights.masters.values())
    optimizer.step()
    memory = training_memory(network, count, trained, rows=1, context=20, number_bytes=dtype.itemsize)
    assert memory.weights == sum(p.nbytes for p in model.parameters())
    assert memory.masters == (0 if dtype == torch.float32 else sum(p.nbytes for p in weights.masters.values()))
    assert memory.gradients == gradients + (working if dtype != torch.float32 else 0)
    moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    assert memory.optimizer == moments
    assert memory.total == sum(memory)


@pytest.mark.parametrize("name", {**DECODERS, **PRESETS})
@torch.no_grad()
def test_the_cache_is_as_large_as_said(name: str) -> None:
    network = (DECODERS | PRESETS)[name]
    model, cache, length = network.build().eval(), Cache(capacity=32, step=32), 32
    model.decode(torch.randint(0, VOCABULARY, (1, length)), cache=cache)
    memory = generation_memory(network, 0, 4)

    def size(slot: Any) -> int:
        parts = (slot.key, slot.value) if hasattr(slot, "key") else slot
        return sum(part.nbytes for part in parts)

    held = sum(size(slot) for slot in cache.slots.values())
    assert held == memory.cache_per_token * length + memory.state
    assert held > 0 or name == "neural bigram", "a bigram needs no past but the token itself"
    assert memory.source_per_token == 0


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_what_is_kept_of_the_text_that_was_read_is_as_large_as_said(name: str) -> None:
    network = PAIRS[name]
    model, cache, length, source = network.build().eval(), Cache(capacity=32, step=32), 32, 7
    memory = model.encode(torch.randint(0, VOCABULARY, (1, source)))
    model.decode(torch.randint(0, VOCABULARY, (1, length)), memory=memory, cache=cache)
    said, storages = generation_memory(network, 0, 4), {memory.data_ptr(): memory.nbytes}

    def add(slot: Any) -> None:
        if isinstance(slot, Tensor):
            storages[slot.data_ptr()] = slot.nbytes
        else:
            for part in (slot.key, slot.value) if hasattr(slot, "key") else slot:
                add(part)

    for slot in cache.slots.values():
        add(slot)
    assert sum(storages.values()) == said.cache_per_token * length + said.state + said.source_per_token * source


@pytest.mark.parametrize("config", [AdamW(), Muon(), Sgd(), Sgd(momentum=0.0), Adafactor()], ids=repr)
@pytest.mark.parametrize("name", ["gpt", "lstm preset", "t5", "electra"])
def test_optimizers_keep_what_they_say(name: str, config: OptimizerConfig) -> None:
    model = NETWORKS[name].build()
    kinds, masters = parameter_kinds(model), dict(model.named_parameters())
    optimizer = config.build(masters, kinds)
    for parameter in masters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    numbers = [
        t.numel() for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor) and t.ndim
    ]
    assert config.kept(masters, kinds) == sum(numbers)


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("config", [None, Lora(targets=("all",), rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["gpt", "grouped gpt"])
def test_operations_of_training_are_as_counted(name: str, config: Lora | None) -> None:
    network, length = PRESETS[name], 24
    model = network.build().eval()
    if config is not None:
        adapt(model, config, 0)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model.score(model.decode(torch.randint(0, VOCABULARY, (1, length)))).sum().backward()
    counted = counter.get_total_flops() / length
    said = training_flops(model, flops_per_token(network, length))
    products = 12 * network.decoder.num_layers * network.decoder.heads.count * network.decoder.filled(
        network.hidden_size).heads.head_size * length  # fmt: skip
    assert abs(counted - said) < 0.1 * said + products  # the counter has no causal mask


# ---------------------------------------------------------------- the command


def test_a_folder_and_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = PAIRS["t5"].build()
    write_model(model, tmp_path)
    show_command(tmp_path, ["train.context=10", "train.micro_tokens=40"], as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    assert (said["training_bytes"]["rows"], said["training_bytes"]["context"]) == (4, 10)
    show_command(tmp_path, [], as_json=False)
    shown = capsys.readouterr()
    assert not shown.out and "decoder: cross-attention" in shown.err and "generation in float32: weights" in shown.err
    assert "embedding (also scores the tokens)" in shown.err and f"{tmp_path}: a vocabulary of" in shown.err
    assert "a token that it reads" in shown.err


def test_a_text_is_no_longer_than_the_positions(tmp_path: Path) -> None:
    for name, network in (("bert", ENCODERS["bert"]), ("gpt2", DECODERS["gpt2"])):
        write_model(network.build(), tmp_path / name)
        assert described(tmp_path / name, []).context == described(tmp_path / name, ["train.context=40"]).context == 40
        with pytest.raises(InputError, match=r"train\.context: 41 tokens; .* has positions for 40"):
            described(tmp_path / name, ["train.context=41"])


def test_an_encoder_generates_nothing(tmp_path: Path) -> None:
    write_model(ENCODERS["bert"].build(), tmp_path)
    assert describe(described(tmp_path, []))["generation_bytes"] is None


def test_adapters_are_a_part_of_their_own(tmp_path: Path) -> None:
    network = PRESETS["gpt"]
    module = network.build()
    adapt(module, Lora(rank=2), 0)
    parts, trained = parameters_by_name(module)
    assert trained == dict.fromkeys(parts, 0) | {"adapters": parts["adapters"]} and parts["adapters"] > 0
    assert sum(parts.values()) - parts["adapters"] == sum(p.numel() for p in network.build().parameters())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["train.context=x"], "train.context"),
        (["model.kind=gpt"], "model.kind"),
        (["train.context=0"], "train.context"),
    ],
)
def test_what_a_folder_takes_is_said(tmp_path: Path, settings: list[str], word: str) -> None:
    write_model(PRESETS["gpt"].build(), tmp_path)
    with pytest.raises(InputError, match=word):
        described(tmp_path, settings)


def test_what_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        described(tmp_path / "nothing", [])
    with pytest.raises(InputError, match=r"tokenizer\.vocab_size"):
        described(CONFIGS / "tiny" / "gpt.yaml", ["tokenizer={kind: char}"])

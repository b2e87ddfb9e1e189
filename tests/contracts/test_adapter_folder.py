"""Adapter folders on their own: the round trip, the base they were made for, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sides import ALL, DECODERS, strong
from test_families import EXPRESSIBLE

from yuyan.errors import YuyanError
from yuyan.hub import base_of, read_adapter, write_adapter
from yuyan.models.network import NetworkModule
from yuyan.models.surgery import fixed_scores, resize_embeddings
from yuyan.nn.adapt import Lora, adapt, adapters_of, attach

OURS = {name: ALL[name] for name in ("window", "alibi", "luong", "labels")}  # the last three in our own names
NETWORKS = {name: network for name, (_, network) in EXPRESSIBLE.items()} | OURS


def trained(name: str, config: Lora, folder: Path) -> NetworkModule:
    model = strong(NETWORKS[name])
    base = base_of(model, "runs/base")
    adapt(model, config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape) * 0.1
    write_adapter(model, folder, base)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_round_trip_changes_no_score_and_no_adapter(name: str, tmp_path: Path) -> None:
    written = trained(name, Lora(targets=("attention",), rank=2, alpha=3, dropout=0.25), tmp_path)
    read = strong(NETWORKS[name])
    read_adapter(read, tmp_path)
    assert torch.allclose(fixed_scores(read), fixed_scores(written), atol=1e-5)
    assert adapters_of(read).keys() == adapters_of(written).keys()
    for key, adapter in adapters_of(written).items():
        again = adapters_of(read)[key]
        assert torch.equal(again.down, adapter.down) and torch.equal(again.up, adapter.up)
        assert again.scale == pytest.approx(adapter.scale) and again.dropout.rate == 0.25
    assert [n for n, p in read.named_parameters() if p.requires_grad] == [
        n for n, p in written.named_parameters() if p.requires_grad
    ]


def test_parts_of_a_joined_layer_may_be_scaled_and_sized_apart(tmp_path: Path) -> None:
    model, width = strong(NETWORKS["modernbert"]), NETWORKS["modernbert"].hidden_size
    for number, part in enumerate("qv"):
        down, up = torch.randn(2 + number, width), torch.randn(width, 2 + number)
        attach(model, f"encoder.layers.0.attention.inner.{part}_proj", down, up, scale=0.1 + 0.3 * number)
    write_adapter(model, tmp_path)
    read = strong(NETWORKS["modernbert"])
    read_adapter(read, tmp_path)
    assert adapters_of(read).keys() == adapters_of(model).keys()
    with torch.no_grad():
        assert torch.allclose(fixed_scores(read), fixed_scores(model), atol=1e-4)


def test_the_fingerprint_is_of_names_and_numbers_alone() -> None:
    model = strong(DECODERS["window"])
    first = base_of(model)
    assert first == base_of(strong(DECODERS["window"])) and len(first.sha256) == 64
    assert (first.vocab_size, first.tied, first.dtype) == (model.config.vocab_size, True, "float32")
    with torch.no_grad():
        model.embedding.token.weight[3, 2] += 1e-6
    assert base_of(model).sha256 != first.sha256
    assert not base_of(strong(DECODERS["untied, scaled"])).tied


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained("window", Lora(rank=2), tmp_path)
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, *words: str, name: str = "window", model: NetworkModule | None = None) -> None:
    model = model or strong(NETWORKS[name])
    before, state = [p.requires_grad for p in model.parameters()], dict(model.state_dict())
    with pytest.raises(YuyanError) as error:
        read_adapter(model, folder)
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message, message
    assert [p.requires_grad for p in model.parameters()] == before
    assert model.state_dict().keys() == state.keys()


def test_another_base_is_refused(folder: Path) -> None:
    other = strong(DECODERS["window"], seed=4)
    refused(folder, "other weights", "runs/base", model=other)
    resize_embeddings(other, 50)
    refused(folder, "made for 41 tokens", "has 50", model=other)
    refused(folder, "tied to the embedding", name="mistral")
    (folder / "base.json").unlink()
    model = strong(DECODERS["window"], seed=4)
    read_adapter(model, folder)  # PEFT's own folders do not say what they were made for
    assert adapters_of(model)


def test_a_second_adapter_is_refused(folder: Path) -> None:
    model = strong(DECODERS["window"])
    read_adapter(model, folder)
    with pytest.raises(YuyanError, match="has an adapter already"):
        read_adapter(model, folder)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"alpha_pattern": {"^x.*y$": 2}}, "alpha_pattern"),
        ({"something_new": {"a": 1}}, "something_new"),
    ],
)
def test_settings_that_are_not_supported_are_named(folder: Path, changes: dict[str, Any], word: str) -> None:
    edit(folder / "adapter_config.json", **changes)
    refused(folder, word, "adapter_config.json")


def test_damaged_and_foreign_files(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    good = load_file(path)
    first = next(key for key in good if "lora_A" in key)

    def check(tensors: dict[str, torch.Tensor], *words: str) -> None:
        save_file(tensors, path)
        refused(folder, *words)

    check({key: tensor for key, tensor in good.items() if key != first}, "other half")
    check({key: tensor for key, tensor in good.items() if "lora_B" not in key}, "other half")
    check(good | {first: torch.ones(3, good[first].shape[1])}, "does not fit")
    check(good | {first: torch.ones(2, good[first].shape[1] + 1)}, "does not fit")
    check(good | {"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.ones(2, 2)}, "layers.9")
    check(good | {"base_model.model.model.norm.weight": torch.ones(3)}, "(3,)")
    check(good | {first: good[first] * float("nan")}, "finite")
    check({"base_model.model.model.norm.weight": torch.ones(24)}, "no adapter")
    path.write_bytes(b"garbage")
    refused(folder, "adapter_model.safetensors")
    path.unlink()
    refused(folder, "no such file")
    path.symlink_to("/etc/passwd")
    refused(folder, "symbolic link")
    (folder / "adapter_config.json").write_text("{")
    refused(folder, "not JSON")
    (folder / "adapter_config.json").unlink()
    refused(folder, "no such file")


def test_a_network_without_adapters_has_none_to_write(tmp_path: Path) -> None:
    with pytest.raises(YuyanError, match="no adapter"):
        write_adapter(strong(DECODERS["window"]), tmp_path)

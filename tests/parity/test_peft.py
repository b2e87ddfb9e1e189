"""Adapters in PEFT's format, in both directions: what we write PEFT loads onto the same base, what PEFT writes we load."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_transformers import MODELS, close, our_scores, their_scores

from yuyan.hub import base_of, read_adapter, read_model, write_adapter, write_model
from yuyan.models.network import NetworkModule
from yuyan.models.surgery import resize_embeddings, without_adapters
from yuyan.nn.adapt import Lora, adapt, adapters_of

peft = pytest.importorskip("peft", reason="needs the extra `hf`: pip install 'yuyan[hf]'")
pytestmark = pytest.mark.filterwarnings("ignore")
FAMILIES = ["llama", "llama-tied", "qwen3", "qwen2", "gpt2", "bert", "bert-base", "roberta", "electra-generator",
            "modernbert", "t5", "t5-v1.1", "bert-sequence", "gpt2-sequence", "bert-answer"]  # fmt: skip
FULL = ["llama", "llama-tied", "gpt2", "bert", "t5", "modernbert"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a base with strong weights."""
    root, made = tmp_path_factory.mktemp("bases"), set[str]()

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            model = MODELS[name]().eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            model.save_pretrained(root / name)
            made.add(name)
        return root / name

    return make


def theirs(name: str, folder: Path) -> Any:
    return type(MODELS[name]()).from_pretrained(folder).eval()


def trained(model: NetworkModule, config: Lora) -> NetworkModule:
    """As after training: nothing is where it began."""
    adapt(model, config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def check_ours_in_theirs(name: str, base: Path, config: Lora, folder: Path) -> None:
    ours = read_model(base)
    identity = base_of(ours, str(base))
    trained(ours, config)
    write_adapter(ours, folder, identity)
    expected = their_scores(theirs(name, base))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted = peft.PeftModel.from_pretrained(theirs(name, base), folder).eval()
    assert not [str(w.message) for w in said if "missing" in str(w.message) or "unexpected" in str(w.message).lower()]
    close(our_scores(ours), their_scores(adapted))
    assert float((their_scores(adapted) - expected).abs().max()) > 1e-3
    again = read_model(base)
    read_adapter(again, folder)
    close(our_scores(again), our_scores(ours))
    close(our_scores(without_adapters(again)), their_scores(adapted))


@pytest.mark.parametrize("name", FAMILIES)
def test_ours_loads_in_theirs(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    check_ours_in_theirs(name, bases(name), Lora(targets=("all",), rank=3, alpha=5, rslora=True), tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "modernbert", "qwen3"])
def test_parts_of_a_fused_layer(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    check_ours_in_theirs(name, bases(name), Lora(targets=("*.q_proj", "*.v_proj"), rank=2), tmp_path)


@pytest.mark.parametrize("name", FULL)
def test_an_adapted_table_with_what_shares_it(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    check_ours_in_theirs(name, bases(name), Lora(targets=("embedding.token", "ffn"), rank=2), tmp_path)


@pytest.mark.parametrize("name", FULL)
def test_tables_and_norms_trained_in_full(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    also = ("embedding.token.weight", "*norm*")
    check_ours_in_theirs(name, bases(name), Lora(targets=("*.q_proj",), also=also), tmp_path)


TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"], "llama-tied": ["q_proj", "o_proj"], "qwen3": ["q_proj", "up_proj"],
    "gpt2": ["c_attn", "c_proj"], "bert": ["query", "value", "dense"], "modernbert": ["Wqkv", "Wi"], "t5": ["q", "wo"],
    "bert-sequence": ["query"],
}  # fmt: skip


def their_adapter(name: str, base: Path, folder: Path, **settings: Any) -> Any:
    torch.manual_seed(1)
    model = peft.get_peft_model(theirs(name, base), peft.LoraConfig(**{"r": 3, "lora_alpha": 7} | settings)).eval()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1 if "lora" in key else 0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", TARGETS)
def test_theirs_loads_in_ours(name: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    task = {"bert-sequence": "SEQ_CLS"}.get(name)
    model = their_adapter(name, bases(name), tmp_path, target_modules=TARGETS[name], task_type=task)
    ours = read_model(bases(name))
    read_adapter(ours, tmp_path)
    close(our_scores(ours), their_scores(model))
    trained = {key for key, p in ours.named_parameters() if p.requires_grad}
    assert trained == {key for key, _ in ours.named_parameters() if key.endswith((".down", ".up"))} | {
        key for key, _ in ours.named_parameters() if name == "bert-sequence" and key.startswith("head.output")
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"q_proj": 2, "model.layers.1.self_attn.v_proj": 30}},
        {"modules_to_save": ["embed_tokens", "norm"]},
        {"layers_to_transform": [1]},
        {"lora_dropout": 0.5},
    ],
)
def test_their_settings(settings: dict[str, Any], bases: Callable[[str], Path], tmp_path: Path) -> None:
    model = their_adapter("llama", bases("llama"), tmp_path, target_modules=["q_proj", "v_proj"], **settings)
    ours = read_model(bases("llama"))
    read_adapter(ours, tmp_path)
    close(our_scores(ours), their_scores(model))
    assert all(a.dropout.rate == settings.get("lora_dropout", 0.0) for a in adapters_of(ours).values())


@pytest.mark.parametrize(
    "settings", [{"target_modules": ["q_proj", "embed_tokens"]}, {"modules_to_save": ["embed_tokens"]}]
)
def test_their_tied_tables(settings: dict[str, Any], bases: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {"target_modules": ["q_proj"]} | settings
    model = their_adapter("llama-tied", bases("llama-tied"), tmp_path, ensure_weight_tying=True, **settings)
    ours = read_model(bases("llama-tied"))
    read_adapter(ours, tmp_path)
    close(our_scores(ours), their_scores(model))
    close(our_scores(without_adapters(ours)), their_scores(model))


@pytest.mark.parametrize("settings", [{"target_modules": ["lm_head"]}, {"target_modules": ["embed_tokens"]},
                                      {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}])  # fmt: skip
def test_an_adapter_that_would_untie_is_refused(
    settings: dict[str, Any], bases: Callable[[str], Path], tmp_path: Path
) -> None:
    their_adapter("llama-tied", bases("llama-tied"), tmp_path, **settings)
    ours = read_model(bases("llama-tied"))
    with pytest.raises(ValueError, match="apart, which are one in this network"):
        read_adapter(ours, tmp_path)
    assert not adapters_of(ours)


@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"bias": "all"}, {"lora_bias": True}, {"init_lora_weights": "pissa"}]
)
def test_kinds_of_adapters_that_are_not_supported_are_named(
    settings: dict[str, Any], bases: Callable[[str], Path], tmp_path: Path
) -> None:
    their_adapter("llama", bases("llama"), tmp_path, target_modules=["q_proj"], **settings)
    with pytest.raises(ValueError, match=next(iter(settings))):
        read_adapter(read_model(bases("llama")), tmp_path)


def test_an_adapter_of_new_tokens(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """Added tokens and tied weights: the adapter fits the resized base, and says so on another."""
    (tmp_path / "base").mkdir()
    ours = read_model(bases("llama-tied"))
    resize_embeddings(ours, 105)
    write_model(ours, tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    config = Lora(also=("embedding.token.weight",))
    check_ours_in_theirs("llama-tied", tmp_path / "base", config, tmp_path / "adapter")
    with pytest.raises(ValueError, match="made for 105 tokens, the network has 99"):
        read_adapter(read_model(bases("llama-tied")), tmp_path / "adapter")


def test_the_file_says_what_theirs_says(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """Every key we write is one of theirs, and of the type they write."""
    ours = trained(read_model(bases("gpt2")), Lora(targets=("attention",)))
    write_adapter(ours, tmp_path)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    known = peft.LoraConfig().to_dict()
    assert set(said) <= set(known)
    assert said["fan_in_fan_out"] is True and said["task_type"] == "CAUSAL_LM"

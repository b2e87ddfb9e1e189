"""Every family agrees with transformers, in both directions: theirs loads in ours, ours, saved, loads in theirs.

Weights are N(0, 0.3) everywhere, norms and biases included: tame starting points hide a swapped norm or a lost bias.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yuyan.hub import read_model, write_model
from yuyan.models.network import NetworkModule

hf = pytest.importorskip("transformers")
hf.logging.set_verbosity_error()

TOLERANCE = 1e-5
LLAMA: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


def llama(**settings: Any) -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA | settings))


def mistral(**settings: Any) -> Any:
    return hf.MistralForCausalLM(hf.MistralConfig(**LLAMA | settings))


def qwen2(**settings: Any) -> Any:
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**{k: v for k, v in LLAMA.items() if k != "head_dim"} | settings))


def qwen3(**settings: Any) -> Any:
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**LLAMA | settings))


def scaled(kind: str, **settings: Any) -> Callable[[], Any]:
    return lambda: llama(rope_parameters={"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **settings})


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama-tied": lambda: llama(tie_word_embeddings=True),
    "llama-biases": lambda: llama(attention_bias=True, mlp_bias=True, num_key_value_heads=4),
    "llama-base": lambda: hf.LlamaModel(hf.LlamaConfig(**LLAMA)),
    "llama3-rope": lambda: llama(rope_parameters=LLAMA3),
    "llama-linear": scaled("linear"),
    "llama-dynamic": lambda: llama(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}, max_position_embeddings=10
    ),
    "llama-yarn": scaled("yarn", original_max_position_embeddings=16),
    "mistral": lambda: mistral(sliding_window=None),
    "mistral-window": lambda: mistral(sliding_window=5),
    "qwen2": lambda: qwen2(),
    "qwen2-window": lambda: qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=2),
    "qwen3": lambda: qwen3(rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    "qwen3-tied": lambda: qwen3(tie_word_embeddings=True, num_key_value_heads=4),
}


@pytest.fixture(scope="module")
def theirs() -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in made:
            torch.manual_seed(0)
            model = MODELS[name]().eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            made[name] = model
        return made[name]

    return make


def batch() -> tuple[Tensor, Tensor]:
    """Three texts, one of them shorter than the row."""
    ids = torch.randint(3, 99, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    return ids, mask


def their_scores(model: Any) -> Tensor:
    ids, mask = batch()
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask)
    return (out.logits if "logits" in out else out.last_hidden_state)[mask.bool()]


def our_scores(model: NetworkModule) -> Tensor:
    ids, mask = batch()
    with torch.no_grad():
        hidden = model.encode(ids, mask) if model.decoder is None else model.decode(ids, mask)
        return (hidden if model.head is None else model.score(hidden))[mask.bool()]


def close(ours: Tensor, theirs: Tensor) -> None:
    worst = float((ours - theirs).abs().max() / theirs.abs().max())
    assert worst < TOLERANCE, worst


@pytest.mark.parametrize("name", MODELS)
def test_theirs_loads_in_ours(name: str, theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs(name).save_pretrained(tmp_path)
    close(our_scores(read_model(tmp_path)), their_scores(theirs(name)))


@pytest.mark.parametrize("name", MODELS)
def test_ours_loads_in_theirs(name: str, theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs(name).save_pretrained(tmp_path / "theirs")
    ours = read_model(tmp_path / "theirs")
    written = write_model(ours, tmp_path / "ours")
    assert written != "yuyan"
    again, report = type(theirs(name)).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    close(our_scores(ours), their_scores(again.eval()))


@pytest.mark.parametrize("name", MODELS)
def test_a_round_trip_changes_no_bit(name: str, theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs(name).save_pretrained(tmp_path / "theirs")
    ours = read_model(tmp_path / "theirs")
    write_model(ours, tmp_path / "ours")
    again = read_model(tmp_path / "ours")
    assert again.config == ours.config
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in ours.state_dict().items())
    back = type(theirs(name)).from_pretrained(tmp_path / "ours").state_dict()
    for key, tensor in theirs(name).state_dict().items():
        assert torch.equal(back[key], tensor), key


def test_old_spellings_of_rotary_settings_give_the_same_model(theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs("llama3-rope").save_pretrained(tmp_path)
    new = read_model(tmp_path).config
    config = json.loads((tmp_path / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    for key in ("rope_type", "type"):
        kind = parameters.pop("rope_type", None) or parameters.pop("type", None)
        config["rope_scaling"] = parameters | {key: kind}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_model(tmp_path).config == new
        parameters = dict(config["rope_scaling"])

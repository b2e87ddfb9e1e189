"""Model folders without any other library: round trips, names, and every refusal with the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sides import ALL, hidden_of, network, reader, same, stack, strong, texts
from toy_folders import edit, rewrite

from yuyan.hub import family_of, read_config, read_model, write_model
from yuyan.hub.names import Row, Stacked, Transposed, TransposedThirds, find_theirs
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import LabelHead, LanguageModelHead, MaskedHead, PoolerHead, ReplacedHead
from yuyan.nn.mask import Causal, Full, TwoSidedWindow, Window
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Learned, RelativeBias, Rotary
from yuyan.nn.recurrent import Recurrent
from yuyan.nn.rotary import DynamicScaling, Llama3Scaling
from yuyan.nn.stack import Local

LEARNED = Learned(max_position_embeddings=32)
LABELS = LabelHead(labels=("no", "yes"), pool="last", bias=False)
ENDING = LabelHead(labels=("no", "yes"), pool="last", activation="tanh", start=0)


def bert(head: Any, offset: int = 0, size: int | None = None, types: int = 2, activation: Any = "gelu") -> Network:
    encoder = reader(
        residual="post", norm=LayerNorm(), position=Learned(max_position_embeddings=32, offset=offset),
        ffn=Mlp(intermediate_size=32, activation=activation), heads=Heads(count=4, bias=True), dropout=0.1,
    )  # fmt: skip
    embedding = Embedding(type_vocab_size=types, norm=LayerNorm(), size=size)
    return network(encoder=encoder, embedding=embedding, head=head)


def t5(ffn: Any, head: Any, alone: bool = False) -> Network:
    def side(causal: bool) -> Any:
        position = RelativeBias(num_buckets=8, max_distance=12, bidirectional=not causal)
        mask = Causal() if causal else Full()
        return stack(ffn=ffn, heads=Heads(count=4, scale=1.0), position=position, mask=mask, cross=causal)

    return network(encoder=side(False), decoder=None if alone else side(True), head=head)


PRE_LAYER_NORM = {"norm": LayerNorm(), "position": LEARNED, "ffn": Mlp(intermediate_size=32, activation="gelu_tanh")}
MASKED = MaskedHead(norm=LayerNorm())
EXPRESSIBLE: dict[str, tuple[str, Network]] = {
    "gpt2": ("gpt2", network(decoder=stack(heads=Heads(count=4, bias=True), **PRE_LAYER_NORM))),
    "gpt2 labels": ("gpt2", network(decoder=stack(heads=Heads(count=4, bias=True), **PRE_LAYER_NORM), head=LABELS)),
    "llama": ("llama", network(decoder=stack(dropout=0.1), embedding=Embedding(dropout=0.2))),
    "llama, scaled positions": (
        "llama",
        network(
            decoder=stack(
                position=Rotary(
                    scaling=Llama3Scaling(
                        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8
                    )
                )
            )
        ),
    ),
    "llama, dynamic positions": (
        "llama",
        network(decoder=stack(position=Rotary(scaling=DynamicScaling(factor=2.0, original_max_position_embeddings=8)))),
    ),
    "llama labels": ("llama", network(decoder=stack(), head=LABELS)),
    **{
        f"{family} {kind}": (family, network(decoder=stack(**seams), head=LabelHead(labels=labels, pool="none")))
        for kind, labels in (("tokens", ("no", "yes")), ("answer", ("start", "end")))
        for family, seams in (
            ("llama", {}),
            ("mistral", {"mask": Window(size=5)}),
            ("qwen2", {"heads": Heads(count=4, bias=True, output_bias=False)}),
            ("qwen3", {"heads": Heads(count=4, key_value_heads=2, qk_norm=RMSNorm())}),
        )
    },
    "mistral": ("mistral", network(decoder=stack(mask=Window(size=5)), head=LanguageModelHead(tied=False))),
    "qwen2": ("qwen2", network(decoder=stack(heads=Heads(count=4, bias=True, output_bias=False)))),
    "qwen3": ("qwen3", network(decoder=stack(heads=Heads(count=4, key_value_heads=2, qk_norm=RMSNorm())))),
    "qwen3 windows": (
        "qwen3",
        network(
            decoder=stack(heads=Heads(count=4, qk_norm=RMSNorm()), local=Local(layers=(0,), mask=Window(size=3))), head=None
        ),
    ),
    "bert": ("bert", bert(MASKED)),
    "bert pooler": ("bert", bert(PoolerHead())),
    "bert alone": ("bert", bert(None)),
    "bert labels": ("bert", bert(LabelHead(labels=("no", "yes"), activation="tanh"))),
    "roberta": ("roberta", bert(MASKED, offset=2, types=1)),
    "bert with tanh": ("bert", bert(MaskedHead(norm=LayerNorm(), activation="tanh"), activation="tanh")),
    "electra": ("electra", bert(ReplacedHead(), size=12)),
    "electra generator": ("electra", bert(MASKED, size=12)),
    "modernbert": (
        "modernbert",
        network(
            encoder=reader(
                norm=LayerNorm(bias=False), first_norm=False, ffn=Gated(intermediate_size=32, activation="gelu"),
                position=Rotary(theta=160_000.0),
                local=Local(layers=(1,), mask=TwoSidedWindow(reach=4), position=Rotary(theta=10_000.0)),
            ),
            embedding=Embedding(norm=LayerNorm(bias=False)),
            head=MaskedHead(norm=LayerNorm(bias=False), dense_bias=False),
        ),
    ),
    "t5": ("t5", t5(Mlp(intermediate_size=32, activation="relu", bias=False), LanguageModelHead(scaled=True))),
    "t5 v1.1": ("t5", t5(Gated(intermediate_size=32, activation="gelu_tanh"), LanguageModelHead(tied=False))),
    "t5 labels": ("t5", t5(Gated(intermediate_size=32, activation="gelu_tanh"), ENDING)),
    "t5 answer": (
        "t5",
        t5(Gated(intermediate_size=32, activation="gelu_tanh"), LabelHead(labels=("start", "end"), pool="none", start=4)),
    ),
    "t5 tokens": ("t5", t5(Gated(intermediate_size=32), LabelHead(labels=("no", "yes"), pool="none"), alone=True)),
    "t5 encoder": ("t5", t5(Gated(intermediate_size=32, activation="gelu_tanh"), None, alone=True)),
}  # fmt: skip


def written(config: Network, folder: Path, **settings: Any) -> NetworkModule:
    model = strong(config)
    write_model(model, folder, **settings)
    return model


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_a_family_expresses_what_it_can(name: str, tmp_path: Path) -> None:
    family, config = EXPRESSIBLE[name]
    model = strong(config)
    assert write_model(model, tmp_path) == family
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == family
    again = read_model(tmp_path)
    assert same(again, model)  # dropouts too, which no family has in all places
    assert torch.equal(hidden_of(again, texts()), hidden_of(model, texts()))
    assert read_config(tmp_path) == model.config


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_other_peoples_settings_alone_give_the_same_scores(name: str, tmp_path: Path) -> None:
    _, config = EXPRESSIBLE[name]
    model = written(config, tmp_path)
    edit(tmp_path, lambda data: data.pop("yuyan"))
    assert torch.equal(hidden_of(read_model(tmp_path), texts()), hidden_of(model, texts()))


@pytest.mark.parametrize("name", ALL)
def test_every_network_has_a_folder(name: str, tmp_path: Path) -> None:
    model = written(ALL[name], tmp_path)
    assert same(read_model(tmp_path), model)


def test_a_network_that_no_family_has_is_written_as_ours(tmp_path: Path) -> None:
    odd = network(decoder=stack(norm=LayerNorm()))
    assert family_of(odd) is None
    assert write_model(strong(odd), tmp_path) == "yuyan"
    lstm = network(decoder=Recurrent(num_layers=1))
    assert write_model(strong(lstm), tmp_path / "lstm") == "yuyan"
    data = json.loads((tmp_path / "lstm" / "config.json").read_text())
    assert data["model_type"] == "yuyan" and data["architecture"]["kind"] == "network"


def test_shards_are_written_and_read(tmp_path: Path) -> None:
    model = written(EXPRESSIBLE["t5"][1], tmp_path, shard_bytes=20_000)
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2 and not (tmp_path / "model.safetensors").exists()
    assert max(shard.stat().st_size for shard in shards) < 25_000
    assert same(read_model(tmp_path), model)


def test_a_folder_written_again_with_fewer_shards_is_the_new_model(tmp_path: Path) -> None:
    for size in (20_000, 10**9, 8_000, 30_000):
        model = written(EXPRESSIBLE["t5" if size == 20_000 else "llama"][1], tmp_path, shard_bytes=size)
        assert same(read_model(tmp_path), model)


def test_numbers_can_stay_as_they_are_stored(tmp_path: Path) -> None:
    model = strong(EXPRESSIBLE["llama"][1]).to(torch.bfloat16)
    write_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert read_model(tmp_path, dtype=None).embedding.token.weight.dtype == torch.bfloat16
    assert torch.equal(read_model(tmp_path).embedding.token.weight, model.embedding.token.weight.float())


def test_special_ids_go_where_others_look(tmp_path: Path) -> None:
    written(EXPRESSIBLE["llama"][1], tmp_path, special_ids={"bos_token_id": 1, "eos_token_id": 2}, context=77)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["max_position_embeddings"]) == (1, 2, 77)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"bos_token_id": 1, "eos_token_id": 2}


def test_a_network_whose_padding_is_not_robertas_is_not_written_as_roberta(tmp_path: Path) -> None:
    assert write_model(strong(EXPRESSIBLE["roberta"][1]), tmp_path, special_ids={"pad_token_id": 1}) == "roberta"
    assert write_model(strong(EXPRESSIBLE["roberta"][1]), tmp_path, special_ids={"pad_token_id": 0}) == "yuyan"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "change", [Transposed(), TransposedThirds(), Stacked(2), Stacked(3)], ids=["turned", "thirds", "two", "three"]
)
@pytest.mark.parametrize("shape", [(12, 12), (12,)])
def test_a_change_has_an_inverse(change: Transposed | Stacked, shape: tuple[int, ...]) -> None:
    theirs = torch.arange(float(torch.Size(shape).numel())).view(shape)
    assert torch.equal(change.save(change.load(theirs)), theirs)


def test_placeholders_stand_for_what_they_say() -> None:
    table = (Row("h.{i}.{p}", "layers.{i}.{p}"), Row("x.{a}", "y.{a}"))
    found = find_theirs(table, "h.12.bias")
    assert found is not None and found[1] == {"i": "12", "p": "bias"}
    assert find_theirs(table, "h.x.bias") is None
    assert find_theirs(table, "hx12.bias") is None  # a dot is a dot
    assert find_theirs(table, "x.w") is None


def test_names_without_the_first_part_and_old_names_of_norms_are_known(tmp_path: Path) -> None:
    model = written(EXPRESSIBLE["bert"][1], tmp_path)

    def old(name: str) -> str:
        name = name.removeprefix("bert.")
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    rewrite(tmp_path, lambda tensors: {old(name): tensor for name, tensor in tensors.items()})
    assert same(read_model(tmp_path), model)

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
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuyan.hub import read_model, write_model
from yuyan.hub.labels import ANSWER, SEQUENCE, TOKEN
from yuyan.models.network import NetworkModule
from yuyan.models.presets import ModernBert
from yuyan.nn.head import LabelHead, LanguageModelHead, PoolerHead
from yuyan.nn.initialise import Initialisation
from yuyan.nn.position import RelativeBias, RelativeBiasPosition

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


def gpt2(name: str = "GPT2LMHeadModel", **settings: Any) -> Any:
    sizes = {"vocab_size": 99, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    return getattr(hf, name)(hf.GPT2Config(**sizes | {"pad_token_id": 1} | settings))


BERT: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
LABELS: dict[str, Any] = {"num_labels": 3, "id2label": {0: "no", 1: "yes", 2: "perhaps"}, "pad_token_id": 1}


def labelled(family: str, ending: str) -> Callable[[], Any]:
    """Llama or one of its heirs with a head of labels."""
    sizes = {k: v for k, v in LLAMA.items() if k != "head_dim" or family != "Qwen2"}
    labels = {"pad_token_id": 1} if ending == ANSWER else LABELS
    window = {"sliding_window": 5} if family == "Mistral" else {}
    return lambda: getattr(hf, family + ending)(getattr(hf, family + "Config")(**sizes | labels | window))


def bert(name: str = "BertForMaskedLM", **settings: Any) -> Any:
    return getattr(hf, name)(hf.BertConfig(**BERT | settings))


def roberta(name: str = "RobertaForMaskedLM", **settings: Any) -> Any:
    return getattr(hf, name)(hf.RobertaConfig(**BERT | settings))


def electra(name: str, **settings: Any) -> Any:
    return getattr(hf, name)(hf.ElectraConfig(**BERT | {"embedding_size": 24} | settings))


def modernbert(name: str = "ModernBertForMaskedLM", **settings: Any) -> Any:
    sizes = BERT | {"num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 1, "bos_token_id": 0}
    return getattr(hf, name)(hf.ModernBertConfig(**sizes | settings))


def t5(name: str = "T5ForConditionalGeneration", **settings: Any) -> Any:
    sizes = {
        "vocab_size": 99, "d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
    }  # fmt: skip
    return getattr(hf, name)(hf.T5Config(**sizes | settings))


ENDS: dict[str, Any] = {"eos_token_id": 2, "decoder_start_token_id": 0}
V11: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": gpt2,
    "gpt2-untied": lambda: gpt2(tie_word_embeddings=False, n_inner=40),
    "gpt2-base": lambda: gpt2("GPT2Model"),
    "gpt2-sequence": lambda: gpt2("GPT2ForSequenceClassification", **LABELS),
    "gpt2-tokens": lambda: gpt2("GPT2ForTokenClassification", **LABELS),
    "gpt2-answer": lambda: gpt2("GPT2ForQuestionAnswering"),
    "bert": bert,
    "bert-tanh-gelu": lambda: bert(hidden_act="gelu_new", type_vocab_size=1),
    "bert-base": lambda: bert("BertModel"),
    "bert-sequence": lambda: bert("BertForSequenceClassification", **LABELS),
    "bert-tokens": lambda: bert("BertForTokenClassification", **LABELS),
    "bert-answer": lambda: bert("BertForQuestionAnswering"),
    "roberta": roberta,
    "roberta-base": lambda: roberta("RobertaModel"),
    "roberta-sequence": lambda: roberta("RobertaForSequenceClassification", **LABELS),
    "roberta-tokens": lambda: roberta("RobertaForTokenClassification", **LABELS),
    "roberta-answer": lambda: roberta("RobertaForQuestionAnswering"),
    "electra-generator": lambda: electra("ElectraForMaskedLM"),
    "electra-discriminator": lambda: electra("ElectraForPreTraining", embedding_size=32),
    "electra-base": lambda: electra("ElectraModel"),
    "electra-sequence": lambda: electra("ElectraForSequenceClassification", **LABELS),
    "electra-tokens": lambda: electra("ElectraForTokenClassification", **LABELS),
    "electra-answer": lambda: electra("ElectraForQuestionAnswering"),
    "modernbert": modernbert,
    "modernbert-biases": lambda: modernbert(attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True),
    "modernbert-base": lambda: modernbert("ModernBertModel"),
    "modernbert-sequence": lambda: modernbert("ModernBertForSequenceClassification", **LABELS),
    "modernbert-mean": lambda: modernbert("ModernBertForSequenceClassification", classifier_pooling="mean", **LABELS),
    "modernbert-tokens": lambda: modernbert("ModernBertForTokenClassification", **LABELS),
    "modernbert-answer": lambda: modernbert("ModernBertForQuestionAnswering"),
    "t5": t5,
    "t5-v1.1": lambda: t5(**V11),
    "t5-base": lambda: t5("T5Model"),
    "t5-encoder": lambda: t5("T5EncoderModel"),
    "t5-sequence": lambda: t5("T5ForSequenceClassification", **LABELS | ENDS),
    "t5-sequence-v1.1": lambda: t5("T5ForSequenceClassification", **LABELS | ENDS | V11),
    "t5-tokens": lambda: t5("T5ForTokenClassification", **LABELS),
    "t5-answer": lambda: t5("T5ForQuestionAnswering", **ENDS | {"decoder_start_token_id": 7}),
    **{
        f"{name.lower()}-{short}": labelled(name, ending)
        for name in ("Llama", "Mistral", "Qwen2", "Qwen3")
        for short, ending in (("sequence", SEQUENCE), ("tokens", TOKEN), ("answer", ANSWER))
    },
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
    """Three texts, one of them shorter than the row; each ends with token 2, where T5 looks for its end."""
    ids = torch.randint(3, 99, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    ids[[0, 1, 2], [16, 11, 16]] = 2
    return ids.masked_fill(mask == 0, 1), mask


def their_scores(model: Any) -> Tensor:
    ids, mask = batch()
    own = any(name.endswith(("qa_outputs", "classification_head")) for name, _ in model.named_modules())
    extra = {"decoder_input_ids": ids[:, :9]} if model.config.is_encoder_decoder and not own else {}
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, **extra)
    if "start_logits" in out:
        return torch.stack((out.start_logits, out.end_logits), -1)[mask.bool()]
    scores = out.logits if "logits" in out else out.last_hidden_state
    if "pooler_output" in out:
        scores = torch.cat((scores, out.pooler_output[:, None].expand_as(scores)), -1)
    if scores.ndim == 2 and scores.shape == ids.shape:
        scores = scores[:, :, None]  # a discriminator's
    if extra:
        return scores.flatten(0, 1)
    return scores if scores.ndim == 2 else scores[mask.bool()]


def our_scores(model: NetworkModule) -> Tensor:
    ids, mask = batch()
    with torch.no_grad():
        if isinstance(model.config.head, LabelHead):
            scores = model.classify(ids, mask)
            return scores if scores.ndim == 2 else scores[mask.bool()]
        if model.encoder is not None and model.decoder is not None:
            hidden = model.decode(ids[:, :9], memory=model.encode(ids, mask), memory_mask=mask)
            return (hidden if model.head is None else model.score(hidden)).flatten(0, 1)
        hidden = model.read(ids, mask)
        if isinstance(model.config.head, PoolerHead):
            hidden = torch.cat((hidden, model.score(hidden[:, :1]).expand_as(hidden)), -1)
        elif model.head is not None:
            hidden = model.score(hidden)
        return hidden[mask.bool()]


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape and float(theirs.std()) > 0.01
    worst = float((ours - theirs).abs().max())
    assert worst < TOLERANCE, worst


@pytest.mark.parametrize("name", MODELS)
def test_theirs_loads_in_ours(name: str, theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs(name).save_pretrained(tmp_path)
    close(our_scores(read_model(tmp_path)), their_scores(theirs(name)))


@pytest.mark.parametrize("name", MODELS)
def test_ours_loads_in_theirs(name: str, theirs: Callable[[str], Any], tmp_path: Path) -> None:
    theirs(name).save_pretrained(tmp_path / "theirs")
    ours = read_model(tmp_path / "theirs")
    written = write_model(ours, tmp_path / "ours", special_ids={"pad_token_id": 1, "eos_token_id": 2})
    assert written != "yuyan"
    again, report = type(theirs(name)).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    close(our_scores(ours), their_scores(again.eval()))
    if name.endswith(("sequence", "tokens")):
        assert again.config.id2label == LABELS["id2label"] and again.config.num_labels == 3


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


def test_a_t5_with_an_output_table_of_its_own(theirs: Callable[[str], Any], tmp_path: Path) -> None:
    """As t5-v1_1 and flan-t5 are published: old keys, and an `lm_head` that is no copy of the embedding."""
    theirs("t5-v1.1").save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    del config["scale_decoder_outputs"]
    config["tie_word_embeddings"] = False
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(99, 32)
    save_file(tensors, tmp_path / "theirs" / "model.safetensors", metadata={"format": "pt"})
    ours = read_model(tmp_path / "theirs")
    assert ours.config.head == LanguageModelHead(tied=False, scaled=False)
    loaded = hf.T5ForConditionalGeneration.from_pretrained(tmp_path / "theirs").eval()
    expected = their_scores(loaded)
    close(our_scores(ours), expected)
    loaded.save_pretrained(tmp_path / "again")  # now the keys say "tied", and only the tensors know better
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is True
    close(our_scores(read_model(tmp_path / "again")), expected)
    assert write_model(ours, tmp_path / "ours") == "t5"
    close(their_scores(hf.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()), expected)


@pytest.mark.parametrize("reach", [None, 4])
def test_a_new_modernbert_is_one_for_them(reach: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 3, "num_heads": 4, "reach": reach, "dropout": 0.1}
    ours = ModernBert(**sizes, initialisation=Initialisation(std=0.3)).build(99, seed=0).eval()
    assert write_model(ours, tmp_path, special_ids={"pad_token_id": 1}) == "modernbert"
    theirs, report = hf.ModernBertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.layer_types == ["full_attention", *2 * ["sliding_attention" if reach else "full_attention"]]
    close(our_scores(ours), their_scores(theirs.eval()))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (64, 1000)])
def test_buckets_of_all_distances(bidirectional: bool, buckets: int, distance: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    offsets = torch.arange(-3000, 3001)[None]
    config = RelativeBias(num_buckets=buckets, max_distance=distance, bidirectional=bidirectional)
    expected = T5Attention._relative_position_bucket(offsets, bidirectional, buckets, distance)
    assert torch.equal(RelativeBiasPosition(config, 2).bucket(offsets), expected)

"""The settings of well-known models, as their folders spell them, are understood, and give models of the known size.

Sizes are counted by transformers too, which builds each model without memory for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from yuyan.config import dump
from yuyan.hub.families import FAMILIES, family_of
from yuyan.hub.family import comparable
from yuyan.hub.llama import MISTRAL
from yuyan.hub.published import ACTIVATION_NAMES
from yuyan.models.cost import parameter_count
from yuyan.models.network import Network
from yuyan.nn.ffn import Gated
from yuyan.nn.mask import Causal
from yuyan.nn.rotary import Llama3Scaling, YarnScaling
from yuyan.nn.stack import Stack

hf = pytest.importorskip("transformers")

BERT: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2,
}  # fmt: skip
PUBLISHED: dict[str, tuple[str, int, dict[str, Any]]] = {
    "gpt2": (
        "GPT2LMHeadModel",
        124_439_808,
        {
            "activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1,
            "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
            "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
            "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
            "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": 50257,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        },
    ),
    "bert-base-uncased": (
        "BertForMaskedLM",
        109_514_298,
        BERT | {
            "gradient_checkpointing": False, "model_type": "bert", "pad_token_id": 0, "position_embedding_type": "absolute",
            "transformers_version": "4.6.0.dev0", "use_cache": True, "vocab_size": 30522,
        },
    ),
    "bert-base-chinese": (
        "BertForMaskedLM",
        102_290_312,
        BERT | {
            "directionality": "bidi", "model_type": "bert", "pad_token_id": 0, "pooler_fc_size": 768,
            "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
            "pooler_type": "first_token_transform", "vocab_size": 21128,
        },
    ),
    "roberta-base": (
        "RobertaForMaskedLM",
        124_697_433,
        BERT | {
            "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
            "model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 50265,
        },
    ),
    "electra-small-discriminator": (
        "ElectraForPreTraining",
        13_549_057,
        BERT | {
            "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024, "model_type": "electra",
            "num_attention_heads": 4, "pad_token_id": 0, "position_embedding_type": "absolute",
            "summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first",
            "summary_use_proj": True, "vocab_size": 30522,
        },
    ),
    "modernbert-base": (
        "ModernBertForMaskedLM",
        149_655_232,
        {
            "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 50281, "classifier_activation": "gelu",
            "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "mean", "cls_token_id": 50281,
            "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0, "eos_token_id": 50282,
            "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "gradient_checkpointing": False,
            "hidden_activation": "gelu", "hidden_size": 768, "initializer_cutoff_factor": 2.0, "initializer_range": 0.02,
            "intermediate_size": 1152, "layer_norm_eps": 1e-05, "local_attention": 128, "local_rope_theta": 10000.0,
            "max_position_embeddings": 8192, "mlp_bias": False, "mlp_dropout": 0.0, "model_type": "modernbert",
            "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 12, "num_hidden_layers": 22,
            "pad_token_id": 50283, "position_embedding_type": "absolute", "reference_compile": None,
            "sep_token_id": 50282, "tie_word_embeddings": True, "torch_dtype": "float32", "vocab_size": 50368,
        },
    ),
    "t5-small": (
        "T5ForConditionalGeneration",
        60_506_624,
        {
            "d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "dropout_rate": 0.1,
            "eos_token_id": 1, "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06,
            "model_type": "t5", "n_positions": 512, "num_heads": 8, "num_layers": 6, "output_past": True,
            "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128,
            "task_specific_params": {"summarization": {"num_beams": 4}},
        },
    ),
    "t5-v1_1-small": (
        "T5ForConditionalGeneration",
        76_961_152,
        {
            "d_ff": 1024, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "dropout_rate": 0.1,
            "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
            "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "num_decoder_layers": 8,
            "num_heads": 6, "num_layers": 8, "output_past": True, "pad_token_id": 0,
            "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "vocab_size": 32128,
        },
    ),
    "Llama-2-7b": (
        "LlamaForCausalLM",
        6_738_415_616,
        {
            "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
            "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16",
            "use_cache": True, "vocab_size": 32000,
        },
    ),
    "Llama-3.2-1B": (
        "LlamaForCausalLM",
        1_235_814_400,
        {
            "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
            "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
            "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
            "rope_scaling": {
                "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3",
            },
        },
    ),
    "Mistral-7B-v0.1": (
        "MistralForCausalLM",
        7_241_732_096,
        {
            "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
            "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
            "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
        },
    ),
    "Qwen2.5-0.5B": (
        "Qwen2ForCausalLM",
        494_032_768,
        {
            "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu",
            "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
            "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
            "use_mrope": False, "use_sliding_window": False, "vocab_size": 151936,
        },
    ),
    "Qwen3-0.6B": (
        "Qwen3ForCausalLM",
        596_049_920,
        {
            "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
            "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
            "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
            "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
            "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
            "use_sliding_window": False, "vocab_size": 151936,
        },
    ),
}  # fmt: skip


def read(name: str, **settings: Any) -> Network:
    architecture, _, data = PUBLISHED[name]
    family = next(family for family in FAMILIES if family.model_type == data["model_type"])
    return family.network({"architectures": [architecture]} | data | settings, "config.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_size(name: str) -> None:
    architecture, size, data = PUBLISHED[name]
    assert parameter_count(read(name)) == size
    with torch.device("meta"):
        theirs = getattr(hf, architecture)(hf.AutoConfig.for_model(**data))
    table = 32128 * 512 if name == "t5-v1_1-small" else 0  # version 5 shares the table until a file says otherwise
    assert theirs.num_parameters() + table == size


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_written_as_their_family(name: str) -> None:
    network = read(name)
    found = family_of(network)
    assert found is not None
    expected = PUBLISHED[name][2]["model_type"]
    assert found[0].model_type == expected
    assert comparable(found[0].network(found[1], "config.json")) == comparable(network)


def test_scaled_positions_of_published_models() -> None:
    scaled = read("Llama-3.2-1B").decoder
    assert isinstance(scaled, Stack)
    assert dump(scaled.position) == {
        "kind": "rotary", "theta": 500000.0, "scaling": {
            "kind": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }  # fmt: skip
    assert isinstance(scaled.position.scaling, Llama3Scaling)  # type: ignore[union-attr]
    # as Qwen2.5's card tells its users to write for long texts
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    longer = read("Qwen2.5-0.5B", rope_scaling=yarn).decoder
    assert isinstance(longer, Stack)
    assert longer.position.scaling == YarnScaling(factor=4.0, original_max_position_embeddings=32768)  # type: ignore[union-attr]
    # and in a folder of today, which has `rope_parameters` already
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}
    assert read("Qwen2.5-0.5B", rope_scaling=yarn, **plain).decoder == longer
    with pytest.raises(ValueError, match="original_max_position_embeddings: 4096 here, but 32768 in rope_parameters"):
        read("Qwen2.5-0.5B", rope_scaling=yarn, original_max_position_embeddings=4096)


def test_what_a_config_leaves_open_is_as_in_transformers() -> None:
    architecture, _, data = PUBLISHED["Mistral-7B-v0.1"]
    open_ = {key: value for key, value in data.items() if key != "sliding_window"} | {"architectures": [architecture]}
    theirs = hf.AutoConfig.for_model(**open_).sliding_window
    assert MISTRAL.network(open_, "config.json") == read("Mistral-7B-v0.1", sliding_window=theirs)
    unbounded = read("Mistral-7B-v0.1", sliding_window=None).decoder
    assert isinstance(unbounded, Stack)
    assert unbounded.mask == Causal()


def test_the_activation_of_a_t5_may_be_said_twice() -> None:
    for name, wanted in (("gelu", "gelu"), ("gelu_new", "gelu_tanh"), (None, "gelu_tanh")):
        encoder = read("t5-v1_1-small", dense_act_fn=name, is_gated_act=True).encoder
        theirs = hf.AutoConfig.for_model(**PUBLISHED["t5-v1_1-small"][2] | ({"dense_act_fn": name} if name else {}))
        assert isinstance(encoder, Stack)
        assert encoder.ffn.activation == wanted == ACTIVATION_NAMES[theirs.dense_act_fn]
    plain = read("t5-small", is_gated_act=True).encoder
    assert isinstance(plain, Stack)
    assert isinstance(plain.ffn, Gated)

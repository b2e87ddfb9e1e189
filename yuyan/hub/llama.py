"""Llama and its heirs Mistral, Qwen2 and Qwen3: one block, small differences of config.

RMSNorm before each part, rotary positions, grouped queries, a gated feed-forward layer (Touvron 2023). Mistral looks
through a window.
"""

from __future__ import annotations

from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.names import Row
from yuyan.hub.published import PUBLISHED_ACTIVATIONS, Published
from yuyan.hub.rope import read_rotary, write_rotary
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Gated
from yuyan.nn.head import LanguageModelHead
from yuyan.nn.mask import Causal, Mask, Window
from yuyan.nn.norm import RMSNorm
from yuyan.nn.position import Rotary
from yuyan.nn.stack import Local, Stack

LLAMA_TABLE = (
    Row("model.embed_tokens.weight", "embedding.token.weight"),
    Row("model.layers.{i}.input_layernorm.weight", "decoder.layers.{i}.attention.norm.weight"),
    Row("model.layers.{i}.self_attn.{a}_proj.{p}", "decoder.layers.{i}.attention.inner.{a}_proj.{p}"),
    Row("model.layers.{i}.self_attn.{a}_norm.weight", "decoder.layers.{i}.attention.inner.{a}_norm.weight"),
    Row("model.layers.{i}.post_attention_layernorm.weight", "decoder.layers.{i}.ffn.norm.weight"),
    Row("model.layers.{i}.mlp.{m}_proj.{p}", "decoder.layers.{i}.ffn.inner.{m}_proj.{p}"),
    Row("model.norm.weight", "decoder.norm.weight"),
    Row("lm_head.weight", "head.output.weight", tied="embedding.token.weight"),
    Row("model.layers.{i}.self_attn.rotary_emb.inv_freq"),
)


def llama_like(
    c: Published, heads: dict[str, Any], mask: Mask, local: Local | None = None, bias: bool = False
) -> Network:
    """The network of a config with Llama's keys."""
    hidden_size, count = c.take("hidden_size", int), c.take("num_attention_heads", int)
    rms_norm = RMSNorm(eps=c.take("rms_norm_eps", float, 1e-6))
    shape = Heads(
        count=count,
        head_size=c.maybe("head_dim", int),
        key_value_heads=c.maybe("num_key_value_heads", int),
        dropout=c.take("attention_dropout", float, 0.0),
        qk_norm=rms_norm if heads.pop("qk_norm", False) else None,
        **heads,
    )
    stack = Stack(
        num_layers=c.take("num_hidden_layers", int),
        heads=shape,
        ffn=Gated(
            intermediate_size=c.take("intermediate_size", int), activation=c.activation("hidden_act", "silu"), bias=bias
        ),
        norm=rms_norm,
        position=read_rotary(c),
        mask=mask,
        local=local,
    )
    tied = c.take("tie_word_embeddings", bool, False)
    head = LanguageModelHead(tied=tied) if has_head(c) else None
    return Network(vocab_size=c.take("vocab_size", int), hidden_size=hidden_size, decoder=stack, head=head)


def has_head(c: Published) -> bool:
    """Whether the folder is one of a language model, by the name of its class; unnamed ones are."""
    names = c.maybe("architectures", list) or ["ForCausalLM"]
    name = str(names[0])
    if name.endswith("ForCausalLM"):
        return True
    if name.endswith("Model"):
        return False
    raise c.wrong("architectures", f"{name} is not supported")


def llama_keys(network: Network, name: str) -> dict[str, Any] | None:
    """Llama's keys for a network, if it has Llama's parts at all; `name` is what classes begin with."""
    stack, head = network.decoder, network.head
    if not isinstance(stack, Stack) or not isinstance(stack.position, Rotary) or not isinstance(stack.ffn, Gated):
        return None
    if not isinstance(stack.norm, RMSNorm) or not isinstance(head, LanguageModelHead | None):
        return None
    return {
        "architectures": [f"{name}ForCausalLM" if head else f"{name}Model"],
        "vocab_size": network.vocab_size,
        "hidden_size": network.hidden_size,
        "intermediate_size": stack.ffn.intermediate_size,
        "num_hidden_layers": stack.num_layers,
        "num_attention_heads": stack.heads.count,
        "num_key_value_heads": stack.heads.key_value_heads,
        "head_dim": stack.heads.head_size,
        "hidden_act": PUBLISHED_ACTIVATIONS[stack.ffn.activation],
        "rms_norm_eps": stack.norm.eps,
        "attention_dropout": stack.heads.dropout,
        "tie_word_embeddings": head.tied if head else False,
        **write_rotary(stack.position),
    }


# ---------------------------------------------------------------- Llama


def read_llama(c: Published) -> Network:
    bias = c.take("attention_bias", bool, False)
    return llama_like(c, {"bias": bias}, Causal(), bias=c.take("mlp_bias", bool, False))


def write_llama(network: Network) -> dict[str, Any] | None:
    keys, stack = llama_keys(network, "Llama"), network.decoder
    if keys is None or not isinstance(stack, Stack):
        return None
    return keys | {"attention_bias": stack.heads.bias, "mlp_bias": stack.ffn.bias}


LLAMA = Family("llama", read_llama, write_llama, lambda network: LLAMA_TABLE, "model.")


# ---------------------------------------------------------------- Mistral


def read_mistral(c: Published) -> Network:
    window = c.maybe("sliding_window", int)
    return llama_like(c, {}, Causal() if window is None else Window(size=window))


def write_mistral(network: Network) -> dict[str, Any] | None:
    keys, stack = llama_keys(network, "Mistral"), network.decoder
    if keys is None or not isinstance(stack, Stack):
        return None
    return keys | {"sliding_window": stack.mask.size if isinstance(stack.mask, Window) else None}


MISTRAL = Family("mistral", read_mistral, write_mistral, lambda network: LLAMA_TABLE, "model.")

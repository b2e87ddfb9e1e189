"""Llama and its heirs Mistral, Qwen2 and Qwen3: one block, small differences of config.

RMSNorm before each part, rotary positions, grouped queries, a gated feed-forward layer (Touvron 2023). Mistral looks
through a window.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.labels import ANSWER, label_keys, read_labels, suffix
from yuyan.hub.names import Row
from yuyan.hub.published import PUBLISHED_ACTIVATIONS, Published
from yuyan.hub.rope import read_rotary, write_rotary
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Gated
from yuyan.nn.head import Head, LabelHead, LanguageModelHead
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
    Row("score.{p}", "head.output.{p}"),
    Row("qa_outputs.{p}", "head.output.{p}"),
    Row("model.layers.{i}.self_attn.rotary_emb.inv_freq"),
)


def llama_table(network: Network) -> tuple[Row, ...]:
    """The names; question answering of all but Mistral says `transformer` where the others say `model`."""
    rows = mistral_table(network)
    if not isinstance(network.head, LabelHead) or suffix(network.head) != ANSWER:
        return rows
    return tuple(replace(row, theirs=re.sub(r"^model\.", "transformer.", row.theirs)) for row in rows)


def mistral_table(network: Network) -> tuple[Row, ...]:
    """The names, for one kind of head: a language model's, `score` of labels, or `qa_outputs` of a span."""
    head = network.head
    if not isinstance(head, LabelHead):
        other = ("score.{p}", "qa_outputs.{p}")
    else:
        other = ("lm_head.weight", "score.{p}" if suffix(head) == ANSWER else "qa_outputs.{p}")
    return tuple(row for row in LLAMA_TABLE if row.theirs not in other)


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
    head = read_head(c, c.architecture("ForCausalLM"))
    return Network(vocab_size=c.take("vocab_size", int), hidden_size=hidden_size, decoder=stack, head=head)


def read_head(c: Published, name: str) -> Head | None:
    """The head of a class of Llama's kind."""
    if name.endswith("ForCausalLM"):
        return LanguageModelHead(tied=c.take("tie_word_embeddings", bool, False))
    if head := read_labels(c, name, pool="last", sequence_bias=False):
        c.ignore("tie_word_embeddings")
        return head
    if name.endswith("Model"):
        c.ignore("tie_word_embeddings")
        return None
    raise c.wrong("architectures", f"{name} is not supported")


def llama_keys(network: Network, name: str) -> dict[str, Any] | None:
    """Llama's keys for a network, if it has Llama's parts at all; `name` is what classes begin with."""
    stack, head = network.decoder, network.head
    if not isinstance(stack, Stack) or not isinstance(stack.position, Rotary) or not isinstance(stack.ffn, Gated):
        return None
    if not isinstance(stack.norm, RMSNorm) or not isinstance(head, LanguageModelHead | LabelHead | None):
        return None
    ending = "Model" if head is None else suffix(head) if isinstance(head, LabelHead) else "ForCausalLM"
    return {
        "architectures": [name + ending],
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
        "tie_word_embeddings": isinstance(head, LanguageModelHead) and head.tied,
        **label_keys(head),
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


LLAMA = Family("llama", read_llama, write_llama, llama_table, "model.")


# ---------------------------------------------------------------- Mistral

PUBLISHED_WINDOW = 4096  # of a config that does not say; null is no window


def read_mistral(c: Published) -> Network:
    window = c.maybe("sliding_window", int)
    if "sliding_window" not in c.data:
        window = PUBLISHED_WINDOW
    return llama_like(c, {}, Causal() if window is None else Window(size=window))


def write_mistral(network: Network) -> dict[str, Any] | None:
    keys, stack = llama_keys(network, "Mistral"), network.decoder
    if keys is None or not isinstance(stack, Stack):
        return None
    return keys | {"sliding_window": stack.mask.size if isinstance(stack.mask, Window) else None}


MISTRAL = Family("mistral", read_mistral, write_mistral, mistral_table, "model.")

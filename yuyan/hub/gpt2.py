"""GPT-2: learned positions, LayerNorm before each part, one fused and transposed projection (Radford 2019)."""

from __future__ import annotations

from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.labels import ANSWER, TOKEN, label_keys, read_labels, suffix
from yuyan.hub.names import Row, Transposed, TransposedThirds
from yuyan.hub.published import PUBLISHED_ACTIVATIONS, Published
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Mlp
from yuyan.nn.head import Head, LabelHead, LanguageModelHead
from yuyan.nn.mask import Causal
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.nn.stack import Stack

THEIRS, OURS = "transformer.h.{i}.", "decoder.layers.{i}."
TABLE = (
    Row("transformer.wte.weight", "embedding.token.weight"),
    Row("transformer.wpe.weight", "decoder.position.table.weight"),
    Row(THEIRS + "ln_1.{p}", OURS + "attention.norm.{p}"),
    Row(
        THEIRS + "attn.c_attn.{p}",
        tuple(f"{OURS}attention.inner.{a}_proj.{{p}}" for a in "qkv"),
        TransposedThirds(),
    ),
    Row(THEIRS + "attn.c_proj.{p}", OURS + "attention.inner.o_proj.{p}", Transposed()),
    Row(THEIRS + "ln_2.{p}", OURS + "ffn.norm.{p}"),
    Row(THEIRS + "mlp.c_fc.{p}", OURS + "ffn.inner.up_proj.{p}", Transposed()),
    Row(THEIRS + "mlp.c_proj.{p}", OURS + "ffn.inner.down_proj.{p}", Transposed()),
    Row("transformer.ln_f.{p}", "decoder.norm.{p}"),
    Row("lm_head.weight", "head.output.weight", tied="embedding.token.weight"),
    Row(THEIRS + "attn.bias"),
    Row(THEIRS + "attn.masked_bias"),
)


def table(network: Network) -> tuple[Row, ...]:
    """The names, with those of one kind of fine-tuned head."""
    if not isinstance(network.head, LabelHead):
        return TABLE
    name = {TOKEN: "classifier", ANSWER: "qa_outputs"}.get(suffix(network.head), "score")
    rest = tuple(row for row in TABLE if row.theirs != "lm_head.weight")
    return (*rest, Row(name + ".{p}", "head.output.{p}"))


def read(c: Published) -> Network:
    hidden_size = c.either(("n_embd", "hidden_size"), int)
    c.only("scale_attn_weights", True)
    c.only("scale_attn_by_inverse_layer_idx", False)
    c.only("add_cross_attention", False)
    c.ignore(
        "n_ctx", "n_special", "predict_special_tokens", "reorder_and_upcast_attn", "summary_type", "summary_use_proj",
        "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
    )  # fmt: skip
    stack = Stack(
        num_layers=c.either(("n_layer", "num_hidden_layers"), int),
        heads=Heads(
            count=c.either(("n_head", "num_attention_heads"), int), bias=True, dropout=c.take("attn_pdrop", float, 0.1)
        ),
        ffn=Mlp(
            intermediate_size=c.maybe("n_inner", int) or 4 * hidden_size,
            activation=c.activation("activation_function", "gelu_new"),
        ),
        norm=LayerNorm(eps=c.take("layer_norm_epsilon", float, 1e-5)),
        position=Learned(max_position_embeddings=c.either(("n_positions", "max_position_embeddings"), int)),
        mask=Causal(),
        dropout=c.take("resid_pdrop", float, 0.1),
    )
    return Network(
        vocab_size=c.take("vocab_size", int),
        hidden_size=hidden_size,
        embedding=Embedding(dropout=c.take("embd_pdrop", float, 0.1)),
        decoder=stack,
        head=_head(c, c.architecture("GPT2LMHeadModel")),
    )


def _head(c: Published, name: str) -> Head | None:
    tied = c.take("tie_word_embeddings", bool, True)
    if name == "GPT2LMHeadModel":
        return LanguageModelHead(tied=tied)
    if name == "GPT2Model":
        return None
    if head := read_labels(c, name, pool="last", sequence_bias=False):
        return head
    raise c.wrong("architectures", f"{name} is not supported")


def write(network: Network) -> dict[str, Any] | None:
    stack, head = network.decoder, network.head
    if not isinstance(stack, Stack) or not isinstance(stack.position, Learned) or not isinstance(stack.ffn, Mlp):
        return None
    if not isinstance(stack.norm, LayerNorm) or not isinstance(head, LanguageModelHead | LabelHead | None):
        return None
    ending = "Model" if head is None else suffix(head) if isinstance(head, LabelHead) else "LMHeadModel"
    return {
        "architectures": ["GPT2" + ending],
        "vocab_size": network.vocab_size,
        "n_positions": stack.position.max_position_embeddings,
        "n_embd": network.hidden_size,
        "n_layer": stack.num_layers,
        "n_head": stack.heads.count,
        "n_inner": stack.ffn.intermediate_size,
        "activation_function": PUBLISHED_ACTIVATIONS[stack.ffn.activation],
        "layer_norm_epsilon": stack.norm.eps,
        "resid_pdrop": stack.dropout,
        "embd_pdrop": network.embedding.dropout,
        "attn_pdrop": stack.heads.dropout,
        "tie_word_embeddings": not isinstance(head, LanguageModelHead) or head.tied,
        **label_keys(head),
    }


GPT2 = Family("gpt2", read, write, table, "transformer.")

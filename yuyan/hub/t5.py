"""T5 and T5 v1.1: relative position biases, RMSNorm, attention without a scale (Raffel 2020).

The settings lie in two ways. `tie_word_embeddings: false` has always meant v1.1: an output table of its own, and hidden
states that are not scaled down. Newer files say true for every model and keep the second half of the meaning in
`scale_decoder_outputs`; whether there is a table of its own only the tensors tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.labels import ANSWER, SEQUENCE, TOKEN, label_keys, read_labels
from yuyan.hub.names import Row
from yuyan.hub.published import ACTIVATION_NAMES, PUBLISHED_ACTIVATIONS, Published
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Ffn, Gated, Mlp
from yuyan.nn.head import Head, LabelHead, LanguageModelHead
from yuyan.nn.mask import Causal, Full
from yuyan.nn.norm import RMSNorm
from yuyan.nn.position import RelativeBias
from yuyan.nn.stack import Stack

EMPTY = "a bias of cross-attention that the published code made and never used"


def _side(side: str, ffn_layer: int, gated: bool) -> tuple[Row, ...]:
    block, ours = side + ".block.{i}.layer.", side + ".layers.{i}."
    dense = f"{block}{ffn_layer}.DenseReluDense."
    ups = (("wi_0", "gate_proj"), ("wi_1", "up_proj")) if gated else (("wi", "up_proj"),)
    bias = ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        Row(side + bias, side + ".position.table.weight"),
        Row(block + "0.SelfAttention.{a}.weight", ours + "attention.inner.{a}_proj.weight"),
        Row(block + "0.layer_norm.weight", ours + "attention.norm.weight"),
        *(Row(f"{dense}{a}.weight", f"{ours}ffn.inner.{b}.weight") for a, b in ups),
        Row(dense + "wo.weight", ours + "ffn.inner.down_proj.weight"),
        Row(f"{block}{ffn_layer}.layer_norm.weight", ours + "ffn.norm.weight"),
        Row(side + ".final_layer_norm.weight", side + ".norm.weight"),
        Row(side + ".embed_tokens.weight", side + ".embedding.weight", tied="embedding.token.weight"),
    )


def table(network: Network) -> tuple[Row, ...]:
    """The names; those of the feed-forward layer depend on whether it has a gate."""
    assert isinstance(network.encoder, Stack)
    gated = isinstance(network.encoder.ffn, Gated)
    rows = (
        Row("shared.weight", "embedding.token.weight"),
        *_side("encoder", 1, gated),
        Row(
            "decoder.block.{i}.layer.1.EncDecAttention.{a}.weight",
            "decoder.layers.{i}.cross_attention.inner.{a}_proj.weight",
        ),
        Row("decoder.block.{i}.layer.1.layer_norm.weight", "decoder.layers.{i}.cross_attention.norm.weight"),
        *_side("decoder", 2, gated),
        Row("lm_head.weight", "head.output.weight", tied="embedding.token.weight"),
        Row("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", left_out=EMPTY),
    )
    if not isinstance(network.head, LabelHead):
        return rows
    rows = tuple(row for row in rows if row.theirs != "lm_head.weight")
    ending = _ending(network.head)
    if ending == ANSWER:
        return (*rows, Row("qa_outputs.{p}", "head.output.{p}"))
    inside = tuple(replace(row, theirs="transformer." + row.theirs) for row in rows)
    if ending == TOKEN:
        return (*inside, Row("classifier.{p}", "head.output.{p}"))
    own = "classification_head."
    return (*inside, Row(own + "dense.{p}", "head.dense.{p}"), Row(own + "out_proj.{p}", "head.output.{p}"))


def _ending(head: LabelHead) -> str:
    """The end of the class's name: T5 scores tokens with its encoder alone, texts and answers with both sides."""
    if head.start is None:
        return TOKEN
    return ANSWER if head.pool == "none" else SEQUENCE


def read(c: Published) -> Network:
    hidden_size, dropout = c.take("d_model", int), c.take("dropout_rate", float, 0.1)
    c.only("is_encoder_decoder", True, False)
    c.only("is_decoder", False)
    c.ignore("n_positions", "output_past")
    depth = c.take("num_layers", int)
    decoder_depth = c.maybe("num_decoder_layers", int) or depth
    ffn = _ffn(c, dropout)
    heads = Heads(count=c.take("num_heads", int), head_size=c.take("d_kv", int), scale=1.0, dropout=dropout)
    norm = RMSNorm(eps=c.take("layer_norm_epsilon", float, 1e-6))
    buckets = c.take("relative_attention_num_buckets", int, 32)
    distance = c.take("relative_attention_max_distance", int, 128)

    def side(depth: int, encoder: bool) -> Stack:
        position = RelativeBias(num_buckets=buckets, max_distance=distance, bidirectional=encoder)
        return Stack(
            num_layers=depth, heads=heads, ffn=ffn, norm=norm, position=position, mask=Full() if encoder else Causal(),
            cross=not encoder, dropout=dropout,
        )  # fmt: skip

    name = c.architecture("T5ForConditionalGeneration")
    alone = name in ("T5EncoderModel", "T5" + TOKEN)
    return Network(
        vocab_size=c.take("vocab_size", int),
        hidden_size=hidden_size,
        embedding=Embedding(dropout=dropout),
        encoder=side(depth, True),
        decoder=None if alone else side(decoder_depth, False),
        head=_head(c, name),
    )


def _ffn(c: Published, dropout: float) -> Ffn:
    size, kind = c.take("d_ff", int), c.take("feed_forward_proj", str, "relu")
    gated, name = kind.startswith("gated-"), kind.removeprefix("gated-")
    if gated and name == "gelu":
        name = "gelu_new"  # what "gated-gelu" has always computed
    if name not in ACTIVATION_NAMES:
        raise c.wrong("feed_forward_proj", f"{kind!r} is not supported")
    # newer files say both again, apart, and what they say there counts
    gated, activation = c.take("is_gated_act", bool, gated), c.activation("dense_act_fn", name)
    if gated:
        return Gated(intermediate_size=size, activation=activation, dropout=dropout)
    return Mlp(intermediate_size=size, activation=activation, bias=False, dropout=dropout)


def _head(c: Published, name: str) -> Head | None:
    tied = c.take("tie_word_embeddings", bool, True)
    scaled = c.take("scale_decoder_outputs", bool, tied)
    if name in ("T5ForConditionalGeneration", "T5WithLMHeadModel"):
        return LanguageModelHead(tied=tied and (scaled or "lm_head.weight" not in c.names), scaled=scaled)
    if name in ("T5Model", "T5EncoderModel"):
        return None
    # A text ends with </s>, where the published code looks: the last token that is not padding.
    dropout = c.take("classifier_dropout", float, 0.0)
    if head := read_labels(c, name, activation="tanh", pool="last", dropout=dropout):
        return head if name.endswith(TOKEN) else head.model_copy(update={"start": _start(c)})
    raise c.wrong("architectures", f"{name} is not supported")


def _start(c: Published) -> int:
    """What the decoder begins with: as the files say, and before they said it, the padding."""
    start = c.maybe("decoder_start_token_id", int)
    return c.take("pad_token_id", int, 0) if start is None else start


def write(network: Network) -> dict[str, Any] | None:
    encoder, decoder, head = network.encoder, network.decoder, network.head
    if not isinstance(encoder, Stack) or not isinstance(encoder.position, RelativeBias):
        return None
    if not isinstance(encoder.norm, RMSNorm) or not isinstance(decoder, Stack | None):
        return None
    if isinstance(head, LanguageModelHead):
        name = "T5ForConditionalGeneration"
    elif isinstance(head, LabelHead):
        name = "T5" + _ending(head)
    else:
        name = "T5Model" if decoder else "T5EncoderModel"
    gated, activation = isinstance(encoder.ffn, Gated), encoder.ffn.activation
    kind = "gelu" if gated and activation == "gelu_tanh" else PUBLISHED_ACTIVATIONS[activation]
    return {
        "architectures": [name],
        "vocab_size": network.vocab_size,
        "d_model": network.hidden_size,
        "d_kv": encoder.heads.head_size,
        "d_ff": encoder.ffn.intermediate_size,
        "num_layers": encoder.num_layers,
        "num_decoder_layers": decoder.num_layers if decoder else encoder.num_layers,
        "num_heads": encoder.heads.count,
        "relative_attention_num_buckets": encoder.position.num_buckets,
        "relative_attention_max_distance": encoder.position.max_distance,
        "dropout_rate": encoder.dropout,
        "layer_norm_epsilon": encoder.norm.eps,
        "feed_forward_proj": f"gated-{kind}" if gated else kind,
        "is_encoder_decoder": decoder is not None,
        "tie_word_embeddings": not isinstance(head, LanguageModelHead) or head.tied,
        "scale_decoder_outputs": isinstance(head, LanguageModelHead) and head.scaled,
        **label_keys(head),
        **_start_key(head),
    }


def _start_key(head: Head | None) -> dict[str, Any]:
    if not isinstance(head, LabelHead) or head.start is None:
        return {}
    return {"decoder_start_token_id": head.start}


T5 = Family("t5", read, write, table, "")

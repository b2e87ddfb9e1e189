"""BERT and what shares its encoder: post-norm, learned positions, segments (Devlin 2019).

RoBERTa and ELECTRA have the same tensors under another first name, and heads of their own.
"""

from __future__ import annotations

from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.labels import SEQUENCE, label_keys, read_labels, suffix
from yuyan.hub.names import Row
from yuyan.hub.published import PUBLISHED_ACTIVATIONS, Published
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Mlp
from yuyan.nn.head import Head, LabelHead, MaskedHead, PoolerHead
from yuyan.nn.mask import Full
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.nn.stack import Stack


def encoder_table(prefix: str) -> tuple[Row, ...]:
    """The names of the encoder, for classes whose names begin with `prefix`."""
    embeddings, layer, ours = f"{prefix}embeddings.", prefix + "encoder.layer.{i}.", "encoder.layers.{i}."
    pairs = (("query", "q"), ("key", "k"), ("value", "v"))
    return (
        Row(embeddings + "word_embeddings.weight", "embedding.token.weight"),
        Row(embeddings + "position_embeddings.weight", "encoder.position.table.weight"),
        Row(embeddings + "token_type_embeddings.weight", "embedding.token_type.weight"),
        Row(embeddings + "LayerNorm.{p}", "embedding.norm.{p}"),
        Row(prefix + "embeddings_project.{p}", "encoder.input_proj.{p}"),
        *(Row(f"{layer}attention.self.{a}.{{p}}", f"{ours}attention.inner.{b}_proj.{{p}}") for a, b in pairs),
        Row(layer + "attention.output.dense.{p}", ours + "attention.inner.o_proj.{p}"),
        Row(layer + "attention.output.LayerNorm.{p}", ours + "attention.norm.{p}"),
        Row(layer + "intermediate.dense.{p}", ours + "ffn.inner.up_proj.{p}"),
        Row(layer + "output.dense.{p}", ours + "ffn.inner.down_proj.{p}"),
        Row(layer + "output.LayerNorm.{p}", ours + "ffn.norm.{p}"),
        Row(embeddings + "position_ids"),
        Row(embeddings + "token_type_ids"),
    )


def read_encoder(c: Published, offset: int = 0) -> dict[str, Any]:
    """The fields of a network with BERT's encoder, whose positions begin `offset` rows into their table."""
    hidden_size, dropout = c.take("hidden_size", int), c.take("hidden_dropout_prob", float, 0.1)
    norm = LayerNorm(eps=c.take("layer_norm_eps", float, 1e-12))
    c.only("position_embedding_type", "absolute")
    c.only("is_decoder", False)
    c.only("add_cross_attention", False)
    c.only("pruned_heads", {})
    c.ignore("tie_encoder_decoder", "cross_attention_hidden_size")
    stack = Stack(
        num_layers=c.take("num_hidden_layers", int),
        heads=Heads(
            count=c.take("num_attention_heads", int),
            bias=True,
            dropout=c.take("attention_probs_dropout_prob", float, 0.1),
        ),
        ffn=Mlp(intermediate_size=c.take("intermediate_size", int), activation=c.activation("hidden_act", "gelu")),
        norm=norm,
        residual="post",
        position=Learned(max_position_embeddings=c.take("max_position_embeddings", int) - offset, offset=offset),
        mask=Full(),
        dropout=dropout,
    )
    embedding = Embedding(
        size=c.maybe("embedding_size", int),
        type_vocab_size=c.take("type_vocab_size", int, 2),
        norm=norm,
        dropout=dropout,
    )
    size = c.take("vocab_size", int)
    return {"vocab_size": size, "hidden_size": hidden_size, "embedding": embedding, "encoder": stack}


def encoder_keys(network: Network) -> dict[str, Any] | None:
    """BERT's keys of a network, if it has BERT's parts."""
    stack = network.encoder
    if not isinstance(stack, Stack) or not isinstance(stack.position, Learned) or not isinstance(stack.ffn, Mlp):
        return None
    if not isinstance(stack.norm, LayerNorm) or network.decoder is not None:
        return None
    return {
        "vocab_size": network.vocab_size,
        "hidden_size": network.hidden_size,
        "num_hidden_layers": stack.num_layers,
        "num_attention_heads": stack.heads.count,
        "intermediate_size": stack.ffn.intermediate_size,
        "hidden_act": PUBLISHED_ACTIVATIONS[stack.ffn.activation],
        "hidden_dropout_prob": stack.dropout,
        "attention_probs_dropout_prob": stack.heads.dropout,
        "max_position_embeddings": stack.position.max_position_embeddings + stack.position.offset,
        "type_vocab_size": network.embedding.type_vocab_size,
        "layer_norm_eps": stack.norm.eps,
        "tie_word_embeddings": True,
        **label_keys(network.head),
    }


# ---------------------------------------------------------------- BERT itself

NEXT_SENTENCE = "BERT's judgement of sentence pairs, which this model's scores do not use"
ENCODER = encoder_table("bert.")
MASKED = (
    Row("cls.predictions.transform.dense.{p}", "head.dense.{p}"),
    Row("cls.predictions.transform.LayerNorm.{p}", "head.norm.{p}"),
    Row("cls.predictions.bias", "head.bias"),
    Row("cls.predictions.decoder.weight", "head.output.weight", tied="embedding.token.weight"),
    Row("cls.predictions.decoder.bias", "head.output.bias", tied="head.bias"),
)
POOLER = (Row("bert.pooler.dense.{p}", "head.dense.{p}"),)
NO_POOLER = (
    Row("bert.pooler.dense.{p}", left_out=NEXT_SENTENCE),
    Row("cls.seq_relationship.{p}", left_out=NEXT_SENTENCE),
)


def table(network: Network) -> tuple[Row, ...]:
    """The names, with those of one kind of head."""
    head = network.head
    if isinstance(head, MaskedHead):
        return ENCODER + MASKED + NO_POOLER
    if isinstance(head, PoolerHead):
        return ENCODER + POOLER
    if isinstance(head, LabelHead):
        whole = suffix(head) == SEQUENCE
        name = "classifier.{p}" if suffix(head) != "ForQuestionAnswering" else "qa_outputs.{p}"
        return (*ENCODER, *(POOLER if whole else NO_POOLER), Row(name, "head.output.{p}"))
    return ENCODER + NO_POOLER


def read(c: Published) -> Network:
    c.only("tie_word_embeddings", True)
    return Network(**read_encoder(c), head=_head(c, c.architecture("BertForMaskedLM")))


def _head(c: Published, name: str) -> Head | None:
    if name in ("BertForMaskedLM", "BertForPreTraining"):
        return MaskedHead(
            activation=c.activation("hidden_act", "gelu"), norm=LayerNorm(eps=c.take("layer_norm_eps", float, 1e-12))
        )
    if name == "BertModel":
        return PoolerHead() if {"pooler.dense.weight", "bert.pooler.dense.weight"} & set(c.names) else None
    dropout = c.maybe("classifier_dropout", float)
    dropout = c.take("hidden_dropout_prob", float, 0.1) if dropout is None else dropout
    if head := read_labels(c, name, activation="tanh", dropout=dropout):
        return head
    raise c.wrong("architectures", f"{name} is not supported")


def write(network: Network) -> dict[str, Any] | None:
    keys, head = encoder_keys(network), network.head
    if isinstance(head, MaskedHead):
        name = "BertForMaskedLM"
    elif isinstance(head, LabelHead):
        name = "Bert" + suffix(head)
    else:
        name = "BertModel"
    return None if keys is None else {"architectures": [name], **keys}


BERT = Family("bert", read, write, table, "bert.")

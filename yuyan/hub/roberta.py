"""RoBERTa: BERT's encoder with positions that begin after the padding token's, and heads of its own (Liu 2019)."""

from __future__ import annotations

from typing import Any

from yuyan.hub.bert import encoder_keys, encoder_table, read_encoder
from yuyan.hub.family import Family
from yuyan.hub.labels import ANSWER, SEQUENCE, read_labels, suffix
from yuyan.hub.names import Row
from yuyan.hub.published import Published
from yuyan.models.network import Network
from yuyan.nn.head import Head, LabelHead, MaskedHead, PoolerHead
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.nn.stack import Stack

UNUSED = "the pooler, which this model's scores do not use"
ENCODER = encoder_table("roberta.")
MASKED = (
    Row("lm_head.dense.{p}", "head.dense.{p}"),
    Row("lm_head.layer_norm.{p}", "head.norm.{p}"),
    Row("lm_head.bias", "head.bias"),
    Row("lm_head.decoder.weight", "head.output.weight", tied="embedding.token.weight"),
    Row("lm_head.decoder.bias", "head.output.bias", tied="head.bias"),
)
POOLER = (Row("roberta.pooler.dense.{p}", "head.dense.{p}"),)
NO_POOLER = (Row("roberta.pooler.dense.{p}", left_out=UNUSED),)


def table(network: Network) -> tuple[Row, ...]:
    """The names, with those of one kind of head."""
    head = network.head
    if isinstance(head, MaskedHead):
        return ENCODER + MASKED + NO_POOLER
    if isinstance(head, PoolerHead):
        return ENCODER + POOLER
    if not isinstance(head, LabelHead):
        return ENCODER + NO_POOLER
    if suffix(head) == SEQUENCE:
        own = (Row("classifier.dense.{p}", "head.dense.{p}"), Row("classifier.out_proj.{p}", "head.output.{p}"))
        return ENCODER + own + NO_POOLER
    name = "qa_outputs" if suffix(head) == ANSWER else "classifier"
    return (*ENCODER, Row(name + ".{p}", "head.output.{p}"), *NO_POOLER)


def read(c: Published) -> Network:
    c.only("tie_word_embeddings", True)
    offset = c.take("pad_token_id", int, 1) + 1
    return Network(**read_encoder(c, offset), head=_head(c, c.architecture("RobertaForMaskedLM")))


def _head(c: Published, name: str) -> Head | None:
    if name == "RobertaForMaskedLM":
        return MaskedHead(activation="gelu", norm=LayerNorm(eps=c.take("layer_norm_eps", float, 1e-12)))
    if name == "RobertaModel":
        return PoolerHead() if {"pooler.dense.weight", "roberta.pooler.dense.weight"} & set(c.names) else None
    dropout = c.maybe("classifier_dropout", float)
    dropout = c.take("hidden_dropout_prob", float, 0.1) if dropout is None else dropout
    if head := read_labels(c, name, activation="tanh", dropout=dropout):
        return head
    raise c.wrong("architectures", f"{name} is not supported")


def write(network: Network) -> dict[str, Any] | None:
    keys, head, stack = encoder_keys(network), network.head, network.encoder
    if keys is None or not isinstance(stack, Stack) or not isinstance(stack.position, Learned):
        return None
    if stack.position.offset == 0:
        return None
    if isinstance(head, MaskedHead):
        name = "RobertaForMaskedLM"
    elif isinstance(head, LabelHead):
        name = "Roberta" + suffix(head)
    else:
        name = "RobertaModel"
    return {"architectures": [name], **keys, "pad_token_id": stack.position.offset - 1}


ROBERTA = Family("roberta", read, write, table, "roberta.")

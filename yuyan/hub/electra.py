"""ELECTRA: BERT's encoder behind narrow embeddings; a generator fills masks, a discriminator finds them (Clark 2020)."""

from __future__ import annotations

from typing import Any

from yuyan.hub.bert import encoder_keys, encoder_table, read_encoder
from yuyan.hub.family import Family
from yuyan.hub.labels import ANSWER, SEQUENCE, read_labels, suffix
from yuyan.hub.names import Row
from yuyan.hub.published import Published
from yuyan.models.network import Network
from yuyan.nn.head import Head, LabelHead, MaskedHead, ReplacedHead
from yuyan.nn.norm import LayerNorm

ENCODER = encoder_table("electra.")
GENERATOR = (
    Row("generator_predictions.dense.{p}", "head.dense.{p}"),
    Row("generator_predictions.LayerNorm.{p}", "head.norm.{p}"),
    Row("generator_lm_head.weight", "head.output.weight", tied="embedding.token.weight"),
    Row("generator_lm_head.bias", "head.bias"),
)
DISCRIMINATOR = (
    Row("discriminator_predictions.dense.{p}", "head.dense.{p}"),
    Row("discriminator_predictions.dense_prediction.{p}", "head.output.{p}"),
)


def table(network: Network) -> tuple[Row, ...]:
    """The names, with those of one kind of head."""
    head = network.head
    if isinstance(head, MaskedHead):
        return ENCODER + GENERATOR
    if isinstance(head, ReplacedHead):
        return ENCODER + DISCRIMINATOR
    if not isinstance(head, LabelHead):
        return ENCODER
    if suffix(head) == SEQUENCE:
        own = (Row("classifier.dense.{p}", "head.dense.{p}"), Row("classifier.out_proj.{p}", "head.output.{p}"))
        return ENCODER + own
    name = "qa_outputs" if suffix(head) == ANSWER else "classifier"
    return (*ENCODER, Row(name + ".{p}", "head.output.{p}"))


def read(c: Published) -> Network:
    c.ignore("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout")
    c.maybe("embedding_size", int)
    return Network(**read_encoder(c), head=_head(c, c.architecture("ElectraForPreTraining")))


def _head(c: Published, name: str) -> Head | None:
    tied = c.take("tie_word_embeddings", bool, True)
    if name == "ElectraForMaskedLM":
        return MaskedHead(activation="gelu", norm=LayerNorm(eps=c.take("layer_norm_eps", float, 1e-12)), tied=tied)
    if name == "ElectraForPreTraining":
        return ReplacedHead(activation=c.activation("hidden_act", "gelu"))
    if name == "ElectraModel":
        return None
    dropout = c.maybe("classifier_dropout", float)
    dropout = c.take("hidden_dropout_prob", float, 0.1) if dropout is None else dropout
    if head := read_labels(c, name, activation="gelu", dropout=dropout):
        return head
    raise c.wrong("architectures", f"{name} is not supported")


def write(network: Network) -> dict[str, Any] | None:
    keys, head = encoder_keys(network), network.head
    if keys is None:
        return None
    if isinstance(head, MaskedHead):
        keys["tie_word_embeddings"] = head.tied
        name = "ElectraForMaskedLM"
    elif isinstance(head, ReplacedHead):
        name = "ElectraForPreTraining"
    elif isinstance(head, LabelHead):
        name = "Electra" + suffix(head)
    else:
        name = "ElectraModel"
    return {"architectures": [name], **keys, "embedding_size": network.embedding_size}


ELECTRA = Family("electra", read, write, table, "electra.")

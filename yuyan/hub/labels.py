"""Heads of fine-tuned folders: the class a folder was saved from says which.

Token classification and question answering score every token; a question's answer has the labels `start` and `end`.
"""

from __future__ import annotations

from typing import Any

from yuyan.hub.published import Published
from yuyan.nn.ffn import Activation
from yuyan.nn.head import Head, LabelHead
from yuyan.nn.norm import Norm

SPAN = ("start", "end")
SEVERAL = "multi_label_classification"
SEQUENCE, TOKEN, ANSWER = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"


def read_labels(
    c: Published,
    name: str,
    *,
    activation: Activation | None = None,
    every: bool = False,
    pool: str = "first",
    layer_bias: bool = True,
    norm: Norm | None = None,
    sequence_bias: bool = True,
    dropout: float = 0.0,
) -> LabelHead | None:
    """The head of a fine-tuned class `name`, or None if it is another kind of class.

    The layer with `activation` belongs to sequence classification, or to `every` fine-tuned class of the family.
    """
    if not name.endswith((SEQUENCE, TOKEN, ANSWER)):
        return None
    whole = name.endswith(SEQUENCE)
    layer = activation if whole or every else None
    settings: dict[str, Any] = {"pool": pool if whole else "none", "activation": layer, "dropout": dropout}
    if layer is not None:
        settings |= {"layer_bias": layer_bias, "norm": norm}
    labels = SPAN if name.endswith(ANSWER) else c.labels()
    several = whole and c.maybe("problem_type", str) == SEVERAL
    return LabelHead(labels=labels, bias=sequence_bias or not whole, several=several, **settings)


def label_keys(head: Head | None) -> dict[str, Any]:
    """The keys of a config that name the labels of a head."""
    if not isinstance(head, LabelHead):
        return {}
    kind = {"problem_type": SEVERAL} if head.several else {}
    return {
        **kind,
        "id2label": {str(i): label for i, label in enumerate(head.labels)},
        "label2id": {label: i for i, label in enumerate(head.labels)},
    }


def suffix(head: LabelHead) -> str:
    """The end of the class's name."""
    if head.pool != "none":
        return SEQUENCE
    return ANSWER if head.labels == SPAN else TOKEN

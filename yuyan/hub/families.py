"""The families, and which of them a network belongs to."""

from __future__ import annotations

import json
from typing import Any

import torch

from yuyan.errors import ConfigError, DataError
from yuyan.hub.bert import BERT
from yuyan.hub.electra import ELECTRA
from yuyan.hub.family import Family, comparable
from yuyan.hub.gpt2 import GPT2
from yuyan.hub.llama import LLAMA, MISTRAL
from yuyan.hub.modernbert import MODERNBERT
from yuyan.hub.names import their_names
from yuyan.hub.qwen import QWEN2, QWEN3
from yuyan.hub.roberta import ROBERTA
from yuyan.hub.t5 import T5
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.head import LabelHead, MaskedHead

FAMILIES: tuple[Family, ...] = (GPT2, LLAMA, MISTRAL, QWEN3, QWEN2, BERT, ROBERTA, ELECTRA, MODERNBERT, T5)
"""In this order they are asked whether they can express a network."""


def family_of(network: Network) -> tuple[Family, dict[str, Any]] | None:
    """The first family that can express a network, and its `config.json`; None if none can.

    A family can if reading what it wrote gives the same network again.
    """
    network = network.filled()
    for family in FAMILIES:
        data = family.write(network)
        if data is None:
            continue
        data = {"model_type": family.model_type, **data}
        try:
            again = family.network(json.loads(json.dumps(data)), "config.json", _names(family, network))
        except (ConfigError, DataError):
            continue
        if comparable(again) == comparable(network):
            return family, data
    return None


def label_head(network: Network, labels: tuple[str, ...], *, tokens: bool, start: int | None, **keys: Any) -> LabelHead:
    """A head of labels for a network, of each of its `tokens` or of the text, as the network's family has it.

    A network of no family gets the mean of its tokens. `start` is what a decoder with an encoder begins with; `keys` are
    others of the head, such as `dropout` or a `pool` to have in any case.
    """
    old = network.head
    norm = {"norm": old.norm, "layer_bias": old.dense_bias} if isinstance(old, MaskedHead) else {}
    both = network.encoder is not None and network.decoder is not None
    more = {"start": start} if both else {}
    kinds: tuple[dict[str, Any], ...] = ({}, norm | {"activation": "gelu"})
    if not tokens:
        kinds = (
            {"pool": "first", "activation": "tanh"}, {"pool": "first", "activation": "gelu"},
            {"pool": "last", "bias": False}, {"pool": "last", "activation": "tanh"},
            norm | {"pool": "mean", "activation": "gelu"}, norm | {"pool": "first", "activation": "gelu"},
        )  # fmt: skip
    for kind in kinds:
        head = LabelHead(**{"labels": labels, "pool": "none", **kind, **more, **keys})
        if family_of(network.model_copy(update={"head": head})) is not None:
            return head
    return LabelHead(**{"labels": labels, "pool": "none" if tokens else "mean", **more, **keys})


def _names(family: Family, network: Network) -> list[str]:
    """What the family calls the network's tensors."""
    with torch.device("meta"):
        return list(their_names(family.table(network), NetworkModule(network).state_dict()))

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


def _names(family: Family, network: Network) -> list[str]:
    """What the family calls the network's tensors."""
    with torch.device("meta"):
        return list(their_names(family.table(network), NetworkModule(network).state_dict()))

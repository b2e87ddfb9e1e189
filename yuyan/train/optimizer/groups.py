"""Which weights an optimizer treats alike: by the structure of the network, never by their names.

Matrices inside the network and an output table of its own are decayed; embeddings (a tied output table is one), norms
and biases are not: decay pulls them towards 0, where they carry no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field
from torch import nn

from yuyan.config import Config
from yuyan.models.cost import GATES, ParameterKind
from yuyan.models.cost import parameter_kinds as parts_of

PARTS: tuple[ParameterKind, ...] = ("matrix", "head", "embedding", "vector")
DECAYED = ("matrix", "head")


class Kind(NamedTuple):
    """What a parameter is in its network."""

    part: ParameterKind
    blocks: int = 1
    """How many matrices lie in it, one above the other: the gates of a recurrent cell."""


class Rates(Config):
    """What the learning rate is multiplied by in each part of the network."""

    matrix: float = Field(1.0, ge=0)
    """Matrices inside the network."""
    head: float = Field(1.0, ge=0)
    """The table of the last product, where it is not the embedding."""
    embedding: float = Field(1.0, ge=0)
    """Tables of tokens and positions."""
    vector: float = Field(1.0, ge=0)
    """Norms and biases."""


def parameter_kinds(module: nn.Module) -> dict[str, Kind]:
    """The kind of every parameter of `module`, by the module that owns it."""
    gates: dict[int, int] = {}
    for owner in module.modules():
        if isinstance(owner, nn.RNNBase):
            blocks = GATES.get(owner.mode.lower(), 1)
            gates |= {id(parameter): blocks for parameter in owner.parameters() if parameter.ndim == 2}
    parts = parts_of(module)
    return {name: Kind(parts[name], gates.get(id(p), 1)) for name, p in module.named_parameters()}


def groups_of(
    masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind], rates: Rates, *, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each part and number of blocks that there is, matrices first."""
    found: dict[Kind, list[nn.Parameter]] = {}
    for name, master in masters.items():
        found.setdefault(kinds[name], []).append(master)
    return [
        {
            "params": found[kind], "part": kind.part, "blocks": kind.blocks, "lr": lr * getattr(rates, kind.part),
            "weight_decay": weight_decay if kind.part in DECAYED else 0.0,
        }
        for kind in sorted(found, key=lambda kind: (PARTS.index(kind.part), kind.blocks))
    ]  # fmt: skip

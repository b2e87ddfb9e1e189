"""Which weights an optimizer treats alike: by the structure of the network, never by their names.

Matrices inside the network and an output table of its own are decayed; embeddings (a tied output table is one), norms
and biases are not: decay pulls them towards 0, where they carry no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.models.cost import GATES, ParameterKind
from yuyan.models.cost import parameter_kinds as parts_of
from yuyan.nn.attention import Attention
from yuyan.nn.embed import EmbeddingModule
from yuyan.nn.head import HeadModule
from yuyan.nn.stack import StackModule

PARTS: tuple[ParameterKind, ...] = ("matrix", "head", "embedding", "vector")
DECAYED = ("matrix", "head")


@runtime_checkable
class Scaling(Protocol):
    """An optimizer that reads gradients as they come, of bfloat16 too."""

    def step_scaled(self, scale: float, copies: Mapping[nn.Parameter, Tensor]) -> bool:
        """Take one step with the gradients times `scale`, and write the weights into their `copies` too, rounded; False if it
        cannot: then nothing is done."""
        ...


class Kind(NamedTuple):
    """What a parameter is in its network."""

    part: ParameterKind
    blocks: int = 1
    """How many matrices lie in it, one above the other: the gates of a recurrent cell."""
    depth: int = 1
    """How far it is from the scores: 0 in the head, 1 in the last block and what is behind it, 2 in the block below."""
    scale: float = 1.0
    """What its rate is multiplied by: queries of an attention without a scale (T5) take steps as small as a scale of
    1 / sqrt(K) would make them, or their scores run away (Yang et al. 2022, appendix B, on parameters that are a multiple)."""


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
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each block's rate is that of the block above times this, the embedding's last (Howard & Ruder 2018, section 3.2)."""
    unfreeze: float = Field(0.0, ge=0, lt=1)
    """Share of the run by whose end all is trained: the head from the start, then block by block from above, the embedding
    last (Howard & Ruder 2018, section 3.3)."""


def parameter_kinds(module: nn.Module) -> dict[str, Kind]:
    """The kind of every parameter of `module`, by the module that owns it."""
    gates: dict[int, int] = {}
    for owner in module.modules():
        if isinstance(owner, nn.RNNBase):
            blocks = GATES.get(owner.mode.lower(), 1)
            gates |= {id(parameter): blocks for parameter in owner.parameters() if parameter.ndim == 2}
    parts, depths, scales = parts_of(module), _depths(module), _scales(module)
    return {
        name: Kind(parts[name], gates.get(id(p), 1), depths.get(id(p), 1), scales.get(id(p), 1.0))
        for name, p in module.named_parameters()
    }


def _scales(module: nn.Module) -> dict[int, float]:
    """The scale of each parameter, by its id, where that is not 1."""
    return {
        id(parameter): part.head_size**-0.5 / part.config.scale
        for part in module.modules()
        if isinstance(part, Attention) and part.config.scale is not None
        for parameter in part.q_proj.parameters()
    }


def _depths(module: nn.Module) -> dict[int, int]:
    """How deep each parameter lies, by its id, where that is not 1. A table that is the head too is an embedding."""
    depths: dict[int, int] = {}
    deepest = 2
    for part in module.modules():
        if isinstance(part, HeadModule):
            depths |= {id(parameter): 0 for parameter in part.parameters()}
    for stack in module.modules():
        if isinstance(stack, StackModule):
            count = len(stack.layers)
            deepest = max(deepest, count + 1)
            for number, block in enumerate(stack.layers):
                depths |= {id(parameter): count - number for parameter in block.parameters()}
            for part in (stack.position, stack.input_proj):
                depths |= {id(parameter): count + 1 for parameter in part.parameters()}
    for table in module.modules():
        if isinstance(table, EmbeddingModule):
            depths |= {id(parameter): deepest for parameter in table.parameters()}
    return depths


def groups_of(
    masters: Mapping[str, nn.Parameter], kinds: Mapping[str, Kind], rates: Rates, *, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each part, number of blocks and (where it matters) depth, matrices first.

    `starts` says at which progress of the run a group begins to be trained.
    """
    found: dict[Kind, list[nn.Parameter]] = {}
    layered = rates.layer_decay < 1 or rates.unfreeze > 0
    for name, master in masters.items():
        kind = kinds[name]
        found.setdefault(kind if layered else kind._replace(depth=1), []).append(master)
    deepest = max((kind.depth for kind in found), default=1)
    return [
        {
            "params": found[kind], "part": kind.part, "blocks": kind.blocks,
            "lr": lr * getattr(rates, kind.part) * rates.layer_decay ** max(0, kind.depth - 1) * kind.scale,
            "weight_decay": weight_decay / kind.scale if kind.part in DECAYED else 0.0, "starts": _starts(kind, rates, deepest),
        }
        for kind in sorted(found, key=lambda kind: (PARTS.index(kind.part), kind.blocks, kind.depth, -kind.scale))
    ]  # fmt: skip


def _starts(kind: Kind, rates: Rates, deepest: int) -> float:
    """The head at 0, then as many equal steps as there are depths."""
    return rates.unfreeze * kind.depth / max(1, deepest)

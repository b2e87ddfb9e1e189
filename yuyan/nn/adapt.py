"""Training few weights of a network: low-rank adapters around its layers, or all but some weights frozen.

An adapter is a type at a seam: it stands where a linear layer or a table stood, holds that layer unchanged, and adds a
product of two thin matrices, W x + scale * B (A x) (Hu et al. 2021, section 4.1). B starts at zero, so a network is the
same before and after `add_lora`. Which layers: by what they are (`attention`, `ffn`, `all`) or by name.

Shapes: ... any leading axes, I inputs, O outputs, R rank, V rows of a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from yuyan.config import Config, did_you_mean
from yuyan.errors import InputError
from yuyan.nn.attention import Attention
from yuyan.nn.drop import Dropout
from yuyan.nn.feed_forward import FeedForwardModule
from yuyan.nn.ffn import GatedModule, MlpModule
from yuyan.nn.head import LabelHeadModule
from yuyan.nn.recurrent import MemoryAttention, RecurrentModule
from yuyan.nn.stack import StackModule

OWNERS: dict[str, tuple[type[nn.Module], ...]] = {
    "attention": (Attention, MemoryAttention),
    "ffn": (MlpModule, GatedModule),
    "all": (StackModule, RecurrentModule, FeedForwardModule),
}
"""What a target by kind means: every linear layer inside modules of these types."""


# ---------------------------------------------------------------- configs


class Full(Config):
    """Every weight is trained."""

    kind: Literal["full"] = "full"


class Freeze(Config):
    """Some weights stay as they are, all others are trained."""

    kind: Literal["freeze"] = "freeze"
    names: tuple[str, ...] = ()
    """Names of parameters, with * for any text: embedding.*, *.norm.*"""
    layers: int = Field(0, ge=0)
    """The embedding and so many of the first blocks of each side."""

    @model_validator(mode="after")
    def _something(self) -> Freeze:
        if not self.names and not self.layers:
            raise ValueError("says nothing to freeze; give names, layers or both")
        return self


class Lora(Config):
    """Only low-rank adapters are trained (Hu et al. 2021)."""

    kind: Literal["lora"] = "lora"
    targets: tuple[str, ...] = ("attention",)
    """Which layers: attention, ffn, all, or names of modules with * for any text."""
    rank: int = Field(8, gt=0)
    """Width of an adapter."""
    alpha: float = Field(16.0, gt=0)
    """An adapter is multiplied by alpha / rank."""
    rslora: bool = False
    """Multiply by alpha / sqrt(rank) instead, which suits large ranks (Kalajdzievski 2023)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on what an adapter reads."""
    also: tuple[str, ...] = ()
    """Names of parameters that are trained in full beside the adapters: *norm*, embedding.token.weight."""


Adapt = Annotated[Full | Freeze | Lora, Field(discriminator="kind")]


# ---------------------------------------------------------------- adapters


class Adapter(nn.Module):
    """A layer with a low-rank addition. `merge` adds it to the layer's own weights, `unmerge` gives them back."""

    base: nn.Linear | nn.Embedding
    down: nn.Parameter
    up: nn.Parameter

    def __init__(self, base: nn.Module, down: nn.Parameter, up: nn.Parameter, scale: float, dropout: float):
        super().__init__()
        self.add_module("base", base)
        self.down, self.up, self.scale = down, up, scale
        self.dropout = Dropout(dropout)
        self.unmerged: Tensor | None = None
        """The layer's own weights while they are merged."""

    @property
    def rank(self) -> int:
        """R."""
        return self.down.shape[0]

    def addition(self) -> Tensor:
        """What is added to the layer's weights, in their shape."""
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """The weights with the addition; who reads `layer.weight` sees the adapted layer."""
        return self.base.weight if self.unmerged is not None else self.base.weight + self.addition()

    def merge(self) -> None:
        """Add to the weights in place."""
        assert self.unmerged is None, "merged twice"
        with torch.no_grad():
            self.unmerged = self.base.weight.detach().clone()
            self.base.weight += self.addition().to(self.base.weight.dtype)

    def unmerge(self) -> None:
        """Put the weights back, bit for bit."""
        if self.unmerged is not None:
            with torch.no_grad():
                self.base.weight.copy_(self.unmerged)
            self.unmerged = None

    def folded(self) -> nn.Module:
        """The layer alone, with the addition in its weights; this adapter is used up."""
        self.unmerge()
        self.merge()
        return self.base


class LinearAdapter(Adapter):
    """W x + b + scale * up (down x): `down` is (R, I), `up` (O, R)."""

    base: nn.Linear

    @property
    def bias(self) -> Tensor | None:
        """The layer's own."""
        return self.base.bias

    def addition(self) -> Tensor:
        """(O, I)."""
        return self.scale * (self.up @ self.down)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        if self.unmerged is not None:
            return out
        return out + F.linear(F.linear(self.dropout(x), self.down), self.up) * self.scale


class TableAdapter(Adapter):
    """Rows of a table plus scale * up down[:, row]: `down` is (R, V), `up` (O, R)."""

    base: nn.Embedding

    def addition(self) -> Tensor:
        """(V, O)."""
        return self.scale * (self.up @ self.down).t()

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.base(ids)
        if self.unmerged is not None:
            return out
        return out + F.linear(F.embedding(ids, self.down.t()), self.up) * self.scale


def attach(
    model: nn.Module, name: str, down: Tensor | nn.Parameter, up: Tensor, *, scale: float, dropout: float = 0.0
) -> Adapter:
    """Put an adapter around the layer called `name`; a `down` that is a Parameter is shared, not copied.

    Raises InputError if there is no such layer, it is adapted already, or the shapes do not fit it.
    """
    layer = dict(model.named_modules()).get(name)
    if isinstance(layer, Adapter) or not isinstance(layer, nn.Linear | nn.Embedding):
        what = "has an adapter already" if isinstance(layer, Adapter) else "is no linear layer or table of this network"
        raise InputError(f"{name}: {what}")
    outputs, inputs = layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.shape[::-1]
    if down.ndim != 2 or up.shape != (outputs, down.shape[0]) or down.shape[1] != inputs:
        raise InputError(
            f"{name}: an adapter of {tuple(down.shape)} and {tuple(up.shape)} does not fit {inputs} inputs and "
            f"{outputs} outputs"
        )
    kind = LinearAdapter if isinstance(layer, nn.Linear) else TableAdapter
    down = down if isinstance(down, nn.Parameter) else nn.Parameter(down)
    adapter = kind(layer, down, nn.Parameter(up), scale, dropout).to(layer.weight.device)
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner).add_module(leaf, adapter.train(layer.training))
    return adapter


def adapters_of(model: nn.Module) -> dict[str, Adapter]:
    """The adapters of a network by the names of their layers."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Adapter)}


def remove_adapters(model: nn.Module) -> None:
    """Leave plain layers behind, with the additions in their weights; merge with a check first (`merge`)."""
    for name, adapter in adapters_of(model).items():
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).add_module(leaf, adapter.folded())


def detach_adapters(model: nn.Module) -> None:
    """Take every adapter off: the layers stay as they were without."""
    for name, adapter in adapters_of(model).items():
        adapter.unmerge()
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).add_module(leaf, adapter.base)


# ---------------------------------------------------------------- merging

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-8}
"""How much the scores may change by merging, as a share of the largest one: the rounding of each number format."""


def merge(model: nn.Module, scores: Callable[[], Tensor], tolerance: float | None = None) -> float:
    """Add every adapter to its layer's weights, in place; the largest change of `scores()`, as a share of the largest.

    `scores` runs the network on something fixed. Raises InputError, with everything as it was, if it changes by more
    than `tolerance`.
    """
    adapters = adapters_of(model)
    if not adapters:
        raise InputError("nothing to merge: the network has no adapters")
    with evaluating(model), torch.no_grad():
        before = scores()
        for adapter in adapters.values():
            adapter.merge()
        after = scores()
    change = float((after - before).abs().max() / before.abs().max().clamp(min=1e-12))
    limit = TOLERANCE.get(next(iter(adapters.values())).base.weight.dtype, 1e-4) if tolerance is None else tolerance
    if not change <= limit:
        unmerge(model)
        raise InputError(
            f"merging would change the scores by {change:.1e} of the largest, and {limit:.0e} is allowed; nothing was "
            "merged. Keep the adapter as it is, or merge in float32"
        )
    return change


def unmerge(model: nn.Module) -> None:
    """Take every adapter out of its layer's weights again, bit for bit."""
    for adapter in adapters_of(model).values():
        adapter.unmerge()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


# ---------------------------------------------------------------- choosing


def add_lora(model: nn.Module, config: Lora, seed: int) -> None:
    """Freeze the network and put adapters around its targets, drawn from `seed` alone.

    A head of labels is always trained too: a fresh one would otherwise stay random. Raises InputError for a target or
    a name that matches nothing.
    """
    chosen = targets_of(model, config.targets)
    full = parameters_named(model, config.also, "adapt.also")
    full |= {f"{name}.{p}" for name, m in model.named_modules() if isinstance(m, LabelHeadModule)
             for p, _ in m.named_parameters()}  # fmt: skip
    if both := [name for name in chosen if f"{name}.weight" in full]:
        raise InputError(f"adapt.also: {both[0]}.weight: has an adapter; train it in one way only")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in full)
    generator = torch.Generator().manual_seed(seed)
    scale = config.alpha / (math.sqrt(config.rank) if config.rslora else config.rank)
    for name in chosen:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Embedding)
        outputs, inputs = layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.shape[::-1]
        bound = 1 / math.sqrt(inputs)
        down = (torch.rand(config.rank, inputs, generator=generator) * 2 - 1) * bound
        up = torch.zeros(outputs, config.rank)
        attach(model, name, down.to(layer.weight), up.to(layer.weight), scale=scale, dropout=config.dropout)


def targets_of(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """The names of the layers that `targets` stand for. Raises InputError for one that stands for none."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    chosen: list[str] = []
    for target in targets:
        if kinds := OWNERS.get(target):
            owners = [name for name, module in model.named_modules() if isinstance(module, kinds)]
            found = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)
                     and any(name.startswith(owner + ".") for owner in owners)]  # fmt: skip
        else:
            found = [name for name in layers if fnmatchcase(name, target)]
        if not found:
            known = [*OWNERS, *dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in layers)]
            raise InputError(f"adapt.targets: {target!r} matches no layer of this network{did_you_mean(target, known)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def parameters_named(model: nn.Module, patterns: Sequence[str], key: str) -> set[str]:
    """The names of the parameters that `patterns` match. Raises InputError, naming `key`, for one that matches none."""
    names = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            known = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names)
            raise InputError(f"{key}: {pattern!r} matches no parameter of this network{did_you_mean(pattern, known)}")
        chosen.update(found)
    return chosen


def freeze(model: nn.Module, config: Freeze) -> None:
    """Leave the named parameters, and the first blocks, out of training; the rest is trained.

    Raises InputError for a name that matches nothing, more blocks than there are, and when nothing is left to train.
    """
    frozen = parameters_named(model, config.names, "adapt.names")
    if config.layers:
        frozen |= set(_first_blocks(model, config.layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("adapt: every parameter is frozen; nothing is left to train")


def _first_blocks(model: nn.Module, count: int) -> Iterator[str]:
    stacks = {name: m for name, m in model.named_modules() if isinstance(m, StackModule)}
    deepest = max((len(stack.layers) for stack in stacks.values()), default=0)
    if count > deepest:
        raise InputError(f"adapt.layers: {count}, but the network has {deepest} attention blocks")
    first = tuple(f"{name}.layers.{i}." for name in stacks for i in range(count))
    places = tuple(f"{name}.position." for name in stacks)
    for name, _ in model.named_parameters():
        if name.startswith(("embedding.", *first, *places)):
            yield name


def adapt(model: nn.Module, config: Full | Freeze | Lora, seed: int) -> None:
    """Make the network ready for training as `config` says. Raises InputError."""
    if isinstance(config, Lora):
        add_lora(model, config, seed)
    elif isinstance(config, Freeze):
        freeze(model, config)


# ---------------------------------------------------------------- what is trained


class Group(NamedTuple):
    """Parameters of one name, over all layers."""

    name: str
    """With * for the number of the layer."""
    tensors: int
    parameters: int
    trained: int
    """How many of the parameters are trained."""


def trained_groups(model: nn.Module) -> list[Group]:
    """Every parameter, by name without layer numbers, in the order of the network."""
    groups: dict[str, Group] = {}
    for name, parameter in model.named_parameters():
        key = re.sub(r"\.\d+\.", ".*.", name)
        old = groups.get(key, Group(key, 0, 0, 0))
        count = parameter.numel()
        groups[key] = Group(
            key, old.tensors + 1, old.parameters + count, old.trained + (count if parameter.requires_grad else 0)
        )
    return list(groups.values())

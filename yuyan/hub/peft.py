"""Adapters in PEFT's format, with the names of the family: what `peft.PeftModel.from_pretrained(base, folder)` opens.

Their layers are ours, or several of ours side by side (GPT-2's `c_attn`, ModernBERT's `Wqkv`). There one adapter of
theirs is ours with a `down` in common; and ours, each with its own, are one of theirs whose rank is the sum, with zeros
outside the blocks. Both ways are exact. `base.json` beside it says which weights the adapter was made for; theirs has none.

R rank, I inputs, O outputs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from yuyan.config import Config, build, dump
from yuyan.errors import CheckpointCorrupt, DataError, InputError
from yuyan.hub.files import read_json
from yuyan.hub.labels import ANSWER, TOKEN, suffix
from yuyan.hub.layers import WEIGHT, Layers
from yuyan.hub.links import refuse_link
from yuyan.hub.published import Published
from yuyan.hub.tensors import refuse_repeated_names
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.adapt import Adapter, adapters_of, attach, detach_adapters
from yuyan.nn.head import LabelHead, LanguageModelHead, MaskedHead, PoolerHead
from yuyan.store import write_atomically, write_json

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
PREFIX = "base_model.model."
INERT = (
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "revision", "target_modules", "exclude_modules", "layers_pattern",
    "layers_to_transform", "task_type", "ensure_weight_tying", "loftq_config", "runtime_config",
)  # fmt: skip
"""Keys that say how an adapter was made; what it is, its tensors say."""
BASE_KEPT = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Ways to begin an adapter that leave the weights below it as they are; others (PiSSA, OLoRA, ...) take their part out."""
DOWN, UP = ("lora_A.weight", "lora_embedding_A"), ("lora_B.weight", "lora_embedding_B")


class Base(Config):
    """The weights that an adapter was made for."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the names and numbers of all parameters."""
    vocab_size: int
    """How many tokens they know."""
    tied: bool
    """Whether scores use the embedding."""
    dtype: str
    """The number format they were in."""
    path: str | None = None
    """Where they came from."""


def base_of(model: NetworkModule, path: str | None = None) -> Base:
    """What identifies a network without adapters; call it before the first step."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().float().contiguous().numpy().tobytes())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return Base(
        sha256=digest.hexdigest(),
        vocab_size=model.config.vocab_size,
        tied=is_tied(model.config),
        dtype=dtype,
        path=path,
    )


def is_tied(network: Network) -> bool:
    """Whether a token is scored by its own embedding."""
    return isinstance(network.head, LanguageModelHead | MaskedHead) and network.head.tied


def check_base(model: NetworkModule, base: Base, where: str) -> None:
    """Raises InputError if the network is not the one an adapter was made for."""
    here = base_of(model)
    if here.vocab_size != base.vocab_size:
        raise InputError(
            f"{where}: made for {base.vocab_size} tokens, the network has {here.vocab_size}; "
            f"bring it to {base.vocab_size} first (yuyan.models.surgery.resize_embeddings)"
        )
    if here.tied != base.tied:
        said = ("tied to", "not tied to") if base.tied else ("not tied to", "tied to")
        raise InputError(f"{where}: made for scores {said[0]} the embedding, those of the network are {said[1]} it")
    if here.sha256 != base.sha256:
        raise InputError(
            f"{where}: made for other weights (SHA-256 {base.sha256[:12]}, here {here.sha256[:12]})"
            + (f"; they came from {base.path}" if base.path else "")
        )


# ---------------------------------------------------------------- writing


class _Pair(NamedTuple):
    """An adapter as they store it: `down` (R, I), `up` (O, R), and what the product is multiplied by."""

    down: Tensor
    up: Tensor
    scale: float


def write_adapter(model: NetworkModule, folder: Path, base: Base | None = None) -> None:
    """Write the adapters of `model`, and what is trained beside them, into an existing folder. Raises StorageError."""
    layers, adapters = Layers(model), adapters_of(model)
    if not adapters:
        raise InputError("no adapter to write: the network has none")
    pairs = _pairs(layers, adapters)
    tensors = {f"{name}.{key}": tensor for name, pair in pairs.items() for key, tensor in _stored(pair, layers, name)}
    saved = layers.modules_of(_trained_beside(model))
    for module in saved:
        tensors |= layers.tensors_of(module)
    config = _config(model, layers, pairs, saved) | {"base_model_name_or_path": base and base.path}
    with write_atomically(folder / WEIGHTS) as temporary:
        whole = {PREFIX + name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG, config)
    if base is not None:
        write_json(folder / BASE, dump(base))


def _stored(pair: _Pair, layers: Layers, module: str) -> list[tuple[str, Tensor]]:
    if layers.is_table(module):
        return [("lora_embedding_A", pair.down), ("lora_embedding_B", pair.up)]
    return [("lora_A.weight", pair.down), ("lora_B.weight", pair.up)]


def _pairs(layers: Layers, adapters: Mapping[str, Adapter]) -> dict[str, _Pair]:
    """Each of their modules with its adapter."""
    pairs: dict[str, _Pair] = {}
    for module, parts in layers.group(adapters).items():
        only = adapters.get(parts[0])
        if len(parts) > 1 or only is None:
            pairs[module] = _joined([adapters.get(part) for part in parts], [layers.outputs_of(part) for part in parts])
            continue
        pairs[module] = pair = _Pair(only.down.detach(), only.up.detach(), only.scale)
        for copy in layers.copies_of(parts[0]):  # what shares a table has to change with it
            turned = _Pair(pair.up.t(), pair.down.t(), pair.scale)
            pairs[copy] = pair if layers.is_table(copy) else turned
    return pairs


def _joined(parts: Sequence[Adapter | None], outputs: Sequence[int]) -> _Pair:
    """Adapters of layers side by side as one: with one `down` if they share it, else in blocks."""
    real = [part for part in parts if part is not None]
    shared = all(part.down is real[0].down for part in real)
    rank, scale = real[0].rank if shared else sum(part.rank for part in real), real[0].scale
    rows, begin = [], 0
    for part, size in zip(parts, outputs, strict=True):
        up = real[0].up.new_zeros(size, rank)
        if part is not None:
            first = 0 if shared else begin
            up[:, first : first + part.rank] = part.up.detach() * (part.scale / scale)
            begin += part.rank
        rows.append(up)
    down = real[0].down if shared else torch.cat([part.down for part in real])
    return _Pair(down.detach(), torch.cat(rows), scale)


def _trained_beside(model: NetworkModule) -> set[str]:
    """Our names of the parameters that are trained in full. A head of labels always counts: theirs expects it."""
    own = {f"{name}.{leaf}" for name in adapters_of(model) for leaf in ("down", "up")}
    trained = {name for name, p in model.named_parameters() if p.requires_grad} - own
    if isinstance(model.config.head, LabelHead):
        trained |= {name for name, _ in model.named_parameters() if name.startswith("head.")}
    return trained


def _config(model: NetworkModule, layers: Layers, pairs: Mapping[str, _Pair], saved: list[str]) -> dict[str, Any]:
    shapes = {name: (pair.down.shape[0], pair.scale * pair.down.shape[0]) for name, pair in pairs.items()}
    usual = max(set(shapes.values()), key=lambda shape: list(shapes.values()).count(shape))
    other = {name: shape for name, shape in shapes.items() if shape != usual}
    tables = any(module.rpartition(".")[2] == "embed_tokens" for module in [*pairs, *saved])
    # with two sides PEFT ties the wrong way round; there the copies, which are always written, are enough
    tied = is_tied(model.config) and model.config.encoder is None and tables
    return {
        "peft_type": "LORA",
        "task_type": _task(model.config),
        "r": usual[0],
        "lora_alpha": _number(usual[1]),
        "rank_pattern": {name: rank for name, (rank, _) in other.items()},
        "alpha_pattern": {name: _number(alpha) for name, (_, alpha) in other.items()},
        "lora_dropout": next(iter(adapters_of(model).values())).dropout.rate,
        "target_modules": layers.shortened(list(pairs)),
        "modules_to_save": saved or None,
        "fan_in_fan_out": any(layers.is_transposed(name) for name in pairs),
        "ensure_weight_tying": tied,  # PEFT knows only these tables
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": False,
    }


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _task(network: Network) -> str | None:
    head = network.head
    if isinstance(head, LanguageModelHead):
        return "CAUSAL_LM" if network.encoder is None else "SEQ_2_SEQ_LM"
    if isinstance(head, LabelHead):
        return {TOKEN: "TOKEN_CLS", ANSWER: "QUESTION_ANS"}.get(suffix(head), "SEQ_CLS")
    return "FEATURE_EXTRACTION" if isinstance(head, PoolerHead | None) else None


# ---------------------------------------------------------------- reading


class _Found(NamedTuple):
    """What an adapter's files hold, under the names that this network's class has for it."""

    pairs: dict[str, _Pair]
    """By layer."""
    whole: dict[str, Tensor]
    """Tensors that replace those of the network."""


def read_adapter(model: NetworkModule, folder: Path) -> None:
    """Put the adapter in `folder`, written by us or by PEFT, on the network that it was made for; all else is frozen.

    Raises InputError (another network), ConfigError (a kind of adapter that is not supported), DataError or
    CheckpointCorrupt; the network is then as it was.
    """
    folder, layers = Path(folder), Layers(model)
    if adapters_of(model):
        raise InputError(f"{folder}: the network has an adapter already; merge it, or take it off")
    settings = Published(read_json(folder / CONFIG), str(folder / CONFIG))
    scale, dropout, tied = _settings(settings)
    if (folder / BASE).is_file():
        check_base(model, build(Base, read_json(folder / BASE), where=str(folder / BASE)), str(folder))
    found = _found(_tensors(folder / WEIGHTS), layers, folder, scale)
    _check_copies(found, layers, folder, tied)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        for module, pair in found.pairs.items():
            if not layers.is_copy(module + WEIGHT):
                _attach(model, layers, module, pair, dropout)
        _replace(layers, found.whole, folder)
    except InputError as error:
        detach_adapters(model)
        for parameter in trained:
            parameter.requires_grad_(True)
        raise DataError(f"{folder}: {error}") from None


def _settings(c: Published) -> tuple[Callable[[str, int], float], float, bool]:
    """The scale of an adapter by its layer and rank, the dropout, and whether copies follow their originals."""
    c.only("peft_type", "LORA")
    c.only("bias", "none")
    if (init := c.data.get("init_lora_weights")) is not None and init not in BASE_KEPT:
        raise c.wrong(
            "init_lora_weights",
            f"{init!r} changes the weights that the adapter is added to, which are not in its folder; "
            "let PEFT write it for the weights as they were: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    c.ignore("r", "rank_pattern", "init_lora_weights", *INERT)
    alpha, root = c.take("lora_alpha", float, 8.0), c.take("use_rslora", bool, False)
    patterns = {str(name): float(value) for name, value in (c.maybe("alpha_pattern", dict) or {}).items()}
    if odd := [name for name in patterns if not re.fullmatch(r"[\w.-]+", name)]:
        raise c.wrong("alpha_pattern", f"{odd[0]!r}: only names of layers are supported")
    dropout, tied = c.take("lora_dropout", float, 0.0), c.take("ensure_weight_tying", bool, False)
    c.finish()

    def scale(module: str, rank: int) -> float:
        own = next((v for name, v in patterns.items() if module == name or module.endswith("." + name)), alpha)
        return own / (math.sqrt(rank) if root else rank)

    return scale, dropout, tied


def _tensors(path: Path) -> dict[str, Tensor]:
    refuse_link(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointCorrupt(path, "whole safetensors", str(error)) from None
    refuse_repeated_names(path)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointCorrupt(path, f"finite numbers in {name}", "NaN or infinity")
    return {name.removeprefix(PREFIX): tensor.float() for name, tensor in tensors.items()}


def _found(tensors: Mapping[str, Tensor], layers: Layers, folder: Path, scale: Callable[[str, int], float]) -> _Found:
    pairs: dict[str, _Pair] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        leaf = next((key for key in (*DOWN, *UP) if name.endswith("." + key)), None)
        module = name.removesuffix(f".{leaf}")
        known = layers.known(module + WEIGHT if leaf else name.replace(".base_layer.", "."))
        if known is None:
            raise DataError(f"{folder / WEIGHTS}: {name}: no such layer in this network")
        if leaf is None:
            whole[known] = tensor
        elif leaf in DOWN:
            up = next((tensors[f"{module}.{key}"] for key in UP if f"{module}.{key}" in tensors), None)
            if up is None or tensor.ndim != 2 or up.ndim != 2 or up.shape[1] != tensor.shape[0]:
                raise DataError(f"{folder / WEIGHTS}: {name}: its other half is missing or does not fit")
            pairs[known.removesuffix(WEIGHT)] = _Pair(tensor, up, scale(module, tensor.shape[0]))
        elif not any(f"{module}.{key}" in tensors for key in DOWN):
            raise DataError(f"{folder / WEIGHTS}: {name}: its other half is missing")
    if not pairs:
        raise DataError(f"{folder / WEIGHTS}: there is no adapter in it")
    return _Found(pairs, whole)


def _check_copies(found: _Found, layers: Layers, folder: Path, tied: bool) -> None:
    """A table and what shares its weights here must change alike, or merging would change one for the other."""
    for copy, original in layers.copies.items():
        mine, theirs = found.whole.get(copy), found.whole.get(original)
        if mine is None:
            same = tied or theirs is None
        else:
            same = torch.equal(mine, layers.tensor_of(original) if theirs is None else theirs)
        pair, table = (found.pairs.get(name.removesuffix(WEIGHT)) for name in (copy, original))
        if same and pair is not None and table is not None:
            alike = layers.is_table(copy.removesuffix(WEIGHT))
            up, down = (pair.up, pair.down) if alike else (pair.down.t(), pair.up.t())
            same = torch.equal(up, table.up) and torch.equal(down, table.down) and pair.scale == table.scale
        elif pair is not None or (table is not None and not tied):
            same = False
        if not same:
            raise DataError(
                f"{folder}: changes {original} and {copy} apart, which are one in this network; "
                "write the network with an output of its own first (tie_word_embeddings: false)"
            )


def _attach(model: NetworkModule, layers: Layers, module: str, pair: _Pair, dropout: float) -> None:
    parts = [name.removesuffix(WEIGHT) for name in layers.made[module + WEIGHT][1]]
    sizes = [layers.outputs_of(part) for part in parts]
    if len(parts) == 1:
        attach(model, parts[0], pair.down, pair.up, scale=pair.scale, dropout=dropout)
        return
    if sum(sizes) != pair.up.shape[0]:
        raise InputError(f"{module}: an adapter with {pair.up.shape[0]} outputs does not fit a layer with {sum(sizes)}")
    ups = torch.split(pair.up, sizes)
    used = [up.any(0) for up in ups]
    blocks = int(torch.stack(used).sum(0).max()) == 1
    shared = nn.Parameter(pair.down)
    for part, up, columns in zip(parts, ups, used, strict=True):
        if blocks and bool(columns.any()):
            attach(model, part, pair.down[columns], up[:, columns].clone(), scale=pair.scale, dropout=dropout)
        elif not blocks:
            attach(model, part, shared, up.clone(), scale=pair.scale, dropout=dropout)


def _replace(layers: Layers, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Put whole tensors in the place of the network's, and let them be trained."""
    changes: list[tuple[Tensor, Tensor]] = []
    for name, tensor in whole.items():
        if not layers.is_copy(name):
            row, ours = layers.made[name]
            changes += zip((layers.plain[our] for our in ours), row.change.load(tensor), strict=True)
    for parameter, tensor in changes:
        if parameter.shape != tensor.shape:
            raise InputError(f"a tensor of {tuple(tensor.shape)} stands for one of {tuple(parameter.shape)}")
    with torch.no_grad():
        for parameter, tensor in changes:
            parameter.copy_(tensor)
            parameter.requires_grad_(True)

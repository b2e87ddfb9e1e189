"""Model folders: `config.json` and weights, in Hugging Face's layout where a family has one for the network, else ours.

Reading runs no code from the folder, allocates nothing before names and shapes agree, and ends in a network that is
wholly understood or in an error that names what is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yuyan.config import build, did_you_mean, dump
from yuyan.errors import CheckpointCorrupt, ConfigError, DataError
from yuyan.hub.family import Family, comparable
from yuyan.hub.llama import LLAMA, MISTRAL
from yuyan.hub.names import Row, find_theirs, list_names, their_names
from yuyan.hub.qwen import QWEN2, QWEN3
from yuyan.hub.tensors import SHARD_BYTES, Weights, write_tensors
from yuyan.models.cost import parameter_count
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.stack import Stack
from yuyan.store import write_json

FAMILIES: tuple[Family, ...] = (LLAMA, MISTRAL, QWEN3, QWEN2)
"""In this order they are asked whether they can express a network."""
OURS = "yuyan"
CONFIG, GENERATION = "config.json", "generation_config.json"
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


# ---------------------------------------------------------------- reading


def read_config(folder: Path) -> tuple[Network, Family | None]:
    """The network that a folder's `config.json` describes, and whose layout it has (None: ours).

    Raises DataError (no such file, not JSON) and ConfigError (a setting that is unknown or not supported).
    """
    path = folder / CONFIG
    data = _read_json(path)
    if data.get("model_type") == OURS:
        architecture = data.get("architecture")
        if not isinstance(architecture, dict) or architecture.get("kind") != "network":
            raise ConfigError(f"{path}: architecture: expected a mapping of kind network; got {architecture!r}")
        plain = {key: value for key, value in architecture.items() if key != "kind"}
        return build(Network, plain, where=str(path)).filled(), None
    family = _family(data, path)
    network = family.network(data, str(path))
    own = data.get(OURS)
    if isinstance(own, dict):  # our own words for the same network, which also have the dropouts
        try:
            written = build(Network, own, where=str(path)).filled()
        except ConfigError:
            return network, family
        if comparable(written) == comparable(network):
            return written, family
    return network, family


def read_model(folder: Path, dtype: torch.dtype | None = torch.float32) -> NetworkModule:
    """The network in a folder, in evaluation mode, its numbers as `dtype` (None: as they are stored).

    Raises DataError, ConfigError or CheckpointCorrupt, naming the file and the tensor or key.
    """
    folder = Path(folder)
    network, family = read_config(folder)
    weights = Weights(folder)
    _check_size(network, weights, folder)
    with torch.device("meta"):
        module = NetworkModule(network)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    plan = _Plan(family, network, wanted, folder)
    for name, stored in weights.stored.items():
        plan.expect(name, stored.shape)
    plan.finish()
    for name, tensor in weights.read():
        plan.take(name, tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype))
    module.load_state_dict(plan.tensors(), strict=True, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module.eval()


def _read_json(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise DataError(f"{path}: is a symbolic link; copy the folder with its files (cp -rL) and use the copy")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the folder of a model") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: a model's config is a mapping, not a {type(data).__name__}")
    return data


def _family(data: Mapping[str, Any], path: Path) -> Family:
    name = data.get("model_type")
    for family in FAMILIES:
        if family.model_type == name:
            return family
    known = [OURS, *(family.model_type for family in FAMILIES)]
    raise ConfigError(f"{path}: model_type: {name!r} is not a family that is known{did_you_mean(str(name), known)}")


def _check_size(network: Network, weights: Weights, folder: Path) -> None:
    """A config cannot make us build what its files do not hold."""
    count, held = parameter_count(network), weights.elements
    layers = [side.num_layers for side in (network.encoder, network.decoder) if side is not None]
    if max(layers) > len(weights.stored) or count > 2 * held + 1_000_000:
        raise ConfigError(f"{folder / CONFIG}: describes {count:,} parameters, but the weights have {held:,}")


class _Plan:
    """Which tensor of theirs becomes which of ours: checked by name and shape first, filled after."""

    def __init__(self, family: Family | None, network: Network, wanted: dict[str, tuple[int, ...]], folder: Path):
        self.family, self.wanted, self.folder = family, wanted, folder
        self.table: Sequence[Row] = family.table(network) if family else [Row(name, name) for name in wanted]
        self.unknown: list[str] = []
        self.found: dict[str, str] = {}
        self.ours: dict[str, Tensor] = {}
        self.copies: list[tuple[str, Tensor, str]] = []

    def _row(self, name: str) -> tuple[Row, dict[str, str]] | None:
        """The row of a name in any of its spellings: without the prefix, or with TensorFlow's names of a norm."""
        new = name.removesuffix(".gamma") + ".weight" if name.endswith(".gamma") else name
        new = new.removesuffix(".beta") + ".bias" if new.endswith(".beta") else new
        return find_theirs(self.table, new) or (
            find_theirs(self.table, self.family.prefix + new) if self.family and self.family.prefix else None
        )

    def _names(self, row: Row, values: dict[str, str]) -> list[str]:
        return [pattern.format(**values) for pattern in row.names]

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Note that the files have this tensor."""
        match = self._row(name)
        if match is None:
            self.unknown.append(name)
            return
        row, values = match
        ours = self._names(row, values)
        if not ours or (row.tied and ours[0] not in self.wanted):
            return
        for our in ours:
            if our not in self.wanted:
                self.unknown.append(name)
                return
            if our in self.found:
                raise DataError(f"{self.folder}: {name} and {self.found[our]} are both {our}")
            self.found[our] = name
        with torch.device("meta"):
            made = row.change.load(torch.empty(shape))
        for our, part in zip(ours, made, strict=True):
            if tuple(part.shape) != self.wanted[our]:
                raise DataError(
                    f"{self.folder}: {name}: shape {shape} does not fit the config, which makes {our} {self.wanted[our]}"
                )

    def finish(self) -> None:
        """Raise DataError naming the tensors that are missing or too many."""
        kind = self.family.model_type if self.family else OURS
        if self.unknown:
            raise DataError(f"{self.folder}: no tensor of a {kind} model as configured: {list_names(self.unknown)}")
        if missing := [name for name in self.wanted if name not in self.found]:
            named = [self._theirs(name) for name in missing]
            raise DataError(f"{self.folder}: missing from the weights: {list_names(list(dict.fromkeys(named)))}")

    def _theirs(self, name: str) -> str:
        made = their_names(self.table, self.wanted)
        return next((theirs for theirs, (_, ours) in made.items() if name in ours), name)

    def take(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under our name."""
        match = self._row(name)
        assert match is not None, name
        row, values = match
        ours = self._names(row, values)
        if not ours:
            return
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointCorrupt(self.folder / name, "finite numbers", "NaN or infinity")
        if row.tied and ours[0] not in self.wanted:
            self.copies.append((name, tensor, row.tied.format(**values)))
        else:
            self.ours.update(zip(ours, row.change.load(tensor), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """All of ours. Raises DataError if a tensor that should be a copy is not."""
        for name, tensor, original in self.copies:
            if not torch.equal(tensor, self.ours[original]):
                raise DataError(
                    f"{self.folder}: {name} should be a copy of {self.found[original]} and is not: "
                    "set tie_word_embeddings to false in config.json if the model was trained so"
                )
        return self.ours


# ---------------------------------------------------------------- writing


def family_of(network: Network) -> tuple[Family, dict[str, Any]] | None:
    """The first family that can express a network, and its `config.json`; None if none can."""
    network = network.filled()
    for family in FAMILIES:
        data = family.write(network)
        if data is None:
            continue
        data = {"model_type": family.model_type, **data}
        try:
            again = family.network(json.loads(json.dumps(data)), CONFIG)
        except ConfigError:
            continue
        if comparable(again) == comparable(network):
            return family, data
    return None


def write_model(
    model: NetworkModule,
    folder: Path,
    *,
    special_ids: Mapping[str, int | None] | None = None,
    context: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Write `config.json` and the weights into `folder`, for `generation_config.json` see below; returns the model type.

    `special_ids` (`bos_token_id`, `eos_token_id`, `pad_token_id`) go where other programs look for them, and with them
    a decoder gets a `generation_config.json`; `context` is how many tokens it was trained to read. Raises StorageError.
    """
    folder = Path(folder)
    network = model.config.filled()
    ids = {key: (special_ids or {}).get(key) for key in SPECIAL_IDS}
    tensors: dict[str, Tensor] = dict(model.state_dict())
    found = family_of(network)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    if found is None:
        data: dict[str, Any] = {"model_type": OURS, "architecture": {"kind": "network", **dump(network)}}
        name = OURS
    else:
        family, data = found
        name = family.model_type
        lengths = {} if context is None else {"max_position_embeddings": context}
        data = {**lengths, **data, OURS: dump(network)}
        tensors = _theirs(family, network, tensors)
    write_tensors(folder, tensors, shard_bytes)
    write_json(folder / CONFIG, {**data, **ids, "dtype": dtype, "torch_dtype": dtype})
    if special_ids and isinstance(network.decoder, Stack):
        write_json(folder / GENERATION, {key: value for key, value in ids.items() if value is not None})
    return name


def _theirs(family: Family, network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names; a model without a head has names without the prefix."""
    made = their_names(family.table(network), tensors)
    named = {name: row.change.save([tensors[our] for our in ours]) for name, (row, ours) in made.items()}
    return named if network.head is not None else {k.removeprefix(family.prefix): v for k, v in named.items()}

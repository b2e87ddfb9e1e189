"""Model folders: `config.json` and weights, in Hugging Face's layout where a family has one for the network, else ours.

Reading runs no code from the folder, allocates nothing before names and shapes agree, and ends in a network that is
wholly understood or in an error that names what is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yuyan.config import build, did_you_mean, dump
from yuyan.errors import ConfigError, DataError
from yuyan.hub.families import FAMILIES, family_of
from yuyan.hub.family import Family, comparable
from yuyan.hub.links import refuse_link
from yuyan.hub.names import their_names
from yuyan.hub.plan import OURS, Plan
from yuyan.hub.tensors import SHARD_BYTES, Weights, write_tensors
from yuyan.models.cost import parameter_count
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.stack import Stack
from yuyan.store import write_json

CONFIG, GENERATION = "config.json", "generation_config.json"
SPECIAL_IDS, START_ID = ("bos_token_id", "eos_token_id", "pad_token_id"), "decoder_start_token_id"


# ---------------------------------------------------------------- reading


def read_config(folder: Path) -> Network:
    """The network that a folder describes, without its weights. Raises as `read_model` does."""
    return _read(Path(folder))[0]


def _read(folder: Path) -> tuple[Network, Family | None, Weights]:
    """The network of a folder, whose layout it has (None: ours), and its weights, not yet read."""
    network, family = _config(folder / CONFIG, weights := Weights(folder))
    return network, family, weights


def _config(path: Path, weights: Weights) -> tuple[Network, Family | None]:
    data = read_json(path)
    if data.get("model_type") == OURS:
        architecture = data.get("architecture")
        if not isinstance(architecture, dict) or architecture.get("kind") != "network":
            raise ConfigError(f"{path}: architecture: expected a mapping of kind network; got {architecture!r}")
        plain = {key: value for key, value in architecture.items() if key != "kind"}
        return build(Network, plain, where=str(path)).filled(), None
    family = _family(data, path)
    network = family.network(data, str(path), weights.stored)
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
    network, family, weights = _read(folder)
    _check_size(network, weights, folder)
    with torch.device("meta"):
        module = NetworkModule(network)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    plan = Plan(family, network, wanted, folder)
    for name, stored in weights.stored.items():
        plan.expect(name, stored.shape)
    plan.finish()
    for name, tensor in weights.read():
        plan.take(name, tensor, dtype)
    module.load_state_dict(plan.tensors(), strict=True, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module.eval()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a folder, which must be no link out of it. Raises DataError."""
    refuse_link(path)
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
    layers = [getattr(side, "num_layers", 1) for side in (network.encoder, network.decoder)]
    if max(layers) > len(weights.stored) or count > 2 * held + 1_000_000:
        raise ConfigError(f"{folder / CONFIG}: describes {count:,} parameters, but the weights have {held:,}")


# ---------------------------------------------------------------- writing


def write_model(
    model: NetworkModule,
    folder: Path,
    *,
    special_ids: Mapping[str, int | list[int] | None] | None = None,
    context: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Write `config.json` and the weights into `folder`, for `generation_config.json` see below; returns the model type.

    `special_ids` (`bos_token_id`, `eos_token_id`, `pad_token_id`, `decoder_start_token_id`) go where other programs look for them, and with them
    a decoder gets a `generation_config.json`; `context` is how many tokens it was trained to read. Raises StorageError.
    """
    folder = Path(folder)
    network = model.config.filled()
    ids = {key: (special_ids or {}).get(key) for key in SPECIAL_IDS}
    if (start := (special_ids or {}).get(START_ID)) is not None:
        ids[START_ID] = start
    tensors: dict[str, Tensor] = dict(model.state_dict())
    found = family_of(network)
    if (
        found
        and ids["pad_token_id"] is not None
        and found[1].get("pad_token_id", ids["pad_token_id"]) != ids["pad_token_id"]
    ):
        found = None  # RoBERTa counts positions by its padding id, which is another one here
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    if found is None:
        data: dict[str, Any] = {"model_type": OURS, "architecture": {"kind": "network", **dump(network)}}
        name = OURS
    else:
        family, data = found
        name = family.model_type
        lengths = {} if context is None or network.encoder else {"max_position_embeddings": context}
        data = {**lengths, **data, OURS: dump(network)}
        tensors = _theirs(family, network, tensors)
    write_tensors(folder, tensors, shard_bytes)
    write_json(folder / CONFIG, {**ids, **data, "dtype": dtype, "torch_dtype": dtype})
    if special_ids and isinstance(network.decoder, Stack):
        write_json(folder / GENERATION, {key: value for key, value in ids.items() if value is not None})
    return name


def _theirs(family: Family, network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names; a model without a head has names without the prefix."""
    made = their_names(family.table(network), tensors)
    named = {name: row.change.save([tensors[our] for our in ours]) for name, (row, ours) in made.items()}
    return named if network.head is not None else {k.removeprefix(family.prefix): v for k, v in named.items()}

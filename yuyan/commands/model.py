"""`yuyan model show`: how large a model is and what it costs, before it is built."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yuyan.commands.run import RunConfig, read_run_config
from yuyan.commands.settings import From
from yuyan.console import say, table
from yuyan.errors import ConfigError, InputError
from yuyan.hub import read_config
from yuyan.models.cost import flops_per_token
from yuyan.models.memory import generation_memory, training_memory
from yuyan.models.network import Network, NetworkModule
from yuyan.models.presets import readable_context
from yuyan.nn.adapt import Adapter, adapt
from yuyan.nn.head import WORDS, LanguageModelHead, MaskedHead
from yuyan.tasks.model_folder import is_ngram, model_folder
from yuyan.tokens import load_tokenizer
from yuyan.train import AdamW, OptimizerConfig, parameter_kinds, resolve

DEFAULT_CONTEXT, DEFAULT_ROWS = 256, 16
GENERATION_DTYPE = torch.float32
"""What models are opened as."""
_PARTS = (
    (r".*\.(down|up)", "adapters"),
    (r"embedding\..*", "embedding"),
    (r"(encoder|decoder)\..*norm\b.*", r"\1: norms"),
    (r"(encoder|decoder)\.layers\.\d+\.(cross_attention|attention|ffn)\..*", r"\1: \2"),
    (r"(encoder|decoder)\.(position|local_position)\..*", r"\1: positions"),
    (r"(encoder|decoder)\.cell\..*", r"\1: cells"),
    (r"(encoder|decoder)\..*", r"\1: other"),
    (r"head\..*", "head"),
)


@dataclass(frozen=True)
class Described:
    """A network that is not built, and how it is going to be used."""

    name: str
    network: Network
    module: NetworkModule
    """On no device: names, shapes, and what is trained."""
    context: int
    rows: int
    dtype: torch.dtype
    optimizer: OptimizerConfig
    recompute: bool = False


def show_command(place: Path, overrides: Sequence[str], *, as_json: bool) -> dict[str, Any]:
    """Print parameters, arithmetic and memory of the model of a config file or in a folder."""
    result = describe(described(place, overrides))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result)
        if place.is_file():
            say(f"now try:\n  yuyan train {place}")
        elif result["generation_bytes"]:
            say(f"now try:\n  yuyan generate {place} 'Once upon a time'")
    return result


def described(place: Path, overrides: Sequence[str]) -> Described:
    """The network that a config file or a folder stands for. `overrides` are keys of the config, for a folder those of
    `train`. Raises InputError.
    """
    if place.is_file():
        return _of_config(read_run_config(place, overrides))
    if (place / "run.yaml").is_file() and not (place / "model").is_dir():
        return _of_config(read_run_config(place / "run.yaml", overrides))
    folder = model_folder(place)
    if is_ngram(folder):
        raise InputError(f"{place}: an n-gram model is a table of counts; `yuyan evaluate` says how good it is")
    network = read_config(folder)
    settings = _settings(overrides)
    asked = settings.get("train.context", DEFAULT_CONTEXT)
    context = readable_context(network, asked) or asked
    if "train.context" in settings and context < asked:
        raise ConfigError(f"command line: train.context: {asked} tokens; {place} has positions for {context}")
    rows = max(1, settings.get("train.micro_tokens", DEFAULT_ROWS * context) // context)
    return Described(
        str(place), network, _on_no_device(network), context, rows, resolve("auto", torch.device("cpu")), AdamW()
    )


def _settings(overrides: Sequence[str]) -> dict[str, int]:
    """What may be said of a folder."""
    settings: dict[str, int] = {}
    for assignment in overrides:
        key, _, value = assignment.partition("=")
        if key not in ("train.context", "train.micro_tokens") or not value.isdigit() or int(value) < 1:
            raise ConfigError(f"command line: {assignment!r}: a folder takes train.context=N and train.micro_tokens=N")
        settings[key] = int(value)
    return settings


def _of_config(config: RunConfig) -> Described:
    network = config.model.network(_vocab_size(config)).filled()
    module = _on_no_device(network)
    adapt(module, config.adapt, config.seed)
    settings = config.train
    rows = settings.micro_rows
    dtype = resolve(settings.precision, torch.device("cpu"))
    return Described(
        config.name,
        network,
        module,
        settings.context,
        rows,
        dtype,
        settings.optimizer,
        settings.activation_checkpointing,
    )


def _vocab_size(config: RunConfig) -> int:
    if isinstance(config.tokenizer, From):
        return len(load_tokenizer(config.tokenizer.path))
    if config.tokenizer.vocab_size is None:
        raise ConfigError(
            "tokenizer.vocab_size: not known before the text is read; give a guess to see the size of the model, "
            "such as tokenizer.vocab_size=100"
        )
    return config.tokenizer.vocab_size


def _on_no_device(network: Network) -> NetworkModule:
    with torch.device("meta"):
        return NetworkModule(network)


# ---------------------------------------------------------------- what it comes to


def describe(model: Described) -> dict[str, Any]:
    """Everything as plain numbers: parameters by part, operations a token, bytes."""
    parts, trained = parameters_by_name(model.module)
    total, learned, size = sum(parts.values()), sum(trained.values()), model.dtype.itemsize
    forward = flops_per_token(model.network, model.context)
    masters = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
    training = training_memory(
        model.network, total, learned, rows=model.rows, context=model.context, number_bytes=size,
        kept=model.optimizer.kept(masters, parameter_kinds(model.module)), recompute=model.recompute,
    )  # fmt: skip
    writing = generation_memory(model.network, total, GENERATION_DTYPE.itemsize)
    return {
        "name": model.name,
        "vocab_size": model.network.vocab_size,
        "parameters": {
            "parts": parts, "trained": trained, "total": total, "total_trained": learned, "tied": _tied(model.network),
        },
        "flops_per_token": {
            "context": model.context, "forward": forward, "training": training_flops(model.module, forward),
        },
        "training_bytes": {
            "rows": model.rows, "context": model.context, "dtype": _name(model.dtype),
            "optimizer_kind": model.optimizer.kind, **training._asdict(), "total": training.total,
        },
        "generation_bytes": {"dtype": _name(GENERATION_DTYPE), **writing._asdict()} if _writes(model.network) else None,
    }  # fmt: skip


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _writes(network: Network) -> bool:
    return network.decoder is not None and isinstance(network.head, WORDS)


def _tied(network: Network) -> bool:
    return isinstance(network.head, LanguageModelHead | MaskedHead) and network.head.tied


def parameters_by_name(module: nn.Module) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters of each part, and how many of them are trained."""
    parts: dict[str, int] = {}
    trained: dict[str, int] = {}
    for name, parameter in module.named_parameters():
        part = next(re.sub(pattern, kind, name) for pattern, kind in _PARTS if re.fullmatch(pattern, name))
        part = part.replace("_", "-")
        parts[part] = parts.get(part, 0) + parameter.numel()
        trained[part] = trained.get(part, 0) + (parameter.numel() if parameter.requires_grad else 0)
    return parts, trained


def training_flops(module: NetworkModule, forward: int) -> int:
    """Operations of an update for each token: twice the forward pass for the gradients, less those of frozen weights."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    if _tied(module.config):
        tables -= {id(module.embedding.token.weight)}
    frozen = sum(p.numel() for p in module.parameters() if p.ndim > 1 and not p.requires_grad and id(p) not in tables)
    extra = sum(a.down.numel() + a.up.numel() for a in module.modules() if isinstance(a, Adapter))
    return 3 * forward - 2 * frozen + 6 * extra


# ---------------------------------------------------------------- for people


def show(result: dict[str, Any]) -> None:
    """The tables."""
    parameters = result["parameters"]
    total, learned = parameters["total"], parameters["total_trained"]
    also = {"embedding": "embedding (also scores the tokens)"} if parameters["tied"] else {}
    rows = [[also.get(part, part), f"{n:,}", f"{100 * n / total:.1f} %", _trained(parameters["trained"][part], n)]
            for part, n in parameters["parts"].items()]  # fmt: skip
    rows.append(["all", f"{total:,}", "100.0 %", _trained(learned, total)])
    say(f"{result['name']}: a vocabulary of {result['vocab_size']:,} tokens")
    table("", ["part", "parameters", "share", "trained"], rows)
    flops, training = result["flops_per_token"], result["training_bytes"]
    say(
        f"operations a token, in a text of {flops['context']} tokens: {_number(flops['forward'])} forward, "
        f"{_number(flops['training'])} in training"
    )
    say(f"training in {training['dtype']}, {training['rows']} rows of {training['context']} tokens at once:")
    words = _WORDS | {"optimizer": f"optimizer ({training['optimizer_kind']})"}
    rows = [[words[key], _size(training[key])] for key in words if training[key]]
    table("", ["memory", "size"], [*rows, ["all", _size(training["total"])]])
    writing = result["generation_bytes"]
    if writing:
        say(
            f"generation in {writing['dtype']}: weights {_size(writing['weights'])}, and for each text {_each(writing)}"
        )


_WORDS = {
    "weights": "weights", "masters": "float32 copies of what is trained", "gradients": "gradients",
    "optimizer": "optimizer", "copy": "copy to measure and save", "activations": "activations (estimate)",
}  # fmt: skip


def _each(writing: dict[str, Any]) -> str:
    own = f"{_size(writing['state'])} (its state)"
    if writing["cache_per_token"]:
        own = f"{_size(writing['cache_per_token'])} a token (keys and values)"
    source = writing["source_per_token"]
    return own if not source else f"{own} that it writes, and {_size(source)} a token that it reads"


def _trained(count: int, of: int) -> str:
    return "frozen" if not count else "all" if count == of else f"{count:,}"


def _number(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f}"


def _size(value: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f} B"

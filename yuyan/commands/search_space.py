"""The ranges of a search: what is written for keys in `tune:`, whether their values are any of the config's, and one drawn.

A key may lie in a section whose `kind` is searched too. It is then a key of some kinds only, and drawn for those alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from yuyan.commands.run import RunConfig
from yuyan.config import build, dump
from yuyan.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

BETWEEN = 0.6180339
"""Where between the ends of a range no whole number lies."""


def check_range(config: RunConfig, key: str, origin: Mapping[str, str]) -> None:
    """Raises ConfigError where a value that a key may be given is none of its own."""
    ((kind, values),) = config.tune[key].items()
    if kind in ("log", "uniform"):
        low, high = values
        values = (low, high, low + BETWEEN * (high - low))
    if key.endswith(".kind"):
        section = key.removesuffix(".kind")
        for value in values:
            build(RunConfig, _changed(config, {section: {"kind": value}}), origin)
        return
    for value in values:
        refused = list[ConfigError]()
        kinds = _kinds_above(config, key) or [{}]
        for above in kinds:
            try:
                build(RunConfig, _changed(config, above | {key: value}), origin)
            except ConfigError as error:
                refused.append(error)
        if len(refused) == len(kinds):
            raise refused[0]


def _kinds_above(config: RunConfig, key: str) -> list[dict[str, Any]]:
    """The sections that a key may lie in, where their kind is searched too: of `a.b.c` `{"a.b": {"kind": ...}}` for each."""
    section = next((above.removesuffix(".kind") for above in config.tune
                    if above.endswith(".kind") and key.startswith(above.removesuffix("kind"))), None)  # fmt: skip
    if section is None:
        return []
    (kinds,) = config.tune[f"{section}.kind"].values()
    return [{section: {"kind": kind}} for kind in kinds]


def _changed(config: RunConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config as plain data with other values of some dotted keys."""
    data = dump(config) | {"tune": {}}
    for key, value in values.items():
        assign(data, key, value)
    return data


def draw(config: RunConfig, trial: Trial) -> dict[str, Any]:
    """A value for every key that what is drawn before it leaves a key, kinds first."""
    chosen = dict[str, Any]()
    for key in sorted(config.tune, key=lambda key: not key.endswith(".kind")):
        ((how, values),) = config.tune[key].items()
        if _has(config, chosen, key, values[0]):
            chosen[key] = _suggest(trial, key, how, values)
    return chosen


def _has(config: RunConfig, chosen: Mapping[str, Any], key: str, value: object) -> bool:
    """Whether what was drawn so far has such a key: another kind of optimizer has others."""
    above = {k.removesuffix(".kind"): {"kind": v} for k, v in chosen.items() if k.endswith(".kind")}
    if not any(key.startswith(f"{section}.") for section in above):
        return True
    try:
        build(RunConfig, _changed(config, above | {key: value}))
    except ConfigError:
        return False
    return True


def assign(data: dict[str, Any], key: str, value: object) -> None:
    """Set a dotted key of nested mappings."""
    *parents, leaf = key.split(".")
    for parent in parents:
        if not isinstance(data.get(parent), dict):
            data[parent] = {}
        data = data[parent]
    data[leaf] = value


def _suggest(trial: Trial, key: str, kind: str, values: tuple[Any, ...]) -> Any:
    if kind == "choice":  # as JSON: Optuna's choices are plain values only
        return json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in values]))
    if kind == "int":
        return trial.suggest_int(key, *values)
    return trial.suggest_float(key, *values, log=kind == "log")

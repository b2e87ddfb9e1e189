"""A config as Python gives it: a file, a text, plain data or a RunConfig, with overrides as texts, mappings or keywords."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from yuyan.commands.run import RunConfig, read_run_config
from yuyan.config import COMMAND_LINE, flatten
from yuyan.errors import ConfigError

Given = str | Path | Mapping[str, Any] | RunConfig


def config_of(
    given: Given, overrides: Sequence[str | Mapping[str, Any]] = (), keywords: Mapping[str, Any] | None = None
) -> RunConfig:
    """The config, checked. Overrides apply in order, keywords (`train__steps=50`) last. Raises ConfigError, DataError."""
    if not isinstance(given, str | Path | Mapping | BaseModel):
        raise ConfigError(f"config: expected a YAML file, a text, a mapping or a RunConfig; got {type(given).__name__}")
    for key in keywords or {}:
        _check_keyword(key)
    written = [each for override in overrides for each in _assignments(override)]
    written += [_assignment(key.replace("__", "."), value) for key, value in (keywords or {}).items()]
    plain: Any = _plain(given, "config") if isinstance(given, BaseModel | Mapping) else Path(given)
    try:
        return read_run_config(plain, written)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{COMMAND_LINE}: ", "")) from None


def _check_keyword(key: str) -> None:
    """Raises ConfigError for the key of a section that is written without its section."""
    sections = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    inside = [name for name, section in sections.items() if key in getattr(section, "model_fields", {})]
    if key not in sections and inside:
        raise ConfigError(f"{key}: unknown key; did you mean {' or '.join(f'{name}__{key}' for name in inside)}?")


def _assignments(override: str | Mapping[str, Any]) -> list[str]:
    """`{"train": {"steps": 50}}` and `{"train.steps": 50}` as `train.steps=50`."""
    if isinstance(override, str):
        return [override]
    return [_assignment(key, value) for key, value in flatten(override).items()]


def _assignment(key: str, value: object) -> str:
    return f"{key}={json.dumps(_plain(value, key), ensure_ascii=False)}"  # JSON is YAML


def _plain(value: object, key: str) -> Any:
    """What JSON can say. Of a config only what was given, so that the rest stays open to choice."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        given = [name for name in fields if name in value.model_fields_set or name == "kind"]
        return {fields[name].alias or name: _plain(getattr(value, name), f"{key}.{name}") for name in given}
    if isinstance(value, Mapping):
        return {str(name): _plain(each, f"{key}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, key) for each in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{key}: expected what a YAML file can say; got {type(value).__name__}")

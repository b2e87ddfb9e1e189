"""`yuyan config show | schema | explain`: what a config says, what it may say, and what a key means."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from yuyan.commands.run import RunConfig
from yuyan.config import DEFAULT, did_you_mean, dump, flatten, load_config, to_yaml
from yuyan.console import table
from yuyan.errors import ConfigError


def show_command(path: Path, overrides: list[str], *, why: bool) -> None:
    """Print the filled config as YAML, or with `why` each value and where it comes from."""
    loaded = load_config(RunConfig, path, overrides)
    if not why:
        print(to_yaml(loaded.config), end="")
        return
    rows = [
        [key, _written(value), loaded.origin.get(key, DEFAULT)] for key, value in flatten(dump(loaded.config)).items()
    ]
    table(str(path), ["key", "value", "from"], rows, left=3)


def schema_command() -> None:
    """Print the JSON schema."""
    print(json.dumps(RunConfig.model_json_schema(), indent=1, ensure_ascii=False))


def explain_command(key: str | None) -> None:
    """Print what a key means; without a key, every key. Raises ConfigError for an unknown one."""
    known = list(explanations(RunConfig))
    chosen = [each for each in known if key is None or each.key == key or each.key.startswith(key + ".")]
    if not chosen:
        raise ConfigError(f"{key}: no such key{did_you_mean(str(key), {each.key for each in known})}")
    rows = [[each.key, each.of, each.type, each.default, each.meaning] for each in chosen]
    table("" if key is None else key, ["key", "of kind", "type", "default", "meaning"], rows, left=5)


class Explanation(NamedTuple):
    """A row of the table; `of` names the kinds that have the key, where not all of them do."""

    key: str
    of: str
    type: str
    default: str
    meaning: str


def explanations(model: type[BaseModel], prefix: str = "") -> Iterator[Explanation]:
    """Every key below `model`, and each of its meanings: the kinds of a choice may differ in type or default."""
    for name, field in model.model_fields.items():
        written = field.alias or name
        key = f"{prefix}.{written}" if prefix else written
        if name != "kind":
            yield Explanation(key, "", _type(field.annotation), _default(field), field.description or "")
        children = list(models_in(field.annotation))
        kinds = [str(child.model_fields["kind"].default) for child in children if "kind" in child.model_fields]
        if len(kinds) < 2:
            for child in children:
                yield from explanations(child, key)
            continue
        having: dict[Explanation, list[str]] = {}
        for kind, child in zip(kinds, children, strict=True):
            yield Explanation(f"{key}.kind", kind, "", "", inspect.getdoc(child) or "")
            for below in explanations(child, key):
                having.setdefault(below, []).append(kind)
        for below, owners in having.items():
            of = "" if len(owners) == len(kinds) else ", ".join(owners)
            yield below._replace(of=f"{below.of} ({of})" if below.of and of else below.of or of)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The configs that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from models_in(argument)


def _type(annotation: Any) -> str:
    """A type as a config file shows it: a choice by the names of its kinds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if origin is tuple:
        members = ", ".join(_type(each) for each in arguments if each is not Ellipsis)
        return f"list[{members}]"
    if annotation is NoneType:
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and "kind" in annotation.model_fields:
        return str(annotation.model_fields["kind"].default)
    name = str(getattr(origin or annotation, "__name__", annotation))
    return f"{name}[{', '.join(map(_type, arguments))}]" if arguments else name


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return str(value.model_dump(mode="json").get("kind", "...")) if isinstance(value, BaseModel) else _written(value)


def _written(value: Any) -> str:
    """A value as a config file has it."""
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.strip().removesuffix("...").strip()

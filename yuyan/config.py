"""A config is a frozen pydantic model; a YAML file is one written down.

Three rules: an unknown key is an error with a suggestion, a variant is a model chosen by its `kind`, and a value never
changes its type silently (validation is strict: "3" is not 3). Every error begins with the file and line, or with
`command line`, and the dotted path of the value. Nothing here knows what is being configured.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from yuyan.errors import ConfigError, DataError

COMMAND_LINE = "command line"
DEFAULT = "default"


class Config(BaseModel):
    """Base of every config: frozen, strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def _not_empty(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("the path is empty" if not value.strip() else "no path has a NUL")
    return value


Place = Annotated[Path, BeforeValidator(_not_empty)]
"""A path in a config. An empty one is a mistake, not the folder one is in."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What fixes everything that is drawn."""

C = TypeVar("C", bound=Config)


class Loaded(NamedTuple, Generic[C]):
    """A config and, for each dotted key that somebody wrote, where it was written."""

    config: C
    origin: dict[str, str]


def load_config(
    cls: type[C], path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Loaded[C]:
    """Read `path` (YAML), or start from `base`, apply `key.sub=value` overrides, and check everything.

    Raises ConfigError (unknown key, wrong type, missing value) and DataError (file missing or not YAML).
    """
    data, origin = (dict(base or {}), {}) if path is None else read_yaml(path)
    for assignment in overrides:
        key, value = parse_override(assignment)
        _assign(data, key, value)
        origin = {k: v for k, v in origin.items() if k != key and not k.startswith(key + ".")}
        origin.update(dict.fromkeys((key, *flatten(value, key)), COMMAND_LINE))
    return Loaded(build(cls, data, origin, where=None if path is None else str(path)), origin)


def build(cls: type[C], data: object, origin: Mapping[str, str] | None = None, where: str | None = None) -> C:
    """Make a `cls` from plain data (what JSON can say). Raises ConfigError with every mistake, one a line."""
    try:
        # JSON mode: strict about types, yet a list is a tuple and a text is a path.
        return cls.model_validate_json(json.dumps(_with_kinds(cls, data)), strict=True)
    except ValidationError as error:
        lines = [_explain(cls, data, detail, origin or {}, where) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _with_kinds(cls: type[BaseModel], data: object) -> object:
    """`data` with a `kind` in each section that has none: that of the section's default, if it has one."""
    if not isinstance(data, Mapping):
        return data
    filled = dict(data)
    for name, field in cls.model_fields.items():
        section, default = filled.get(name), field.default
        if not isinstance(section, Mapping):
            continue
        models = [m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
        if "kind" not in section and len(models) > 1 and isinstance(default, BaseModel) and _kind(type(default)):
            section = {"kind": _kind(type(default)), **section}
        chosen = next((m for m in models if len(models) == 1 or _kind(m) == section.get("kind")), None)
        filled[name] = section if chosen is None else _with_kinds(chosen, section)
    return filled


@contextmanager
def config_errors(where: str) -> Iterator[None]:
    """Turn what a config refuses that the program built itself, from the user's, into a ConfigError about `where`."""
    try:
        yield
    except ValidationError as error:
        said = (detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        raise ConfigError("\n".join(f"{where}: {line}" for line in dict.fromkeys(said))) from None


def dump(config: Config) -> dict[str, Any]:
    """The plain data that `build` would turn back into `config`, every default written."""
    return config.model_dump(mode="json")


def to_yaml(config: Config, *, only_given: bool = False) -> str:
    """The filled config as YAML text, or only what was given."""
    data = config.model_dump(mode="json", exclude_unset=True) if only_given else dump(config)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def fingerprint(config: Config) -> str:
    """Twelve hex digits that change when the config's meaning does."""
    return hashlib.sha256(json.dumps(dump(config), sort_keys=True).encode()).hexdigest()[:12]


def flatten(data: object, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of dotted keys to leaves; a list or an empty mapping is a leaf."""
    if not isinstance(data, Mapping) or (not data and prefix):
        return {prefix: data} if prefix else {}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


# ---------------------------------------------------------------- reading YAML


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2 (`3e-4` is a float); dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":float", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+|\d+)[eE][-+]?\d+|\d+\.\d*|\.\d+|\.(?:inf|nan))$", re.IGNORECASE),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The mapping in a YAML file, and `file:line` for each dotted key. Raises DataError or ConfigError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such config file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; a config is one YAML file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the config as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        root = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if data is None:
        return {}, {}
    if not isinstance(data, dict) or root is None:
        raise ConfigError(f"{path}:1: a config is a mapping of keys to values, not a {type(data).__name__}")
    origin: dict[str, str] = {}
    for key, number in _lines(root, str(path)):
        if key in origin:
            raise ConfigError(f"{path}:{number}: {key}: written twice (first in line {origin[key].rpartition(':')[2]})")
        origin[key] = f"{path}:{number}"
    return data, origin


def _lines(node: yaml.Node, path: str, prefix: str = "") -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}.{key.value}" if prefix else str(key.value)
        yield name, key.start_mark.line + 1
        yield from _lines(value, path, name)


def parse_override(assignment: str) -> tuple[str, Any]:
    """`train.lr=3e-4` as a dotted key and a value (read as YAML)."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip() or any(not part for part in key.split(".")):
        raise ConfigError(f"{COMMAND_LINE}: {assignment!r}: an override is written key.sub=value")
    try:
        return key.strip(), yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return key.strip(), text


def _assign(data: dict[str, Any], key: str, value: object) -> None:
    *parents, leaf = key.split(".")
    node: Any = data
    for parent in parents:
        node = node[int(parent)] if isinstance(node, list) and parent.isdigit() else _child(node, parent)
    if isinstance(node, list) and leaf.isdigit() and int(leaf) < len(node):
        node[int(leaf)] = value
    elif isinstance(node, dict):
        node[leaf] = value
    else:
        raise ConfigError(f"{COMMAND_LINE}: {key}: {'.'.join(parents)} holds {node!r}, which has no key {leaf!r}")


def _child(node: Any, key: str) -> Any:
    if not isinstance(node, dict):
        raise ConfigError(f"{COMMAND_LINE}: {key}: nothing can be set below {node!r}")
    if node.get(key) is None:
        node[key] = {}
    return node[key]


# ---------------------------------------------------------------- explaining mistakes


def _explain(
    cls: type[BaseModel], data: object, error: ErrorDetails, origin: Mapping[str, str], where: str | None
) -> str:
    keys, owner, kinds = _walk(cls, data, error["loc"])
    path = ".".join(keys) or "config"
    found, kind = error.get("input"), error["type"]
    if kind == "extra_forbidden":
        section: object = data
        for key in keys[:-1]:
            section = _item(section, key)
        assumed = "kind" in owner and isinstance(section, Mapping) and "kind" not in section
        of = f" of kind {error['loc'][-2]}, the default" if assumed and len(keys) > 1 else ""
        said = f"unknown key{of}{did_you_mean(keys[-1], owner)}"
    elif kind == "missing":
        said = "required, and not given"
    elif kind == "union_tag_not_found" and kinds:
        path, keys = f"{path}.kind", [*keys, "kind"]
        said = f"expected one of {', '.join(kinds)}; none is given"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        known = [tag.strip(" '") for tag in str(error.get("ctx", {}).get("expected_tags", "")).split(",")]
        tag = found.get("kind") if isinstance(found, dict) else None
        path, keys = f"{path}.kind", [*keys, "kind"]
        expected = ", ".join(k for k in known if k) or "a mapping with a key `kind`"
        said = f"expected one of {expected}; got {tag!r}{did_you_mean(str(tag), known, tell=False)}"
    elif kind == "literal_error":
        expected = str(error.get("ctx", {}).get("expected", ""))
        known = [k.strip(" '") for k in re.split(r",| or ", expected)]
        said = f"expected {expected}; got {found!r}{did_you_mean(str(found), known, tell=False)}"
    elif kind == "dict_type" and kinds and isinstance(found, str):
        path, keys = f"{path}.kind", [*keys, "kind"]
        said = f"is chosen so: {path}={found}{did_you_mean(found, kinds) if found not in kinds else ''}"
    else:
        said = f"{error['msg'][0].lower()}{error['msg'][1:]}".removeprefix("value error, ")
        if kind == "tuple_type":
            said += f"; write [{json.dumps(found, ensure_ascii=False)}]"
        elif kind == "value_error" and isinstance(found, Mapping):  # what a whole section refuses, it says itself
            written = {place for name, place in origin.items() if name.startswith(f"{path}.")}
            origin = dict.fromkeys([path], COMMAND_LINE) if COMMAND_LINE in written else origin
        elif repr(found) not in said:
            said += f"; got {found!r}"
    return f"{_origin(keys, origin, where)}{path}: {said}"


def _origin(keys: Sequence[str], origin: Mapping[str, str], where: str | None) -> str:
    for length in range(len(keys), 0, -1):
        key = ".".join(keys[:length])
        below = (place for name, place in origin.items() if name.startswith(f"{key}."))
        if place := origin.get(key) or next(below, None):
            return f"{place}: "
    return f"{where}: " if where else ""


def _walk(cls: type[BaseModel], data: object, loc: Iterable[int | str]) -> tuple[list[str], list[str], list[str]]:
    """The dotted path of an error as the user wrote it, the keys known where it happened, and the kinds there are.

    Pydantic puts the tag of a union into the path; nobody wrote that, so it is left out.
    """
    keys: list[str] = []
    types: tuple[Any, ...] = (cls,)
    known = list(cls.model_fields)
    for part in loc:
        models = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        tagged = [m for m in models if _kind(m) == part]
        if tagged and not (isinstance(data, Mapping) and part in data):
            types, known = (tagged[0],), list(tagged[0].model_fields)
            continue
        known = [name for model in models for name in model.model_fields] or known
        keys.append(str(part))
        fields = [m.model_fields[str(part)].annotation for m in models if str(part) in m.model_fields]
        types = tuple(t for f in fields for t in _members(f)) if fields else tuple(_members_of_items(types))
        data = _item(data, part)
    kinds = [_kind(t) for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
    return keys, known, [kind for kind in kinds if kind]


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return None if field is None else str(field.default)


def _members(annotation: Any) -> Iterator[Any]:
    arguments = get_args(annotation)
    if not arguments or (isinstance(annotation, type) and not getattr(annotation, "__origin__", None)):
        yield annotation
    for argument in arguments:
        if argument is not NoneType:
            yield from _members(argument)


def _members_of_items(types: Iterable[Any]) -> Iterator[Any]:
    for t in types:
        yield from _members(t)


def _item(data: object, part: int | str) -> object:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, Sequence) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def did_you_mean(word: str, known: Iterable[str], *, tell: bool = True) -> str:
    """A suggestion to append to a message; where nothing is near, all that is known, unless the message tells it; or nothing."""
    names = [k for k in known if k]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(set(names)))}" if tell and 0 < len(names) <= 24 else ""

"""Strict configs: every mistake is one line that names the place and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from yuyan.config import Config, build, dump, fingerprint, flatten, load_config, parse_override, to_yaml
from yuyan.errors import ConfigError, DataError


class Small(Config):
    kind: Literal["small"] = "small"
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


class Large(Config):
    kind: Literal["large"] = "large"
    depth: int = Field(3, ge=1)


class Inner(Config):
    lr: float = 1e-3
    name: Literal["adam", "sgd"] = "adam"


class Outer(Config):
    seed: int = 0
    train: Inner = Inner()
    model: Annotated[Small | Large, Field(discriminator="kind")] = Small()
    optional: Inner | None = None


def write(folder: Path, text: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_filled_config_builds_itself(tmp_path: Path) -> None:
    config = load_config(Outer, write(tmp_path, "seed: 3\nmodel: {kind: large, depth: 7}\n")).config
    assert config.model == Large(depth=7)
    again = load_config(Outer, write(tmp_path, to_yaml(config))).config
    assert again == config and fingerprint(again) == fingerprint(config)
    assert build(Outer, dump(config)) == config


def test_overrides_win_and_say_so(tmp_path: Path) -> None:
    loaded = load_config(Outer, write(tmp_path, "train:\n  lr: 0.1\n"), ["train.lr=3e-4", "model.kind=large"])
    assert loaded.config.train.lr == 3e-4
    assert loaded.origin["train.lr"] == "command line"
    assert loaded.config.model == Large()


def test_a_section_without_a_kind_is_of_the_kind_that_is_the_default(tmp_path: Path) -> None:
    assert load_config(Outer, write(tmp_path, "seed: 1\n"), ["model.rate=0.5"]).config.model == Small(rate=0.5)
    with pytest.raises(ConfigError, match=r"^command line: model\.dept: unknown key of kind small, the default"):
        load_config(Outer, write(tmp_path, "seed: 1\n"), ["model.dept=3"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian: {lr: 1}\n", "c.yaml:1: trian: unknown key; did you mean 'train'?"),
        ("seed: 1\ntrain:\n  lrr: 1\n", "c.yaml:3: train.lrr: unknown key; did you mean 'lr'?"),
        ("train: {name: adan}\n", "train.name: expected 'adam' or 'sgd'; got 'adan'; did you mean 'adam'?"),
        ("seed: '3'\n", "seed: input should be a valid integer; got '3'"),
        ("seed: true\n", "seed: input should be a valid integer; got True"),
        ("seed: 1.5\n", "got 1.5"),
        ("train: 3\n", "train: "),
        ("model: {kind: lage}\n", "model.kind: expected one of small, large; got 'lage'; did you mean 'large'?"),
        ("model: {depth: 3}\n", "model.depth: unknown key of kind small, the default; known: kind, rate, sizes"),
        ("model: large\n", "c.yaml:1: model.kind: is chosen so: model.kind=large"),
        ("model: lage\n", "model.kind: is chosen so: model.kind=lage; did you mean 'large'?"),
        ("model:\n  kind: large\n  dept: 3\n", "c.yaml:3: model.dept: unknown key; did you mean 'depth'?"),
        ("model: {kind: large, depth: 0}\n", "model.depth: input should be greater than or equal to 1; got 0"),
        ("optional: {lrr: 1}\n", "optional.lrr: unknown key; did you mean 'lr'?"),
        ("seed: 1\nseed: 2\n", "c.yaml:2: seed: written twice (first in line 1)"),
        ("- 1\n", "a config is a mapping"),
        ("seed: [1\n", "not YAML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Outer, write(tmp_path, text))
    assert said in str(error.value)
    assert "c.yaml" in str(error.value)


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^command line: train\.lrr: unknown key; did you mean 'lr'"):
        load_config(Outer, write(tmp_path, ""), ["train.lrr=1"])
    with pytest.raises(ConfigError, match=r"written key\.sub=value"):
        parse_override("train.lr")
    with pytest.raises(ConfigError, match=r"seed holds 1, which has no key .x."):
        load_config(Outer, write(tmp_path, "seed: 1"), ["seed.x=1"])


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Outer, write(tmp_path, "sed: 1\ntrian: 2\n"))
    assert len(str(error.value).splitlines()) == 2


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such config file"):
        load_config(Outer, tmp_path / "none.yaml")
    with pytest.raises(DataError, match="is a folder"):
        load_config(Outer, tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(DataError, match="not UTF-8 at byte 9"):
        load_config(Outer, tmp_path / "latin.yaml")


def test_flatten_keeps_lists_and_empty_mappings_as_leaves() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": [1, 2], "a.c": {}, "d": None}


def test_a_section_that_the_command_line_made_wrong_is_said_to_be_from_there(tmp_path: Path) -> None:
    file = write(tmp_path, "steps: 3\nlimits: {low: 1, high: 2}\n")

    class Limits(Config):
        low: int
        high: int

        @model_validator(mode="after")
        def _ordered(self) -> Limits:
            if self.low > self.high:
                raise ValueError(f"low {self.low} is above high {self.high}")
            return self

    class Whole(Config):
        steps: int
        limits: Limits

    with pytest.raises(ConfigError, match=r"^command line: limits: low 5 is above high 2$"):
        load_config(Whole, file, ["limits.low=5"])
    file.write_text("steps: 3\nlimits: {low: 4, high: 2}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: limits: low 4 is above high 2$"):
        load_config(Whole, file, ["steps=5"])

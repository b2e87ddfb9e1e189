"""The config of a run, and the folder a run lives in.

    <name>-<fingerprint>/
      run.yaml          the filled config: every default written, nothing implied
      made.json         versions, hardware, command line, hashes of the data
      data/ tokenizer/ shards/    what the text became (or where it was taken from)
      log.jsonl         one update or evaluation a line
      tensorboard/      the same numbers for TensorBoard
      state/000300/     everything to go on from; the newest complete one counts
      model/            the best so far, in Hugging Face layout
      reports/          scores with intervals

This is the composition root: the unions that mix layers are spelled here and nowhere lower.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from yuyan.commands.made import MADE, noted
from yuyan.commands.pretrained import Pretrained
from yuyan.commands.provenance import provenance
from yuyan.commands.ranges import Ranges
from yuyan.commands.settings import EvaluateConfig, From, RunData, TrainConfig
from yuyan.commands.track import NoTrack, Track
from yuyan.config import COMMAND_LINE, Config, Seed, dump, fingerprint, flatten, load_config, to_yaml
from yuyan.console import say
from yuyan.errors import ConfigError, InputError
from yuyan.generate.sampling import Samples
from yuyan.models.presets import Auto, Embedded, ModelConfig
from yuyan.nn.adapt import Adapt, Full, Lora
from yuyan.objectives import Distil, NextToken, ObjectiveConfig
from yuyan.store import claim_folder, write_json, write_text
from yuyan.tasks import TaskConfig
from yuyan.tasks.model_folder import model_folder
from yuyan.tokens import TokenizerConfig
from yuyan.tokens.train import BytePairConfig

RUNS = Path("runs")
BUDGET = "10m"
FREE = (
    "train.threads", "train.device", "train.save_every", "train.save_steps", "train.keep", "train.parallel", "data.processes", "track",
)  # fmt: skip
"""Keys, and what is below them, that say how a run is computed and kept, not what it is."""

SAFE = (
    "train.steps", "train.budget", "train.clock", "train.batch_tokens", "train.micro_tokens", "train.compile", "train.optimizer.lr",
    "train.optimizer.weight_decay", "train.schedule", "train.clip", "train.penalty", "train.non_finite", "train.spike",
    "evaluate", "generate",
)  # fmt: skip
"""Keys, and what is below them, that may change within a run where the user says so: the state still fits."""


class RunConfig(Config):
    """One run, from text to a trained and measured model."""

    name: str = Field("run", pattern=r"^[\w][\w.-]*$", max_length=60)
    """What to call it; a part of the folder's name."""
    seed: Seed = 0
    """Fixes the order of the data, the first weights, and dropout."""
    data: RunData
    """The text."""
    tokenizer: Annotated[TokenizerConfig | From, Field(discriminator="kind")] = Field(default_factory=BytePairConfig)
    """How text becomes tokens; by default as the pre-trained model has it."""
    model: Annotated[ModelConfig | Pretrained, Field(discriminator="kind")] = Auto()
    """What to train; by default a network chosen for the text and the time."""
    adapt: Adapt = Full()
    """Which of its weights to train."""
    objective: ObjectiveConfig = NextToken()
    """What to train it for."""
    task: TaskConfig | None = None
    """What the model is to be used for, which is then what it is trained for, instead of an objective."""
    train: TrainConfig
    """How to train it."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How to measure it on the way."""
    generate: Samples = Samples()
    """How to write samples."""
    tune: Ranges = Field(default_factory=dict)
    """What `yuyan tune` may set: keys, and for each {log: [low, high]}, {uniform: [...]}, {int: [...]} or {choice: [...]}."""
    track: Track = NoTrack()
    """A service that is told how the run goes: wandb or mlflow; by default none."""

    @model_validator(mode="after")
    def _one_aim(self) -> Self:
        if self.task is not None and ("objective" in self.model_fields_set or self.data.records is not None):
            other = "data.records" if self.data.records is not None else "objective"
            if other == "data.records" or self.objective != NextToken():
                raise ValueError(
                    f"give either task or {other}: a task is trained by a loss of its own, on rows of its own"
                )
        return self

    @model_validator(mode="after")
    def _adapters_need_a_base(self) -> Self:
        if isinstance(self.adapt, Lora) and (not isinstance(self.model, Pretrained) or self.model.add_blocks):
            raise ValueError(
                "adapt.kind lora needs model.kind pretrained, without add_blocks: adapters are for its weights"
            )
        return self


def read_run_config(given: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The config in a file, or as plain data; its paths are relative to the file, else to the working folder.

    A path that is no YAML file is text, for which all is chosen.
    """
    base = Path.cwd()
    if isinstance(given, Mapping):
        config, origin = load_config(RunConfig, None, overrides, base=given)
    elif (given / "run.yaml").is_file():
        raise InputError(
            f"{given}: is a run, not a text; to go on:\n  yuyan train {given / 'run.yaml'} --out {given} --resume"
        )
    elif given.suffix.lower() not in (".yaml", ".yml"):
        config, origin = load_config(RunConfig, None, overrides, base=_about_text(given, overrides))
    else:
        config, origin = load_config(RunConfig, given, overrides)
        base = given.resolve().parent

    if isinstance(config.model, Auto):
        _check_chosen({*origin, *(flatten(given) if isinstance(given, Mapping) else ())})

    def absolute(place: Path, key: str) -> Path:
        whole = (Path.cwd() if origin.get(key) == COMMAND_LINE else base) / place
        return Path(os.path.abspath(whole))  # noqa: PTH100  (links stay as they are named)

    data = config.data.model_copy(
        update={
            key: tuple(absolute(place, f"data.{key}") for place in getattr(config.data, key))
            for key in ("sources", "validation", "test")
        }
    )
    if data.prepared is not None:
        data = data.model_copy(update={"prepared": absolute(data.prepared, "data.prepared")})
    model, tokenizer = config.model, config.tokenizer
    if isinstance(model, Pretrained):
        model = model.model_copy(update={"path": absolute(model.path, "model.path")})
    if isinstance(model, Embedded) and model.embedding is not None:
        written = "model.embedding.path" if "model.embedding.path" in origin else "model.embedding.from"
        found = model.embedding.model_copy(update={"path": absolute(model.embedding.path, written)})
        model = model.model_copy(update={"embedding": found})
    if isinstance(tokenizer, From):
        tokenizer = From(path=absolute(tokenizer.path, "tokenizer.path"))
    elif isinstance(model, Pretrained) and not _is_meant(config, origin):
        if "tokenizer" in config.model_fields_set:
            say("tokenizer: the pre-trained model's own; that of the config is for a model from nothing")
        tokenizer = From(path=model_folder(model.path))
    objective = config.objective
    if isinstance(objective, Distil) and objective.teacher is not None:
        objective = objective.model_copy(update={"teacher": absolute(objective.teacher, "objective.teacher")})
    parts = {"tokenizer": tokenizer, "model": model, "objective": objective}
    changed = {key: part for key, part in parts.items() if part is not getattr(config, key)}  # others stay unsaid
    return config.model_copy(update={"data": data, **changed})


def _check_chosen(written: set[str]) -> None:
    """Raises ConfigError for settings of an optimizer that is not named: the one that is chosen may be another."""
    said = sorted(key for key in written if key.startswith("train.optimizer."))
    if said and "train.optimizer.kind" not in said:
        raise ConfigError(
            f"{said[0]}: the optimizer is chosen with the network; say which this is for: "
            "train.optimizer.kind=muon (its rest.lr is for what is no matrix) or adamw"
        )


def _is_meant(config: RunConfig, origin: Mapping[str, str]) -> bool:
    """Whether a tokenizer that is to be trained belongs to a pre-trained model; a file's does not, if only the command
    line names the model."""
    if "tokenizer" not in config.model_fields_set:
        return False
    return origin.get("model.kind") != COMMAND_LINE or origin.get("tokenizer.kind") == COMMAND_LINE


def _about_text(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What a config says that only names a text: ten minutes, if it is not said otherwise."""
    limited = any(assignment.startswith(("train.steps=", "train.epochs=", "train.budget=")) for assignment in overrides)
    name = re.sub(r"[^\w.-]+", "-", path.name.partition(".")[0]).strip("-.")[:60] or "run"
    return {
        "name": name, "data": {"sources": [os.path.abspath(path)]}, "model": {"kind": "auto"},  # noqa: PTH100
        "train": {} if limited else {"budget": BUDGET},
    }  # fmt: skip


def default_folder(config: RunConfig) -> Path:
    """Where a run goes when the user names no place: the same config, the same place."""
    return RUNS / f"{config.name}-{fingerprint(config)[:6]}"


def create_run(config: RunConfig, folder: Path) -> Path:
    """Claim `folder` and write what is known before the first step."""
    claim_folder(folder, what="the run")
    try:
        write_text(folder / "run.yaml", _as_written(config))
        write_json(folder / MADE, _made(config))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def renew_run(config: RunConfig, folder: Path) -> None:
    """Write down the FREE keys that a run goes on with, and what a kill may have kept from being written."""
    if _as_written(config) != (folder / "run.yaml").read_text(encoding="utf-8"):
        write_text(folder / "run.yaml", _as_written(config))
    if not noted(folder):
        write_json(folder / MADE, _made(config))


def _as_written(config: RunConfig) -> str:
    """What is not said is chosen later, so it is not written before."""
    return to_yaml(config, only_given=isinstance(config.model, Auto))


def _made(config: RunConfig) -> dict[str, Any]:
    return provenance() | ({"recipe": dump(config.model)} if isinstance(config.model, Auto) else {})


def open_run(folder: Path) -> RunConfig:
    """The config of an existing run. Raises InputError if `folder` is none."""
    if not (folder / "run.yaml").is_file():
        raise InputError(f"{folder}: not a run: there is no run.yaml in it")
    return read_run_config(folder / "run.yaml")


def adopt(config: RunConfig, stored: RunConfig, folder: Path) -> RunConfig:
    """The config with what was chosen for it when the run in `folder` began, where it leaves the choice open.

    Raises InputError if another choice was asked for then.
    """
    if not isinstance(config.model, Auto) or isinstance(stored.model, Auto):
        return config
    asked, asks = noted(folder).get("recipe") or {"kind": stored.model.kind}, dump(config.model)
    if different := [key for key in asks if asked.get(key) != asks[key]]:
        key = f"model.{different[0]}"
        raise InputError(
            f"{folder}: cannot go on as another run: {key}: {asked.get(different[0])!r} there, {asks[different[0]]!r} here. "
            "Use --out for a new run"
        )
    left = {
        key: getattr(stored.train, key) for key in TrainConfig.model_fields if key not in config.train.model_fields_set
    }
    chosen: dict[str, Config] = {"model": stored.model, "train": config.train.model_copy(update=left)}
    if "tokenizer" not in config.model_fields_set:
        chosen["tokenizer"] = stored.tokenizer
    return config.model_copy(update=chosen)


def check_same(config: RunConfig, stored: RunConfig, folder: Path, allowed: Sequence[str] = ()) -> None:
    """A run goes on only as what it was, but for FREE and what is `allowed`. Raises InputError that lists the others."""
    if unsafe := [key for key in allowed if not _among(key, SAFE)]:
        raise InputError(f"--allow-change {unsafe[0]}: cannot change within a run; these can: {', '.join(SAFE)}")
    mine, theirs = flatten(dump(config)), flatten(dump(stored))
    keys = sorted(key for key in mine.keys() | theirs.keys() if not _among(key, (*FREE, *allowed)))
    if different := [key for key in keys if mine.get(key) != theirs.get(key)]:
        said = "; ".join(f"{key}: {theirs.get(key)!r} there, {mine.get(key)!r} here" for key in different[:6])
        hint = f" or --allow-change {different[0]}" if all(_among(key, SAFE) for key in different) else ""
        raise InputError(f"{folder}: cannot go on as another run: {said}. Use --out for a new run{hint}")


def _among(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)

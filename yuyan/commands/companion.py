"""The second network of the objectives that need one: ELECTRA's generator, a teacher, the reference of a preference.

The objective's settings say which. A generator is trained and saved with the model; a teacher and a reference are frozen:
they are not saved, but hashed, so that a run goes on only with those that it began with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from yuyan.commands.made import note, noted
from yuyan.commands.pretrained import GENERATOR, Pretrained
from yuyan.commands.records import shape_of
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import From
from yuyan.corpus.augment import TokenDropout
from yuyan.errors import ConfigError, InputError
from yuyan.hub import base_of, read_config, read_model
from yuyan.hub.sentence import Pooling, Sentence
from yuyan.models.network import Network, NetworkModule
from yuyan.models.pair import Pair, share_embeddings, with_generator, with_teacher
from yuyan.models.presets import Auto, Custom, longest_text
from yuyan.nn.adapt import Lora
from yuyan.objectives import Ctc, Distil, Objective, Preference, ReplacedToken
from yuyan.objectives.contrastive import ContrastiveObjective
from yuyan.objectives.distil import DistilObjective
from yuyan.objectives.fit import check_documents, check_network, check_tokenizer
from yuyan.objectives.span import SpanCorruptionObjective
from yuyan.tasks import BuiltTask, Classify, PairTask
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.model_folder import model_folder
from yuyan.tokens import Tokenizer, load_tokenizer


def check_fit(config: RunConfig) -> None:
    """Raises ConfigError or InputError if objective, network and tokenizer do not fit each other, before any work."""
    objective, network = config.objective, planned_network(config)
    if config.task is None:
        if not isinstance(config.tokenizer, From):
            check_tokenizer(objective, config.tokenizer)
        check_network(objective, network)
    longest = longest_text(network)
    if longest is not None and config.train.context > longest:
        raise ConfigError(f"train.context: {config.train.context} tokens, but the model has positions for {longest}")
    if isinstance(config.model, Auto) and (config.task is not None or config.train.epochs is not None):
        what = "train.epochs" if config.task is None else "a task"
        raise ConfigError(f"model.kind auto: not with {what}; choose pretrained, bert, gpt, lstm or bilstm")
    if config.task is not None:
        config.task.suited(network)
        _check_task_data(config)
        return
    _check_data(config)
    if config.train.documents == "apart":
        check_documents(objective, records=config.data.records is not None)
        if config.train.carry_state:
            raise ConfigError("train.documents apart: not with train.carry_state, whose rows go on in the next update")
        if config.data.augment:
            raise ConfigError("train.documents apart: not with data.augment, which changes how long documents are")
    if isinstance(objective, ReplacedToken) and isinstance(config.adapt, Lora):
        raise ConfigError(
            "adapt.kind lora: not with objective.kind replaced_token, whose generator is trained from nothing"
        )
    if isinstance(objective, Distil):
        if objective.teacher is None:
            raise ConfigError("objective.teacher: required: the folder of the model to learn from")
        check_network(objective, read_config(model_folder(objective.teacher)))


def _check_task_data(config: RunConfig) -> None:
    if config.data.sampling is not None:
        raise ConfigError("data.sampling: draws documents, not the records of a task; see task.balance")
    if config.train.documents == "apart":
        raise ConfigError("train.documents apart: for texts; the examples of a task never see each other anyway")
    if not isinstance(config.task, Classify) and any(
        not isinstance(each, TokenDropout) for each in config.data.augment
    ):
        raise ConfigError("data.augment: only token_dropout keeps every answer of this task at its place")


def _check_data(config: RunConfig) -> None:
    asked = config.objective.base if isinstance(config.objective, Distil) else config.objective
    if config.data.records is None and isinstance(asked, Preference | Ctc):
        raise ConfigError(f"objective.kind {asked.kind} learns from records, not from texts: add data.records={{}}")
    if isinstance(asked, ReplacedToken) and any(isinstance(each, TokenDropout) for each in config.data.augment):
        raise ConfigError(
            "data.augment: token_dropout does not go with objective.kind replaced_token, which would learn that what was "
            "put in is original; replace, swap and delete do"
        )
    if config.data.records is not None:
        shape_of(config.objective)
        if isinstance(config.model, Auto):
            raise ConfigError("model.kind auto: chooses by the length of a text, not for records; choose gpt or lstm")


def planned_network(config: RunConfig) -> Network:
    """What will be trained, with a vocabulary of any size."""
    if isinstance(config.model, Pretrained):
        return read_config(model_folder(config.model.path))
    if isinstance(config.model, Auto):
        return (config.model.named or Auto(family=config.model.family, size="tiny")).network(vocab_size=2)
    return config.model.architecture if isinstance(config.model, Custom) else config.model.network(vocab_size=2)


def with_companion(config: RunConfig, network: NetworkModule, tokenizer: Tokenizer, folder: Path) -> nn.Module:
    """What the objective trains: the network, or the pair that it forms with the companion the objective asks for.

    Raises InputError if a frozen companion is another one than the run began with.
    """
    objective = config.objective
    if isinstance(objective, ReplacedToken):
        return _with_generator(config, objective, network)
    if isinstance(objective, Distil):
        pair = with_teacher(network, _teacher(objective, tokenizer))
    elif isinstance(objective, Preference):
        pair = Pair(network, config.model.build(len(tokenizer), config.seed), frozen=True)
    else:
        return network
    sha256, stored = base_of(pair.companion).sha256, noted(folder).get("companion")
    if stored is not None and stored != sha256:
        what = "the teacher" if isinstance(objective, Distil) else "the model it began with, its reference,"
        raise InputError(
            f"{folder}: {what} has other weights now (SHA-256 {stored[:12]} then, {sha256[:12]} now); put them back, or "
            "use --out for a new run"
        )
    note(folder, companion=sha256)
    return pair


def _with_generator(config: RunConfig, objective: ReplacedToken, network: NetworkModule) -> Pair:
    if isinstance(config.model, Auto):
        raise ConfigError("model.kind auto: chooses models that write; objective.kind replaced_token needs electra")
    if not isinstance(config.model, Pretrained):
        return with_generator(network, objective.generator_size, config.seed + 1, config.model.initialisation)
    place = model_folder(config.model.path) / GENERATOR
    if not place.is_dir():
        return with_generator(network, objective.generator_size, config.seed + 1)
    generator = read_model(place)  # both go on from where they were
    share_embeddings(network, generator)
    return Pair(network, generator, frozen=False)


def _teacher(objective: Distil, tokenizer: Tokenizer) -> NetworkModule:
    assert objective.teacher is not None, "check_fit"
    folder = model_folder(objective.teacher)
    if (folder / "tokenizer.json").is_file() and load_tokenizer(folder).fingerprint != tokenizer.fingerprint:
        raise ConfigError(
            f"tokenizer: is not the teacher's; use it with tokenizer.kind=from tokenizer.path={objective.teacher}"
        )
    return read_model(folder)


def kept(trained: nn.Module) -> NetworkModule:
    """The network that is wanted in the end."""
    network = trained.model if isinstance(trained, Pair) else trained
    assert isinstance(network, NetworkModule)
    return network


_POOLINGS: dict[str, Pooling] = {"mean": "mean", "first": "cls", "last": "lasttoken"}


def as_saved(objective: Objective, network: NetworkModule, tokenizer: Tokenizer, context: int | None) -> LanguageModel:
    """The network as a model that is used as it was trained: how it makes a vector of a text, what its decoder begins with."""
    sentence = start = None
    if isinstance(objective, ContrastiveObjective):
        sentence = Sentence(pooling=_POOLINGS[objective.config.pool])
    if isinstance(objective, BuiltTask):
        start = objective.start if isinstance(objective, PairTask) else None
        return LanguageModel(network, tokenizer, context, start=start, task=objective.config)
    if isinstance(objective, DistilObjective):
        objective = objective.base
    if isinstance(objective, SpanCorruptionObjective):
        start = objective.start
    return LanguageModel(network, tokenizer, context, sentence=sentence, start=start)


class Exact:
    """A float32 copy of all that is trained, for files and reports; make it before the precision is lowered."""

    def __init__(self, trained: nn.Module):
        frozen = isinstance(trained, Pair) and trained.frozen
        self._copy = copy.deepcopy(kept(trained) if frozen else trained)
        self._prefix = "model.model." if frozen else "model."  # of the names in a Learner

    def updated(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The copy, made equal to `weights`, which have the names they have in the learner."""
        exact = dict(self._copy.named_parameters())
        with torch.no_grad():
            for name, master in weights.items():
                exact[name.removeprefix(self._prefix)].copy_(master)
        return self._copy


def write_companion(trained: nn.Module, model: LanguageModel, folder: Path) -> None:
    """A companion that is trained, in a folder of its own inside the model's `folder`; nothing where there is none."""
    if isinstance(trained, Pair) and not trained.frozen:
        (folder / GENERATOR).mkdir()
        LanguageModel(trained.companion, model.tokenizer, model.context).write(folder / GENERATOR)


def measured_again(config: RunConfig, best: LanguageModel, folder: Path) -> nn.Module:
    """A finished model with its companion, as it has to be to be measured by the objective. `folder` is the model's."""
    network = best.network
    assert isinstance(network, NetworkModule)
    if isinstance(config.objective, ReplacedToken):
        generator = read_model(folder / GENERATOR)
        share_embeddings(network, generator)
        return Pair(network, generator, frozen=False)
    if isinstance(config.objective, Preference):
        return Pair(network, config.model.build(len(best.tokenizer), config.seed), frozen=True)
    return network

"""`yuyan train`: from a config to a trained and measured model in a run folder. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from yuyan.commands.batches import AnyCorpus
from yuyan.commands.companion import check_fit
from yuyan.commands.corpus import make_corpus, open_corpus
from yuyan.commands.interrupt import stop_on_signal
from yuyan.commands.leaving import tidy
from yuyan.commands.outcome import Trained
from yuyan.commands.recipe import chosen, fill, measure_machine, vocabulary_for
from yuyan.commands.records import make_records
from yuyan.commands.run import RunConfig, adopt, check_same, create_run, default_folder, open_run, renew_run
from yuyan.commands.session import Session, command_to_go_on
from yuyan.commands.tasks import adopt_task, make_task
from yuyan.commands.together import announce, join, wait_until_ready
from yuyan.console import progress, say
from yuyan.errors import InputError
from yuyan.models.presets import Auto
from yuyan.store import (
    exclusive,
    remove_leftovers,
)
from yuyan.text import Prepared
from yuyan.tokens import TokenizerConfig
from yuyan.train import Diverged
from yuyan.train.allocator import keep_freed_memory
from yuyan.train.device import CPU, choose_device, name_of
from yuyan.train.world import World, rank, restarts, under_torchrun


def train_command(config: RunConfig, out: Path | None, *, resume: bool, allow_change: Sequence[str] = ()) -> Trained:
    """Train, or go on training, also with other values of the keys in `allow_change`. Raises InputError, StorageError, CheckpointCorrupt, Interrupted."""
    folder, device = out or default_folder(config), choose_device(config.train.device)
    together = under_torchrun()
    if together and rank():
        wait_until_ready(folder)
        config = open_run(folder)  # as the first process filled it
        ready = opened(config, folder)
        return run_training(config, folder, ready, join(config, ready, device))
    check_fit(config)
    going_on = (resume or (together and restarts() > 0)) and (folder / "run.yaml").exists()
    if going_on:
        stored = open_run(folder)
        config = adopt_task(adopt(config, stored, folder), stored)
        check_same(config, stored, folder, allow_change)
    elif resume and not folder.exists():
        where = "" if out is not None else "name the run's folder with --out, or "
        raise InputError(f"{folder}: nothing to go on with; {where}leave out --resume to start")
    else:
        create_run(config, folder)
    with exclusive(folder), tidy(folder, command_to_go_on(folder), fresh=not going_on):
        if going_on:
            renew_run(config, folder)
        config, corpus = settle(config, folder)
        if not together:
            return run_training(config, folder, corpus, World(device))
        announce(folder)
        return run_training(config, folder, corpus, join(config, corpus, device))


def settle(config: RunConfig, folder: Path) -> tuple[RunConfig, AnyCorpus]:
    """The text, and the config with nothing left open, which is written down."""
    if config.task is not None:
        found = make_task(config, folder)
        config = config.model_copy(update={"task": found.task.config})
        renew_run(config, folder)
        return config, found
    if config.data.records is not None or not isinstance(config.model, Auto):
        return config, make_records(config, folder) if config.data.records is not None else make_corpus(config, folder)
    vocabulary = list[TokenizerConfig]()

    def choose(prepared: Prepared) -> TokenizerConfig:
        vocabulary.append(vocabulary_for(prepared))
        return vocabulary[0]

    corpus = make_corpus(config, folder, None if "tokenizer" in config.model_fields_set else choose)
    config = fill(config, corpus, measure_machine(choose_device(config.train.device), config.train.threads))
    if vocabulary:
        config = config.model_copy(update={"tokenizer": vocabulary[0]})
    say(chosen(config, corpus))
    renew_run(config, folder)
    return config, corpus


def opened(config: RunConfig, folder: Path) -> AnyCorpus:
    """What the first of several processes has made."""
    if config.task is not None:
        return make_task(config, folder)
    return open_corpus(config, folder) if config.data.records is None else make_records(config, folder)


def run_training(config: RunConfig, folder: Path, corpus: AnyCorpus, world: World | None = None) -> Trained:
    """The middle of it: a corpus is there, `folder` belongs to us, or to the first process of the `world`."""
    keep_freed_memory()
    world = world or World(choose_device(config.train.device))
    with closing(world), world.watched():
        if world.rank == 0:
            remove_leftovers(folder)
        if world.device != CPU:
            say(f"computing on {name_of(world.device)}")
        session = Session(config, folder, corpus, world)
        with closing(session.log), closing(session.saver), world.watched():
            session.go_on()
            title = f"training {config.name} ({session.parameters / 1e6:.2f} M parameters)"
            with stop_on_signal() as stop, progress(title, 1.0) as bar:
                try:
                    session.run(bar, stop)
                except Diverged as error:
                    raise Diverged(f"{error}. {session.last_good()}") from error
        return session.finish()

"""One process's work on a run: its parts put together, and what is done between two updates."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from yuyan.commands.batches import AnyCorpus, batches_for, carried_for, labels_per_byte, plan_for
from yuyan.commands.card import model_card
from yuyan.commands.companion import Exact, as_saved, kept, measured_again, with_companion, write_companion
from yuyan.commands.corpus import beginning_of
from yuyan.commands.embedding import begin_with_vectors
from yuyan.commands.fitting import check_size, choose_compiled, choose_micro_rows, choose_threads, most_rows
from yuyan.commands.interrupt import StopRequest
from yuyan.commands.made import note, noted
from yuyan.commands.outcome import Trained, quick
from yuyan.commands.pace import Pace, machine_speed, operations
from yuyan.commands.pretrained import Pretrained
from yuyan.commands.reports import write_reports
from yuyan.commands.run import RunConfig
from yuyan.commands.runlog import RunLog
from yuyan.commands.settings import seconds_of
from yuyan.commands.start import keep_beside, save_model, start_network
from yuyan.commands.tasks import TaskCorpus
from yuyan.commands.validation import Measure, better, measure_for
from yuyan.commands.watch import Watch
from yuyan.commands.work import works_of
from yuyan.console import Task, say, warn
from yuyan.errors import CheckpointCorrupt, ConfigError, Interrupted, StorageError
from yuyan.evaluate.wording import MEASURES, terminal_name
from yuyan.models.network import NetworkModule
from yuyan.models.presets import Embedded, readable_context
from yuyan.objectives import Objective, Preference
from yuyan.store import (
    Newest,
    keep_last,
    newest_checkpoint,
    publish_folder,
)
from yuyan.tasks.language_model import LanguageModel
from yuyan.train import CLOCKS, Average, Diverged, Learner, PlainStep, State, Update, parameter_kinds, resolve
from yuyan.train.allocator import give_back_pages
from yuyan.train.checkpoint import Saver, Snapshot
from yuyan.train.device import CPU
from yuyan.train.recompute import recompute_blocks
from yuyan.train.state import stored_threads
from yuyan.train.threads import take_threads
from yuyan.train.world import World

LOOKS, LOOK_SHARE = 20, 0.05  # at the validation text over a run; share of the time, for a run by the clock
GIVE_BACK_SECONDS = 30.0


def command_to_go_on(folder: Path) -> str:
    """What to type when a run has stopped."""
    return shlex.join(["yuyan", "train", str(folder / "run.yaml"), "--out", str(folder), "--resume"])


class Session:
    """One process's work on a run: its state, and what it does between updates."""

    def __init__(self, config: RunConfig, folder: Path, corpus: AnyCorpus, world: World):
        self.config, self.folder, self.corpus, self.world = config, folder, corpus, world
        self.leads = world.rank == 0  # writes what is written once
        torch.manual_seed(config.seed)
        task = corpus.task if isinstance(corpus, TaskCorpus) else None
        if not isinstance(config.model, Pretrained):
            check_size(config.model.network(len(corpus.tokenizer)), world)
        network, self.base = start_network(config, corpus.tokenizer, noted(folder).get("base"), task)
        if self.base is not None:
            note(folder, base=self.base.sha256)
        if isinstance(config.model, Embedded) and (vectors := config.model.embedding) is not None:
            known = noted(folder).get("vectors")
            note(folder, vectors=begin_with_vectors(network, vectors, corpus.tokenizer, config.seed, known))
        self.context = readable_context(network.config, config.train.context)
        if self.context is None and config.task is not None and config.task.too_long != "error":
            self.context = config.train.context  # what was learned and measured cut is read cut from then on
        self.parameters = sum(p.numel() for p in network.parameters())
        self.dtype = resolve(config.train.precision, world.device)
        self.objective: Objective = task or config.objective.build(corpus.tokenizer)
        note(folder, parameters=self.parameters, language=corpus.language, unit=self.objective.counted)
        self.model = with_companion(config, network, corpus.tokenizer, folder)
        texts = 2 if isinstance(config.objective, Preference) else 1  # one that is liked, one that is not
        self.most_rows = most_rows(self.model, config.train, self.dtype, world=world, texts=texts)
        self.measure = measure_for(config, corpus, self.context, world)
        self.measure_alike = measure_for(config, corpus, self.context, World())  # every process all of the text
        self.exact = Exact(self.model)
        learner = Learner(self.model, self.objective).to(world.device)
        kinds = parameter_kinds(learner)
        if config.train.activation_checkpointing and not recompute_blocks(learner):
            raise ConfigError(
                "train.activation_checkpointing: for attention blocks, and this network has none; leave it away"
            )
        weights = config.train.parallel.place(learner, self.dtype, world)
        optimizer = config.train.optimizer.build(weights.masters, kinds)
        self.batches = batches_for(config, corpus, self.objective, world)
        self.per_byte = labels_per_byte(config, corpus, self.batches)
        average = None if config.train.average is None else Average(config.train.average, weights.masters)
        carried = carried_for(config, network, self.batches, world)
        self.state = State(learner, weights, optimizer, self.batches, average, world=world, carried=carried)
        self.plan = plan_for(config.train, self.batches)
        self.log = RunLog(folder, writes=self.leads)
        self.saver = Saver(patience=min(60.0, config.train.parallel.timeout) if weights.sharded else None)
        self.watch = Watch(folder, self.batches, corpus.tokenizer, self.log, None if task else config.train.spike)
        self.last_saved, self.step_saved, self.look_seconds = time.monotonic(), -1, 0.0
        self.gave_back = self.last_saved
        self.seen: float | None = None

    # ------------------------------------------------------------ before

    def go_on(self) -> None:
        """Load the newest checkpoint that is whole, if there is one."""
        newest = newest_checkpoint(self.folder / "state") if self.leads else Newest(None, [])
        if newest.folder is None and newest.rejected:
            damaged = "; ".join(f"{error.file}: {error.got}" for error in newest.rejected)
            place = self.folder / "state"
            raise CheckpointCorrupt(place, "a whole checkpoint", f"{damaged}. Remove {place} to train from the start")
        for error in newest.rejected:
            warn(f"{error}; going back to {newest.folder}")
        step = int(self.world.first([-1 if newest.folder is None else int(newest.folder.name)])[0])
        if step < 0:
            self.log.begin(0, self.config)
            self.choose_threads()
            return
        folder = self.folder / "state" / f"{step:08d}"
        take_threads(self.config.train.threads, stored_threads(folder, self.world), self.world)
        self.state.load(folder)
        self.plan = plan_for(self.config.train, self.batches, self.state.step)
        self.step_saved = self.state.step
        self.log.begin(self.state.step, self.config)
        say(f"going on from step {self.state.step}")

    def choose_threads(self) -> None:
        """As the config says, or as is fastest."""
        torch.manual_seed(self.config.seed + self.world.rank)  # from here on each process draws its own dropout
        choose_threads(self.config.train, self.folder, self.state.learner, self.batches, self.world)

    def settle_steps(self) -> None:
        """How a step is computed: its micro-batches, compiled or not; from here on a state is carried."""
        settings, learner = self.config.train, self.state.learner
        choose_micro_rows(settings, self.folder, learner, self.batches, self.world, self.most_rows)
        choose_compiled(settings, self.folder, learner, self.batches, self.world)
        kept(self.model).carried = self.state.carried  # not before: trial passes leave no trace in it

    # ------------------------------------------------------------ between updates

    def run(self, bar: Task, stop: StopRequest) -> None:
        """Train until the plan is fulfilled, patience is lost, or somebody asks to stop."""
        settings = self.config.train
        step = PlainStep(
            self.plan, settings.schedule, clip=settings.clip, penalty=settings.penalty, clock=CLOCKS[settings.clock],
            world=self.world, non_finite=settings.non_finite,
        )  # fmt: skip
        next_look = self._next_look()
        self.settle_steps()
        speed = machine_speed(self.folder, self.dtype, self.world.device) * self.world.size
        counted = operations(self.model, self.config, self.batches)
        pace = Pace(counted, speed, self.batches, works_of(self.model), self.world.size, self.world.device)
        pace.resume()
        if self._lost_patience():  # it was stopped between losing patience and the report
            return
        started, tokens = time.monotonic(), self.state.tokens
        for update in self.watch.updates(self.state, step):
            speed = (self.state.tokens - tokens) / max(1e-9, time.monotonic() - started)
            took = pace.record(update)
            self.watch.record(update, speed, took)
            stopped, due = self._agreed(stop, self._due_to_save(update.step))
            done = self.plan.done(self.state)
            if self._position() >= next_look or done:
                self.look(last=done)
                next_look = self._next_look()
            bar.set(self.plan.progress(self.state), self._note(update, speed) + pace.line(took))
            self._give_back()
            last = stopped or done or self._lost_patience()
            self._attempt(self.saver.finish if last or due else self.saver.check)
            if last:
                self.save(wait=True)
            elif due:
                self._attempt(self.save)
            if stopped:
                self._say_how_to_go_on(stop)
            if self._lost_patience():
                say(
                    f"stopped early: {self.state.best['looks_since']} looks at the validation data brought nothing better"
                )
                return
            pace.resume()

    def _give_back(self) -> None:
        """Batches of a task differ in length, so that what was freed does not fit the next: more and more would be held."""
        if isinstance(self.corpus, TaskCorpus) and time.monotonic() - self.gave_back >= GIVE_BACK_SECONDS:
            give_back_pages()
            self.gave_back = time.monotonic()

    def last_good(self) -> str:
        """What to go on with when training has failed."""
        self._attempt(self.saver.finish)
        if not self.leads:  # it writes nothing, so it cannot say what is written
            return "What to go on with is in the first process's message"
        if self.step_saved < 0:
            return "No state was saved before"
        return (
            f"The state of step {self.step_saved} is good. To go on from it with a lower rate:\n  "
            f"{command_to_go_on(self.folder)} --allow-change train.optimizer.lr train.optimizer.lr=..."
        )

    def _agreed(self, stop: StopRequest, due: bool) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether the first one, whose clock counts, finds it time to save."""
        leads = float(self.leads)
        stops, saves, seconds = self.world.sum([float(bool(stop)), leads * due, leads * self.state.seconds])
        self.state.seconds = seconds
        return stops > 0, saves > 0

    def look(self, *, last: bool) -> None:
        """Measure the same part of the validation text as always, log it, and keep the model if it is the best so far."""
        started = time.monotonic()
        with self.state.shown():
            look = self.measure_alike if self.state.weights.sharded else self.measure
            score = self.state.weights.inside(partial(look, self.model, "validation", self.config.evaluate.tokens))
        assert score is not None
        self.seen = score.value
        self.log.write({
            "step": self.state.step, "tokens": self.state.tokens, "seconds": round(self.state.seconds, 3),
            "look_seconds": round(time.monotonic() - started, 3), "validation": score.plain(),
        })  # fmt: skip
        if not better(score, self.state.best.get(score.measure)):
            self.state.best["looks_since"] = self.state.best.get("looks_since", 0) + 1
        elif self._keep_model(last=last):
            self.state.best = {"step": self.state.step, score.measure: score.value, "looks_since": 0}
        self.look_seconds = self.world.first([time.monotonic() - started])[0]

    def _keep_model(self, *, last: bool) -> bool:
        """Write the model, whole, from the first process; whether that went well."""
        whole, written = {name: self.state.weights.whole(t) for name, t in self.state.exported().items()}, True
        if self.leads:
            written = self._attempt(partial(self._save_model, whole), last=last)
        return bool(self.world.first([written])[0])

    def save(self, *, wait: bool = False) -> None:
        """Have a checkpoint written from a copy, and the oldest dropped; `wait` until it is there."""
        self.last_saved = time.monotonic()
        if self.step_saved == self.state.step:
            return
        self.saver.begin(partial(self._write, self.state.snapshot(copy=not wait), self.state.step))
        if wait:
            self.saver.finish()

    def _write(self, snapshot: Snapshot, step: int) -> None:
        snapshot.write(self.folder / "state" / f"{step:08d}", self.world, sharded=self.state.weights.sharded)
        if self.leads:
            keep_last(self.folder / "state", self.config.train.keep, until=step)
        self.step_saved = step

    def _attempt(self, write: Callable[[], None], *, last: bool = False) -> bool:
        """What cannot be written is no reason to lose the work: the next time there may be room. Not so the `last`."""
        try:
            write()
        except StorageError as error:
            if last:
                raise
            warn(f"{error}; training goes on, what was saved before is whole")
            return False
        return True

    def _save_model(self, weights: dict[str, torch.Tensor]) -> None:
        exact = self.exact.updated(weights)
        model = as_saved(self.objective, kept(exact), self.corpus.tokenizer, self.context)
        save_model(model, self.base, self.folder / "model", partial(write_companion, exact, model))

    def _every(self) -> int | None:
        """Updates between two looks; None where they follow the clock."""
        by_default = None if self.plan.steps is None else max(1, self.plan.steps // LOOKS)
        return self.config.evaluate.every or by_default

    def _position(self) -> float:
        return self.state.seconds if self._every() is None else self.state.step

    def _next_look(self) -> float:
        if (every := self._every()) is not None:
            return (self.state.step // every + 1) * every
        assert self.plan.seconds is not None
        return self.state.seconds + max(self.plan.seconds / LOOKS, self.look_seconds / LOOK_SHARE)

    def _due_to_save(self, step: int) -> bool:
        if self.state.streak:
            return False  # what was saved last is good, and this may not be
        every = self.config.train.save_steps
        if every is not None and step % every == 0:
            return True
        return time.monotonic() - self.last_saved >= seconds_of(self.config.train.save_every)

    def _lost_patience(self) -> bool:
        patience = self.config.evaluate.patience
        return patience is not None and self.state.best.get("looks_since", 0) >= patience

    def _note(self, update: Update, speed: float) -> str:
        best = next(((v, terminal_name(k)) for k, v in self.state.best.items() if k in MEASURES), None)
        looks = [] if self.seen is None else [f"validation {self.seen:.3f}"]
        looks += [f"best {best[0]:.3f}"] if best is not None and best[0] != self.seen else []
        seen = "" if best is None else f"  {', '.join(looks)} {best[1]}"
        loss = f"{update.loss:.3f}"
        if self.per_byte is not None:
            loss += f" ({update.loss * self.per_byte / math.log(2):.3f} bits per byte)"
        return f"step {update.step}  loss {loss}{seen}  {quick(speed)} {self.objective.counted}/s"

    def _say_how_to_go_on(self, stop: StopRequest) -> None:
        raise Interrupted(
            f"stopped by {stop.signal or 'the end of another process'} after step {self.state.step}, all saved. To go on:\n"
            f"  {command_to_go_on(self.folder)}"
        )

    # ------------------------------------------------------------ after

    def finish(self) -> Trained:
        """Measure the best model on all of the validation and test text, in float32, and write report and card.

        Raises Diverged if there is none.
        """
        if "step" not in self.state.best:
            raise Diverged(
                "the run is over, and no look at the validation text gave a number, so no model was kept; "
                "start a new run with a lower train.optimizer.lr"
            )
        best = LanguageModel.load(self.folder / "model")
        trained = measured_again(self.config, best, self.folder / "model").to(self.world.device)
        self.world.sum([0.0])  # all have read the folder that the first process will write anew
        measure = self._settled_measure(best, kept(trained))
        validation, test = measure(trained, "validation", None), measure(trained, "test", None)
        trained.to(CPU)
        assert validation is not None
        result = Trained(
            folder=self.folder, validation=validation, test=test, parameters=self.parameters, tokens=self.state.tokens,
            epochs=self.batches.rows_read / len(self.batches.rows), seconds=self.state.seconds,
            unit=self.objective.counted, writes=kept(trained).decoder is not None and not self.config.task,
            prompt=beginning_of(self.corpus), log=self.log.read(),
        )  # fmt: skip
        if not self.leads:
            return result
        write_reports(self.config, result, self.state.best, self.state.step, best, self.corpus)
        with publish_folder(self.folder / "model") as temporary:
            best.write(temporary)
            keep_beside(self.folder / "model", temporary)
            card = model_card(self.config, result, self.corpus, self.context)
            (temporary / "README.md").write_text(card, encoding="utf-8")
        return result

    def _settled_measure(self, best: LanguageModel, network: NetworkModule) -> Measure:
        """The way to measure what is kept: a task as it answers with what is chosen for it on the validation data."""
        if not isinstance(self.corpus, TaskCorpus):
            return self.measure
        best.task = self.corpus.settled(network)
        task = best.task.build(self.corpus.tokenizer, self.config.train.context)
        return measure_for(self.config, replace(self.corpus, task=task), self.context, self.world)

"""`yuyan tune`: a search over keys of a config; every trial is a `yuyan train` of its own, in a folder of its own.

    <name>-tune/
      tune.yaml       the config of the search, filled
      study.db        what was tried, for Optuna (SQLite)
      base/           the prepared text and the tokenizer, which all trials share unless they are searched
      trials/0007/    a run; 0007.yaml its config, 0007.log what it said
      best.yaml       the best config, ready to train
      tune.html       trial by trial, what matters, the best config

The search only reads the logs of its trials, so it may be killed at any moment: run the same command again, and it goes on
with the trial that was under way. A trial that falls behind is stopped (Li et al. 2018 for `hyperband`; `median` stops what
is worse than half of the trials before it at the same look).
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from yuyan.commands.interrupt import StopRequest, stop_on_signal
from yuyan.commands.made import noted
from yuyan.commands.run import RUNS, RunConfig, create_run, open_run, read_run_config
from yuyan.commands.search_space import assign, check_range, draw
from yuyan.commands.train import settle
from yuyan.config import build, dump, flatten, read_yaml, to_yaml
from yuyan.console import Task, progress, say, table, warn
from yuyan.errors import ConfigError, InputError, Interrupted
from yuyan.evaluate.study import study_page
from yuyan.evaluate.wording import less_is_better
from yuyan.models.presets import Auto
from yuyan.store import exclusive, read_lines, write_text

if TYPE_CHECKING:
    from optuna import Study, Trial

Pruner = Literal["median", "hyperband", "none"]
LOOK_EVERY = 0.2  # seconds between two looks at a trial's log
FAILED_AT_FIRST = 3  # trials: then the ranges are to blame
SHOWN = 10


@dataclass(frozen=True)
class Order:
    """How far to search."""

    trials: int
    seconds: float | None = None
    """No trial begins after so much time, counted over all sessions."""
    pruner: Pruner = "median"


def tune_command(place: Path, overrides: list[str], out: Path | None, order: Order) -> dict[str, Any]:
    """Search, or go on searching; the best settings. Raises InputError, ConfigError, StorageError, Interrupted."""
    config = read_run_config(place, overrides)
    optuna = _optuna()
    if not config.tune:
        raise ConfigError(f"{place}: tune: say which keys to search, such as train.optimizer.lr: {{log: [1e-4, 1e-2]}}")
    folder = out or RUNS / f"{config.name}-tune"
    _start(config, place, folder)
    with exclusive(folder), stop_on_signal() as stop, progress(f"tuning {config.name}", order.trials) as bar:
        base = _base(config, folder)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / 'study.db'}", study_name="tune", direction="minimize", load_if_exists=True
        )
        study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials), multivariate=False)
        study.pruner = _pruner(order.pruner)
        search = _Search(config, base, folder, study, stop, bar, _command(place, overrides, out, order))
        search.run(order)
    return search.finish()


def _command(place: Path, overrides: list[str], out: Path | None, order: Order) -> str:
    """What to type to go on."""
    words = ["yuyan", "tune", str(place), *overrides, "--trials", str(order.trials)]
    words += [] if order.seconds is None else ["--budget", f"{order.seconds:g}s"]
    words += [] if order.pruner == "median" else ["--pruner", order.pruner]
    return shlex.join([*words, *([] if out is None else ["--out", str(out)])])


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("yuyan tune searches with Optuna, which is not installed: pip install 'yuyan[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _pruner(kind: Pruner) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    return {"median": MedianPruner(n_startup_trials=4, n_warmup_steps=2), "hyperband": HyperbandPruner(), "none": NopPruner()}[kind]  # fmt: skip


def _start(config: RunConfig, place: Path, folder: Path) -> None:
    """Check every key, then claim the folder, or make sure it is of this search."""
    origin = read_yaml(place)[1] if place.suffix in (".yaml", ".yml") else {}
    origin = {key.removeprefix("tune."): at for key, at in origin.items() if key.startswith("tune.")}
    for key in config.tune:
        check_range(config, key, origin)
    if not (folder / "tune.yaml").exists():
        write_text(folder / "tune.yaml", to_yaml(config))
        return
    before = flatten(dump(read_run_config(folder / "tune.yaml")))
    now = flatten(dump(config))
    if different := [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]:
        raise InputError(f"{folder}: a search with another {different[0]}; use --out for a new one")


def _base(config: RunConfig, folder: Path) -> RunConfig:
    """The config that trials change, over text that is prepared once."""
    searched = {key.partition(".")[0] for key in config.tune}
    plain = config.model_copy(update={"tune": {}})
    if searched & {"data", "tokenizer"} and not isinstance(config.model, Auto):
        return plain
    base = folder / "base"
    if not (base / "run.yaml").exists():
        create_run(plain, base)
    return settle(open_run(base), base)[0]


class _Search:
    """One session of a search."""

    def __init__(
        self, config: RunConfig, base: RunConfig, folder: Path, study: Study, stop: StopRequest, bar: Task, command: str
    ):
        self.config, self.base, self.folder, self.study = config, base, folder, study
        self.stop, self.bar, self.command = stop, bar, command

    def run(self, order: Order) -> None:
        """Finish what was under way, then try new settings until enough were tried or the time is up."""
        from optuna.trial import Trial, TrialState

        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._try(Trial(self.study, left._trial_id))
        while len(self.study.trials) < order.trials and not self._time_is_up(order):
            self._try(self.study.ask())
            self._check_failures()

    def _time_is_up(self, order: Order) -> bool:
        return order.seconds is not None and self.study.user_attrs.get("seconds", 0.0) >= order.seconds

    def _check_failures(self) -> None:
        from optuna.trial import TrialState

        first = self.study.trials[:FAILED_AT_FIRST]
        if len(first) == FAILED_AT_FIRST == len(self.study.trials) and all(t.state == TrialState.FAIL for t in first):
            raise InputError(f"the first {FAILED_AT_FIRST} trials failed: {first[-1].user_attrs.get('error', '')}")

    def _try(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        began = time.monotonic()
        try:
            value = self._trained(trial)
        except InputError as error:
            trial.set_user_attr("error", str(error).splitlines()[0])
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)
        spent = self.study.user_attrs.get("seconds", 0.0) + time.monotonic() - began
        self.study.set_user_attr("seconds", spent)
        shutil.rmtree(self._place(trial) / "state", ignore_errors=True)  # nobody goes on with an ended trial
        self.bar.set(len(self.study.trials), self._note())

    def _note(self) -> str:
        done = [(t.value, t.number) for t in self.study.trials if t.value is not None and t.state.name == "COMPLETE"]
        return f"best {_sign(self._folder_of(min(done)[1])) * min(done)[0]:.4f}" if done else ""

    def _folder_of(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _place(self, trial: Trial) -> Path:
        return self._folder_of(trial.number)

    def _trained(self, trial: Trial) -> float | None:
        """The score of a trial's best model; None if the trial was stopped for being behind."""
        chosen = draw(self.config, trial)
        place = self._place(trial)
        config = self._with(chosen, self.base, shared=True)
        write_text(place.with_suffix(".yaml"), to_yaml(config))
        self._wait_for_orphan(place)
        going_on = ["--resume"] if (place / "run.yaml").exists() else []
        words = [
            sys.executable,
            "-m",
            "yuyan",
            "train",
            str(place.with_suffix(".yaml")),
            "--out",
            str(place),
            *going_on,
        ]
        with place.with_suffix(".log").open("ab") as log:
            process = _launched(words, log)
            pruned = self._watched(process, trial, place)
        if pruned:
            return None
        if process.returncode:
            said = place.with_suffix(".log").read_text(errors="replace").strip().splitlines()
            raise InputError(said[-1].removeprefix("yuyan: ") if said else f"exit code {process.returncode}")
        return min(_costs(place))

    def _watched(self, process: subprocess.Popen[bytes], trial: Trial, place: Path) -> bool:
        """Follow a trial to its end; whether it was stopped for being behind."""
        reported = set(self.study.trials[trial.number].intermediate_values)
        while process.poll() is None:
            if self.stop:
                process.terminate()  # it saves, and goes on when the search does
                process.wait()
                raise Interrupted(f"stopped by {self.stop.signal} in trial {trial.number}. To go on:\n  {self.command}")
            fresh = [(n, score) for n, score in enumerate(_costs(place), 1) if n not in reported]
            for number, score in fresh:
                trial.report(score, number)
            reported |= {number for number, _ in fresh}
            if fresh and trial.should_prune():
                process.terminate()
                process.wait()
                return True
            time.sleep(LOOK_EVERY)
        return False

    def _wait_for_orphan(self, place: Path) -> None:
        """A trial outlives a search that was killed: it may end in peace."""
        told = False
        while place.exists():
            try:
                with exclusive(place):
                    return
            except InputError as error:
                if self.stop:
                    raise Interrupted(f"stopped by {self.stop.signal}. To go on:\n  {self.command}") from None
                if not told:
                    say(f"waiting for a trial that is still under way: {error}")
                told = True
                time.sleep(LOOK_EVERY)

    def _with(self, chosen: Mapping[str, Any], base: RunConfig, *, shared: bool) -> RunConfig:
        """The config with what a trial chose. Raises ConfigError if it does not go together."""
        kinds = any(key.endswith(".kind") for key in chosen)
        data = base.model_dump(mode="json", exclude_unset=True) if kinds else dump(base)
        data |= {"tune": {}, "data": dump(base.data), "model": dump(base.model), "tokenizer": dump(base.tokenizer)}
        for key, value in sorted(chosen.items(), key=lambda item: not item[0].endswith(".kind")):
            if key.endswith(".kind"):  # what was written for another kind has no place in this one
                assign(data, key.removesuffix(".kind"), {})
            assign(data, key, value)
        searched = {key.partition(".")[0] for key in self.config.tune}
        if shared and not searched & {"data", "tokenizer"}:
            data["data"] = {"prepared": str((self.folder / "base" / "data").resolve())}
            data["tokenizer"] = {"kind": "from", "path": str((self.folder / "base" / "tokenizer").resolve())}
        return build(RunConfig, data, where="tune")

    # ------------------------------------------------------------ after

    def _failures(self) -> list[str]:
        """Why trials failed, each reason once."""
        counts = Counter(
            t.user_attrs.get("error", "no reason is known") for t in self.study.trials if t.state.name == "FAIL"
        )
        return [f"{count} trial{'s' * (count > 1)} failed: {reason}" for reason, count in counts.most_common()]

    def finish(self) -> dict[str, Any]:
        """Write the best config and the page, and show the table."""
        done = sorted((t for t in self.study.trials if t.state.name == "COMPLETE"), key=lambda t: t.value or 0.0)
        if not done:
            reason = "; ".join(self._failures()) or "give more --trials or a longer --budget"
            raise InputError(f"{self.folder}: no trial came to its end: {reason}")
        best = _settings(done[0].params)
        text = to_yaml(self._with(best, self.base, shared=False))
        write_text(self.folder / "best.yaml", text)
        measure, sign = _measure(self._folder_of(done[0].number)), _sign(self._folder_of(done[0].number))
        trials = [
            {
                "trial": t.number,
                "state": t.state.name.lower(),
                "why": t.user_attrs.get("error"),
                "value": None if t.value is None else sign * t.value,
                **_settings(t.params),
            }
            for t in self.study.trials
        ]
        importance = _importance(self.study, len(done))
        page = {
            "title": self.config.name,
            "measure": measure,
            "higher": sign < 0,
            "trials": trials,
            "importance": importance,
            "best": text,
        }
        language = str(noted(self._folder_of(done[0].number)).get("language", "en"))
        write_text(self.folder / "tune.html", study_page(page, language))
        keys = list(self.config.tune)
        rows = [
            [t.number, f"{sign * (t.value or 0.0):.4f}", *(_shown(_settings(t.params).get(key, "")) for key in keys)]
            for t in done[:SHOWN]
        ]
        table("the best trials", ["trial", measure, *(f"{k} ({importance[k]:.0%})" if k in importance else k for k in keys)], rows)  # fmt: skip
        ended = ", ".join(f"{sum(t['state'] == s for t in trials)} {s}" for s in ("complete", "pruned", "fail"))
        say(f"{ended}; drawn in {self.folder / 'tune.html'}")
        for line in self._failures():
            warn(line)
        say(f"now try:\n  yuyan train {self.folder / 'best.yaml'}")
        return best


def _launched(words: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process in a session of its own: a Ctrl-C is for the search, which passes it on."""
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in params.items()}


def _shown(value: object) -> object:
    """A setting in a table: a drawn number has more digits than anyone reads; best.yaml has them all."""
    return f"{value:.4g}" if isinstance(value, float) else value


def _looks(place: Path) -> list[dict[str, Any]]:
    log = place / "log.jsonl"
    return [record for record in read_lines(log) if "validation" in record] if log.exists() else []


def _measure(place: Path) -> str:
    look = _looks(place)[0]["validation"]
    return "bits_per_byte" if "bits_per_byte" in look else next(iter(look))


def _sign(place: Path) -> int:
    """What makes of a measure a cost: -1 where more is better."""
    return 1 if less_is_better(_measure(place)) else -1


def _costs(place: Path) -> list[float]:
    """A number for each look, the lower the better; infinite where there is none."""
    values = [look["validation"][_measure(place)] for look in _looks(place)]
    return [float("inf") if value is None else _sign(place) * float(value) for value in values]


def _importance(study: Study, done: int) -> dict[str, float]:
    """Shares of the differences between trials, by key; nothing where there is too little to tell."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if done < 4:
        return {}
    try:
        return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
    except (ValueError, RuntimeError):  # all trials alike
        return {}

"""What a finished run leaves for readers: its scores as JSON, those of every document beside them, and `report.html`."""

from __future__ import annotations

import shlex
from typing import Any

from yuyan.commands.batches import AnyCorpus
from yuyan.commands.corpus import Corpus
from yuyan.commands.made import noted
from yuyan.commands.outcome import Trained, next_command, plain_score
from yuyan.commands.run import RunConfig
from yuyan.commands.samples import samples
from yuyan.commands.validation import Score
from yuyan.config import dump
from yuyan.evaluate.held_out import HeldOut
from yuyan.evaluate.page import run_page
from yuyan.evaluate.task_score import TaskScore
from yuyan.generate import Sampling
from yuyan.models.network import NetworkModule
from yuyan.store import write_json, write_text
from yuyan.tasks.language_model import LanguageModel


def write_reports(
    config: RunConfig,
    result: Trained,
    best: dict[str, Any],
    step: int,
    model: LanguageModel,
    corpus: AnyCorpus,
) -> None:
    """Everything after update `step`; `best` says when the model was the best. Raises StorageError."""
    place, report = result.folder / "reports", report_of(result, best)
    write_json(place / f"{step:08d}.json", report)
    scores = {"validation": result.validation, "test": result.test}
    write_json(place / f"{step:08d}.each.json", {k: s.each for k, s in scores.items() if s is not None})
    written = []
    if result.writes and isinstance(corpus, Corpus) and _only_writes(model):  # records have no beginning to continue
        written = samples(model, corpus, Sampling(**dump(config.generate)))
    write_text(result.folder / "report.html", run_page(story(config, result, report, written, corpus.language)))


def _only_writes(model: LanguageModel) -> bool:
    """A model with an encoder answers what it reads; it continues nothing."""
    return isinstance(model.network, NetworkModule) and model.network.encoder is None


def story(
    config: RunConfig, result: Trained, report: dict[str, Any], written: list[dict[str, str]], language: str
) -> dict[str, Any]:
    """What `report.html` tells."""
    made = noted(result.folder)
    looks = [record for record in result.log if "validation" in record]
    updates = [record for record in result.log if "loss" in record]
    times = [record["look_seconds"] for record in looks if record.get("look_seconds") is not None]
    return {
        "title": config.name, "language": language, "created": made["created"],
        "command": made["command"], "config": dump(config), "updates": updates,
        "evaluations": [{**{k: r[k] for k in ("step", "seconds", "look_seconds") if k in r}, **r["validation"]} for r in looks],
        "samples": written, "confusions": _confusions(result), "environment": _machine(made), "next": next_commands(result, written),
        "summary": {
            **_headline("validation", result.validation), **_headline("test", result.test),
            "best_step": report["best_step"], "updates": len(updates), "parameters": result.parameters,
            f"{result.unit}_seen": result.tokens, "epochs": result.epochs, "seconds": result.seconds,
            f"{result.unit}_per_second": result.tokens / max(result.seconds, 1e-9),
            "skipped": sum(bool(r.get("skipped")) for r in updates), "spikes": sum("spike" in r for r in updates),
            **({"looks_seconds": sum(times)} if times else {}),
        },
    }  # fmt: skip


def _confusions(result: Trained) -> dict[str, Any]:
    """Which label was taken for which, by part."""
    return {
        name: {"labels": list(score.labels), "counts": score.confusion}
        for name, score in (("validation", result.validation), ("test", result.test))
        if isinstance(score, TaskScore) and score.confusion is not None
    }


def _machine(made: dict[str, Any]) -> dict[str, Any]:
    chosen = made.get("threads", {}).get("chosen")
    return {
        **made["versions"], **made["hardware"], "system": made.get("system"), "commit": made.get("commit"),
        **({} if chosen is None else {"threads": chosen}),
    }  # fmt: skip


def next_commands(result: Trained, written: list[dict[str, str]]) -> list[str]:
    """What to try now, with a beginning that fits the text."""
    folder = shlex.quote(str(result.folder))
    found = [next_command(result)]
    if written:
        prompt = shlex.quote(" ".join(written[0]["prompt"].split()))
        found = [f"yuyan generate {folder} {prompt}", f"yuyan evaluate {folder} OTHER-TEXT"]
    return [*found, "yuyan runs", f"tensorboard --logdir {folder}"]


def report_of(result: Trained, best: dict[str, Any]) -> dict[str, Any]:
    """The scores of a run as plain data."""
    return {
        "best_step": best.get("step"), "validation": plain_score(result.validation),
        "test": None if result.test is None else plain_score(result.test), "parameters": result.parameters,
        f"{result.unit}_seen": result.tokens, "epochs": result.epochs, "seconds": result.seconds,
    }  # fmt: skip


def _headline(split: str, score: Score | None) -> dict[str, Any]:
    """The number that counts, and beside it what a reader may know better: accuracy, perplexity."""
    if score is None:
        return {}
    others = score.others if isinstance(score, HeldOut) else {}
    return {f"{split}_{score.measure}": score.value, f"{split}_interval": list(score.interval)} | {
        f"{split}_{name}": value for name, value in others.items()
    }

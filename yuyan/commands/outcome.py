"""What a run came to: as an object, as plain data, as a page, and as a table with what to try next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yuyan.commands.run import RunConfig, noted
from yuyan.commands.validation import Score
from yuyan.config import dump
from yuyan.console import say, table
from yuyan.evaluate.held_out import HeldOut
from yuyan.evaluate.quantities import interval, percent, significant
from yuyan.evaluate.wording import SHARES, terminal_name


@dataclass(frozen=True)
class Trained:
    """What a run came to."""

    folder: Path
    validation: Score
    test: Score | None
    parameters: int
    tokens: int
    epochs: float
    seconds: float
    unit: str
    """What `tokens` are: tokens, or the pairs or texts that some objectives count."""
    writes: bool
    """Whether the model can be asked to write."""
    log: list[dict[str, Any]] = field(repr=False)


def story(config: RunConfig, result: Trained, report: dict[str, Any], language: str) -> dict[str, Any]:
    """What `report.html` tells."""
    made = noted(result.folder)
    looks = [record for record in result.log if "validation" in record]
    return {
        "title": config.name, "language": language, "created": made["created"],
        "command": made["command"], "config": dump(config),
        "updates": [record for record in result.log if "loss" in record],
        "evaluations": [{**{k: r[k] for k in ("step", "seconds")}, **r["validation"]} for r in looks],
        "samples": [], "environment": {**made["versions"], **made["hardware"]},
        "summary": {
            "best_step": report["best_step"], **_headline("validation", result.validation),
            **_headline("test", result.test), "parameters": result.parameters, f"{result.unit}_seen": result.tokens,
            "epochs": result.epochs, "seconds": result.seconds,
        },
    }  # fmt: skip


def report_of(result: Trained, best: dict[str, Any]) -> dict[str, Any]:
    """The scores of a run as plain data."""
    return {
        "best_step": best.get("step"), "validation": plain_score(result.validation),
        "test": None if result.test is None else plain_score(result.test), "parameters": result.parameters,
        f"{result.unit}_seen": result.tokens, "epochs": result.epochs, "seconds": result.seconds,
    }  # fmt: skip


def plain_score(score: Score) -> dict[str, Any]:
    """A score as a report and `yuyan evaluate --json` give it."""
    return score.plain() if isinstance(score, HeldOut) else dump(score)


def _headline(split: str, score: Score | None) -> dict[str, Any]:
    """The number that counts, and beside it what a reader may know better: accuracy, perplexity."""
    if score is None:
        return {}
    others = score.others if isinstance(score, HeldOut) else {}
    return {f"{split}_{score.measure}": score.value, f"{split}_interval": list(score.interval)} | {
        f"{split}_{name}": value for name, value in others.items()
    }


def score_table(title: str, first: str, scores: Mapping[str, Score]) -> None:
    """Scores of one kind, one row each, under names that say what they are; `first` is what the rows are."""
    kinds = list(scores.values())
    rows = []
    for name, score in scores.items():
        size = (score.unit, score.counted) if isinstance(score, HeldOut) else ("tokens", score.tokens)
        if isinstance(score, HeldOut):
            others, examples = [_shown(key, value) for key, value in score.others.items()], score.examples
        else:
            others, examples = [f"{score.perplexity:.2f}"], score.documents
        rows.append([name, f"{score.value:.4f}", interval(score.interval, 4), *others, f"{size[1]:,}", f"{examples:,}"])
    if isinstance(kinds[0], HeldOut):
        names = [terminal_name(key) for key in kinds[0].others]
        columns = [terminal_name(kinds[0].measure), "95 % interval", *names, kinds[0].unit, "examples"]
    else:
        columns = ["bits/byte", "95 % interval", "perplexity/token", "tokens", "documents"]
    table(title, [first, *columns], rows)


def _shown(key: str, value: float) -> str:
    return percent(value) if key.endswith(SHARES) else f"{value:.4f}" if key == "margin" else significant(value)


def show(result: Trained) -> None:
    """The table at the end, and what to try next."""
    scores = {"validation": result.validation} | ({} if result.test is None else {"test": result.test})
    score_table("held-out data" if isinstance(result.validation, HeldOut) else "held-out text", "split", scores)
    unit = result.unit
    say(
        f"{result.parameters / 1e6:.2f} M parameters, {result.tokens:,} {unit} seen ({result.epochs:.1f} epochs), "
        f"{result.seconds:.0f} s, {quick(result.tokens / max(result.seconds, 1e-9))} {unit}/s"
    )
    say(f"report: {result.folder / 'report.html'}  (open it in a browser)")
    say(f"the run is in {result.folder}; now try:\n  {_next(result)}")


def quick(rate: float) -> str:
    """A rate in three or four characters: 12.3k, 456, 7.8."""
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _next(result: Trained) -> str:
    if result.writes:
        return f"yuyan generate {result.folder} 'Once upon a time'"
    return f"yuyan evaluate {result.folder} MORE-DATA"

"""What a run came to: as an object, as plain data, as a page, and as a table with what to try next."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yuyan.commands.run import RunConfig, noted
from yuyan.config import dump
from yuyan.console import say, table
from yuyan.evaluate.likelihood import Likelihood
from yuyan.evaluate.quantities import interval


@dataclass(frozen=True)
class Trained:
    """What a run came to."""

    folder: Path
    validation: Likelihood
    test: Likelihood | None
    parameters: int
    tokens: int
    epochs: float
    seconds: float
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
            "best_step": report["best_step"], "validation_bits_per_byte": result.validation.bits_per_byte,
            "test_bits_per_byte": None if result.test is None else result.test.bits_per_byte,
            "parameters": result.parameters, "tokens_seen": result.tokens, "epochs": result.epochs,
            "seconds": result.seconds,
        },
    }  # fmt: skip


def report_of(result: Trained, best: dict[str, Any]) -> dict[str, Any]:
    """The scores of a run as plain data."""
    return {
        "best_step": best.get("step"), "validation": dump(result.validation),
        "test": None if result.test is None else dump(result.test), "parameters": result.parameters,
        "tokens_seen": result.tokens, "epochs": result.epochs, "seconds": result.seconds,
    }  # fmt: skip


def show(result: Trained) -> None:
    """The table at the end, and what to try next."""
    rows = []
    for name, score in (("validation", result.validation), ("test", result.test)):
        if score is not None:
            rows.append([name, f"{score.bits_per_byte:.4f}", interval(score.interval, 4), f"{score.perplexity:.2f}",
                         f"{score.tokens:,}", f"{score.documents:,}"])  # fmt: skip
    table("held-out text", ["split", "bits/byte", "95 % interval", "perplexity/token", "tokens", "documents"], rows)
    say(
        f"{result.parameters / 1e6:.2f} M parameters, {result.tokens:,} tokens seen ({result.epochs:.1f} epochs), "
        f"{result.seconds:.0f} s, {result.tokens / max(result.seconds, 1e-9) / 1000:.1f}k tokens/s"
    )
    say(f"report: {result.folder / 'report.html'}  (open it in a browser)")
    say(f"the run is in {result.folder}; now try:\n  yuyan generate {result.folder} 'Once upon a time'")

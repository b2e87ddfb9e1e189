"""What a run came to: as an object, as plain data, as a page, and as a table with what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yuyan.commands.validation import Score
from yuyan.config import dump
from yuyan.console import say, table
from yuyan.evaluate.fragment import html_curves, html_table
from yuyan.evaluate.held_out import HeldOut
from yuyan.evaluate.quantities import interval, percent, significant
from yuyan.evaluate.task_score import TaskLoss, TaskScore
from yuyan.evaluate.wording import SHARES, terminal_name

FILLS = ("masked_token_loss", "span_corruption_loss")
"""What models learn by that can fill a gap, and do nothing better."""


@dataclass(frozen=True, repr=False)
class Trained:
    """What a run came to. It shows itself as text, and in a notebook as a table with its curve."""

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
    prompt: str
    """A beginning to try, like those of the text."""
    log: list[dict[str, Any]] = field(repr=False)

    def __repr__(self) -> str:
        columns, rows = self._table()
        lines = ("  ".join(cell for cell in row if cell) for row in (columns, *rows))
        return "\n".join([f"{self.folder}: {self.sentence()}", *lines])

    def _repr_html_(self) -> str:
        looks = [r for r in self.log if "validation" in r]
        measure = self.validation.measure
        curve = [(r["tokens"], r["validation"][measure]) for r in looks if r["validation"].get(measure) is not None]
        drawn = html_curves({measure: curve}, f"{self.unit} seen", f"validation, {terminal_name(measure)}")
        return str(html_table(*self._table(), caption=f"{self.folder}: {self.sentence()}") + drawn)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        scores = {"validation": self.validation} | ({} if self.test is None else {"test": self.test})
        columns = ["split", terminal_name(self.validation.measure), "95 % interval"]
        return columns, [[name, f"{s.value:.4f}", interval(s.interval, 4)] for name, s in scores.items()]

    def sentence(self) -> str:
        """How large, how much, how fast."""
        return (
            f"{self.parameters / 1e6:.2f} M parameters, {self.tokens:,} {self.unit} seen ({self.epochs:.1f} epochs), "
            f"{self.seconds:.0f} s, {quick(self.tokens / max(self.seconds, 1e-9))} {self.unit}/s"
        )


def plain_score(score: Score) -> dict[str, Any]:
    """A score as a report and `yuyan evaluate --json` give it."""
    if isinstance(score, TaskScore):
        return score.whole()
    return score.plain() if isinstance(score, HeldOut) else dump(score)


def score_table(title: str, first: str, scores: Mapping[str, Score]) -> None:
    """Scores of one kind, one row each, under names that say what they are; `first` is what the rows are."""
    kinds = list(scores.values())
    rows = []
    for name, score in scores.items():
        size = (score.unit, score.counted) if isinstance(score, HeldOut) else ("tokens", score.tokens)
        if isinstance(score, HeldOut):
            others, examples = _others(score), score.examples
        else:
            others, examples = [f"{score.perplexity:.2f}"], score.documents
        rows.append([name, f"{score.value:.4f}", interval(score.interval, 4), *others, f"{size[1]:,}", f"{examples:,}"])
    if isinstance(kinds[0], HeldOut):
        names = [terminal_name(key) for key in kinds[0].others]
        columns = [terminal_name(kinds[0].measure), "95 % interval", *names, kinds[0].unit, "examples"]
    else:
        columns = ["bits/byte", "95 % interval", "perplexity/token", "tokens", "documents"]
    table(title, [first, *columns], rows)


def _others(score: HeldOut) -> list[str]:
    """The other measures; those of a task are all shares, shown alike."""
    if isinstance(score, TaskScore):
        return [f"{value:.4f}" for value in score.others.values()]
    return [_shown(key, value) for key, value in score.others.items()]


def _shown(key: str, value: float) -> str:
    return percent(value) if key.endswith(SHARES) else f"{value:.4f}" if key == "margin" else significant(value)


def show(result: Trained) -> None:
    """The table at the end, and what to try next."""
    scores = {"validation": result.validation} | ({} if result.test is None else {"test": result.test})
    score_table("held-out data" if isinstance(result.validation, HeldOut) else "held-out text", "split", scores)
    say(result.sentence())
    say(f"report: {result.folder / 'report.html'}  (open it in a browser)")
    say(f"the run is in {result.folder}; now try:\n  {next_command(result)}")


def quick(rate: float) -> str:
    """A rate in three or four characters: 12.3k, 456, 7.8."""
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def next_command(result: Trained) -> str:
    if result.validation.measure in FILLS:
        joint = "" if result.prompt[-1:] > "\u2e7f" else " "  # Chinese has no spaces
        return shlex.join(["yuyan", "fill", str(result.folder), f"{result.prompt}{joint}___"])
    if result.writes:
        return shlex.join(["yuyan", "generate", str(result.folder), result.prompt])
    if isinstance(result.validation, TaskLoss):
        return f"yuyan chat {result.folder}"
    if isinstance(result.validation, TaskScore):
        questions = result.validation.measure == "answer_f1"
        asked = "'a question' --context 'a text, or a file of one'" if questions else "'a text, or a file of texts'"
        return f"yuyan predict {result.folder} {asked}"
    return f"yuyan evaluate {result.folder} MORE-DATA"

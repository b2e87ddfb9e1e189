"""Rewriting: any text to any other, such as correction, style, questions from answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from yuyan.metrics.score import Scores
from yuyan.metrics.written import against_references, exact_match
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.pairs import PairConfig


class Rewrite(PairConfig):
    """Write another text for a text: correct it, change its style, answer it."""

    kind: Literal["rewrite"] = "rewrite"

    def measured(self, answers: Sequence[str], records: Sequence[Paired], draws: int) -> Scores:
        """Exact match, and chrF, which also counts what is nearly right."""
        references = [record.targets for record in records]
        chrf, signature = against_references("chrf", answers, references, self.language(records), draws)
        values = {"exact_match": exact_match(answers, references, draws), "chrf": chrf}
        return Scores(values, len(answers), {}, notes=(signature,))

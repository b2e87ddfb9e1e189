"""Translation: a text in another language, from parallel files, tables or translation memories (TMX)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from yuyan.metrics.score import Scores
from yuyan.metrics.written import Measure, against_references
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.pairs import PairConfig

MEASURES: tuple[Measure, ...] = ("bleu", "chrf", "ter")


class Translate(PairConfig):
    """Write a text in another language."""

    kind: Literal["translate"] = "translate"

    def measured(self, answers: Sequence[str], records: Sequence[Paired], draws: int) -> Scores:
        """BLEU, chrF and TER as sacreBLEU counts them, of 100, with its signatures."""
        references = [record.targets for record in records]
        found = {
            name: against_references(name, answers, references, self.language(records), draws) for name in MEASURES
        }
        values = {str(name): value for name, (value, _) in found.items()}
        return Scores(values, len(answers), {}, notes=tuple(signature for _, signature in found.values()))

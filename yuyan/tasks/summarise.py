"""Summaries: a short text that says what a long one says; beside it what the first sentences of the source score.

A baseline of the first sentence, or the first three, is hard to beat for news (Nallapati et al. 2017), and says of any
data how much of a summary can be had without understanding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import regex

from yuyan.metrics.rouge import rouge, rouge_values
from yuyan.metrics.score import Scores
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.pairs import PairConfig

LEADS = (1, 3)
_END = regex.compile(r"(?<=[.!?…][\"'”’)\]]*)\s++(?!\p{Ll})|(?<=[。！？…]+[”’」』）]*)(?![。！？…”’」』）])\s*|\n+")
"""Where a sentence ends: at a mark and a space, at a Chinese mark, or at the end of a line; once, where it is several of them."""


class Summarise(PairConfig):
    """Write a short text that says what a long one says."""

    kind: Literal["summarise"] = "summarise"

    def measured(self, answers: Sequence[str], records: Sequence[Paired], draws: int) -> Scores:
        """ROUGE-1, -2 and -L (F), and beside them those of the first sentences."""
        references = [record.targets for record in records]
        each = tuple((rouge(a, refs).rouge1, 1.0) for a, refs in zip(answers, references, strict=True))
        beside = [(f"lead-{n}", [lead(record.text, n) for record in records]) for n in LEADS]
        return Scores(
            rouge_values(answers, references, draws), len(answers), {}, each=each,
            beside=tuple((name, {k: v.value for k, v in rouge_values(texts, references, 0).items()}) for name, texts in beside),
        )  # fmt: skip


def lead(text: str, sentences: int) -> str:
    """The first sentences, or lines, of a text."""
    ends = [match.start() for match in _END.finditer(text.strip())]
    return text.strip()[: ends[sentences - 1]] if len(ends) >= sentences else text.strip()

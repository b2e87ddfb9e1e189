"""What written texts are worth against one or several right ones: BLEU, chrF, TER, exact match.

The first three are sacreBLEU's (Post 2018), of 100, on texts as they are (BLEU and chrF cased, with punctuation as written); each
has a signature that says how it was counted. Chinese is cut into characters, as are other scripts without spaces between words.
Intervals draw texts with replacement.

N texts, S sums that a score is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from yuyan.metrics.interval import resampled, share_interval
from yuyan.metrics.score import NONE, Value

Measure = Literal["bleu", "chrf", "ter"]
CHARACTERS = ("ja", "ko", "th", "lo", "km", "my", "bo")
"""Languages that BLEU counts by characters: what cuts them into words is not installed everywhere."""
SLOW_DRAWS = 300


def exact_match(answers: Sequence[str], references: Sequence[Sequence[str]], draws: int) -> Value:
    """The share of answers that are one of their references, white space aside."""
    right = sum(_bare(a) in {_bare(r) for r in refs} for a, refs in zip(answers, references, strict=True))
    return Value(right / len(answers), share_interval(right, len(answers)) if draws else NONE)


def _bare(text: str) -> str:
    return " ".join(text.split())


def against_references(
    measure: Measure, answers: Sequence[str], references: Sequence[Sequence[str]], language: str, draws: int
) -> tuple[Value, str]:
    """The score of all answers together, with its interval, and sacreBLEU's signature of it.

    `language` is that of the references, as two letters.
    """
    metric = _metric(measure, language)
    most = max(map(len, references))
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    score = metric.corpus_score(list(answers), streams).score
    interval = NONE
    if draws and len(answers) > 1:
        sums = np.array(metric._extract_corpus_statistics(list(answers), streams), dtype=np.float64)

        def drawn(times: np.ndarray) -> float:
            return float(metric._compute_score_from_stats((times @ sums).tolist()).score)

        interval = resampled(len(answers), drawn, draws=min(draws, SLOW_DRAWS))
    return Value(float(score), interval), f"{measure} {metric.get_signature()}"


def _metric(measure: Measure, language: str) -> Any:
    chinese = language == "zh"
    if measure == "bleu":
        return BLEU(tokenize="zh" if chinese else "char" if language in CHARACTERS else "13a", force=True)
    if measure == "chrf":
        return CHRF()
    return TER(normalized=True, asian_support=True) if chinese or language in CHARACTERS else TER()

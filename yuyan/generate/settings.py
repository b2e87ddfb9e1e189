"""What every request may ask for, whatever the strategy: limits, rules, where to stop, what to report.

Each strategy is a type that adds its own keys (`Sampling`, `Greedy`, `Beam`, `Contrastive`); together they are the
union `Settings` in `strategy.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from yuyan.config import Config
from yuyan.generate.shape import Shape

MOST_TOKENS = 1_000_000
MOST_TEXTS = 128
LARGEST = 1e9  # of a penalty or bias: so large, and one part in so much, scores in float32 stay finite


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Word = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_as_tuple)]
"""Texts; a single one may be written without a list."""


class Settings(Config):
    """Common to all strategies."""

    looks_ahead: ClassVar[int] = 0
    """How many more tokens the strategy reads than it writes, less one."""

    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    """Stop after so many new tokens; by default 200, or what fits the context."""
    min_tokens: int = Field(0, ge=0, le=MOST_TOKENS)
    """No end before so many new tokens; the text may still reach a stop string."""
    stop: Words = ()
    """Stop before one of these texts would be written; they are not part of the result."""
    bad_words: Words = ()
    """The new text never contains one of these, however it is cut into tokens."""
    logit_bias: dict[int, Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Added to the scores of these tokens at every step."""
    repetition_penalty: float = Field(1.0, ge=1 / LARGEST, le=LARGEST, allow_inf_nan=False)
    """Divides positive scores, and multiplies negative ones, of tokens seen in prompt or text (Keskar et al. 2019)."""
    presence_penalty: float = Field(0.0, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)
    """Taken from the score of every token that the new text has."""
    frequency_penalty: float = Field(0.0, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)
    """Taken from the score of a token for every time that the new text has it."""
    no_repeat_ngram: int | None = Field(None, ge=1)
    """No sequence of so many tokens twice in prompt and text (Paulus et al. 2018)."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """Report the model's log-probability of each token, and so many of the likeliest alternatives."""
    constraint: Shape | None = None
    """What the whole text must obey: a JSON schema, a regular expression or a grammar."""
    overflow: Literal["error", "slide"] = "error"
    """What to do where prompt and text do not fit the context: refuse, or forget the oldest quarter again and again."""

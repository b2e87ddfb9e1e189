"""Where guesses of the next tokens come from; the model checks them all in one pass (Leviathan et al. 2023)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from yuyan.config import Config, Place


class PromptLookup(Config):
    """Guess what followed when the latest tokens were last seen in prompt or text (Saxena 2023); costs no model."""

    kind: Literal["prompt_lookup"] = "prompt_lookup"
    tokens: int = Field(8, ge=1, le=64)
    """How many tokens are guessed at most."""
    ngram: int = Field(3, ge=1)
    """How many of the latest tokens are looked for, and if they are nowhere, one less, down to 1."""


class DraftModel(Config):
    """Guess with a smaller model that has the same tokenizer."""

    kind: Literal["draft"] = "draft"
    path: Place
    """The folder of the smaller model."""
    tokens: int = Field(4, ge=1, le=64)
    """How many tokens it writes before they are checked."""


Speculation = Annotated[PromptLookup | DraftModel, Field(discriminator="kind")]

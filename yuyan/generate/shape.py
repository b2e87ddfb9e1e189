"""What a text must obey as a whole, as a setting: a JSON schema, a regular expression, a grammar.

`grammar.py` turns it into a `Constraint` for the tokens of a model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from yuyan.config import Config


class JsonSchema(Config):
    """JSON that the schema accepts (json-schema.org), on one line, with at most one space between its parts."""

    kind: Literal["json_schema"] = "json_schema"
    content: dict[str, Any] | bool | str
    """The schema, or its text."""


class Pattern(Config):
    """A text that a regular expression matches from its first character to its last."""

    kind: Literal["regex"] = "regex"
    content: str = Field(min_length=1)
    """The expression, in the syntax of Rust's regex crate: no looking around, no backreferences."""


class Lark(Config):
    """A text of a context-free grammar, which begins at `start`."""

    kind: Literal["grammar"] = "grammar"
    content: str = Field(min_length=1)
    """The grammar, as for the Python package Lark."""


Shape = Annotated[JsonSchema | Pattern | Lark, Field(discriminator="kind")]

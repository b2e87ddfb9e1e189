"""Grammars over the tokens of a tokenizer, by llguidance: which tokens may come next so that the text stays valid.

The library works on bytes, and so do our tables of what tokens stand for: a token may be a part of a character. Control
tokens and `unk` stand for nothing that a grammar could mean, and are never allowed; an end mark only where the grammar
is complete. Where a token is another text at the beginning (WordPiece, SentencePiece), the grammar knows two tokens for
each: i as it stands later, V + i as it stands first. A text that must obey a grammar is a text of its own, so it begins
with a first token, whatever the prompt was.

What could take forever is refused: long texts, long chains of rules (the library reads them recursively), large
automata, and grammars of which one text can be read in too many ways. The limits count steps, not seconds, so that the
same grammar is refused everywhere.

V vocabulary.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yuyan.errors import InputError
from yuyan.generate.shape import JsonSchema, Lark, Pattern, Shape
from yuyan.tokens import Tokenizer

LONGEST_TEXT = 1 << 18  # characters of a schema, an expression, a grammar
MOST_RULES = 1000  # rules of a grammar, references in a schema
EXACT = 1 << 53  # up to here every whole number is one of floating point
MOST_WAYS = 500  # items that the parser holds at one place of the text
FREE = '\n%llguidance {"no_forcing": true}\n'  # else a text without choice is cut as the tokenizer would cut it alone
KEPT = 16  # grammars that stay compiled
JSON_OPTIONS = {
    "whitespace_flexible": True, "whitespace_pattern": " ?", "coerce_one_of": False, "lenient": False,
}  # fmt: skip


class Grammars:
    """What texts of one tokenizer must obey; a grammar is compiled once. `ends` are the tokens that end a text."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int]):
        self.tokenizer, self.ends = tokenizer, sorted(i for i in ends if i < len(tokenizer))
        self._compiled: dict[str, Any] = {}

    def constraint(self, shape: Shape) -> GrammarConstraint:
        """The constraint at the beginning of a text.

        Raises InputError for a schema, expression or grammar that is none, that uses what is not supported, that is too
        large, and for one that no text of these tokens can begin; and where llguidance is not installed.
        """
        key = shape.model_dump_json()
        if key not in self._compiled:
            if len(self._compiled) == KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = self._compile(shape)
        constraint = GrammarConstraint(self._compiled[key].deep_copy(), self)
        if not constraint.complete and not bool(constraint.mask().any()):
            raise InputError(f"{_name(shape)}: no text of this model's tokens can begin as it asks")
        return constraint

    @cached_property
    def two_tables(self) -> bool:
        """Whether a token may be another text at the beginning."""
        return self.tokenizer.pieces.first != self.tokenizer.pieces.later

    @cached_property
    def barred(self) -> list[int]:
        """Tokens that no grammar may allow."""
        special = self.tokenizer.special
        return sorted({*special.control, *([] if special.unk is None else [special.unk])})

    @cached_property
    def _library(self) -> Any:
        try:
            return importlib.import_module("llguidance")
        except ImportError:
            raise InputError(
                "schemas, expressions and grammars need the package llguidance; "
                "install it with: pip install 'yuyan[constrain]'"
            ) from None

    @cached_property
    def _tokens(self) -> Any:
        """The library's table: ours, and a token that stands for the end, as a model may have none."""
        pieces, barred = self.tokenizer.pieces, frozenset(self.barred)
        tables = [pieces.later, pieces.first] if self.two_tables else [pieces.later]
        tokens = [b"" if i in barred else piece for table in tables for i, piece in enumerate(table)]
        wrapper = self._library.TokenizerWrapper(_Table([*tokens, b"<end>"], self.tokenizer))
        return self._library.LLTokenizer(wrapper)

    def _compile(self, shape: Shape) -> Any:
        library, name = self._library, _name(shape)
        text = _text(shape)
        _check_size(text, name)
        if isinstance(shape, JsonSchema):
            grammar = "start: %json " + text
        elif isinstance(shape, Pattern):
            grammar = json.loads(library.LLMatcher.grammar_from_regex(text))["grammars"][0]["lark_grammar"]
        else:
            grammar = text
        limits = library.LLParserLimits(max_items_in_row=MOST_WAYS)
        matcher = library.LLMatcher(self._tokens, grammar + FREE, log_level=0, limits=limits)
        if matcher.is_error():
            raise InputError(f"{name}: {_why(matcher.get_error())}")
        return matcher


class GrammarConstraint:
    """A place in a text that follows a grammar. Once the grammar is too much for the library, nothing is allowed."""

    def __init__(self, matcher: Any, grammars: Grammars, *, begun: bool = False):
        self._matcher, self._grammars, self._begun = matcher, grammars, begun

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return not self._matcher.is_error() and bool(self._matcher.is_accepting())

    @property
    def over(self) -> bool:
        """Whether the text must end here."""
        return self.complete and bool(self._matcher.is_stopped())

    def mask(self) -> Tensor:
        """(V,) booleans: which tokens may come next, end marks included."""
        grammars, size = self._grammars, len(self._grammars.tokenizer)
        allowed = torch.zeros(size, dtype=torch.bool)
        if not self._matcher.is_stopped():
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            if not self._matcher.is_error():
                begin = self._offset
                found = np.unpackbits(bits, bitorder="little")[begin : begin + size]
                allowed = torch.from_numpy(found.astype(bool))
        allowed[grammars.barred] = False
        allowed[grammars.ends] = self.complete
        return allowed

    def take(self, token: int) -> None:
        """Follow a token that `mask` allowed."""
        taken = self._matcher.consume_token(token + self._offset)
        assert taken or self._matcher.is_error(), "the mask allowed the token"
        self._begun = True

    def copy(self) -> GrammarConstraint:
        """Another one at the same place."""
        return GrammarConstraint(self._matcher.deep_copy(), self._grammars, begun=self._begun)

    @property
    def _offset(self) -> int:
        """Where the tokens that may come next are in the library's table."""
        return len(self._grammars.tokenizer) if self._grammars.two_tables and not self._begun else 0


class _Table:
    """What the library asks of a tokenizer."""

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokens: list[bytes], tokenizer: Tokenizer):
        self.tokens, self.eos_token_id, self._tokenizer = tokens, len(tokens) - 1, tokenizer

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("texts only")
        return self._tokenizer.encode(text)


def _name(shape: Shape) -> str:
    return {"json_schema": "schema", "regex": "regex", "grammar": "grammar"}[shape.kind]


def _text(shape: Shape) -> str:
    """What the library reads. Raises InputError for a schema that is no JSON."""
    if isinstance(shape, Pattern | Lark):
        return shape.content
    try:
        schema = json.loads(shape.content) if isinstance(shape.content, str) else shape.content
        schema = {} if schema is True else schema
        _check_counts(schema)
        _check_numbers(schema)
        text = json.dumps({**schema, "x-guidance": JSON_OPTIONS} if isinstance(schema, dict) else schema)
    except RecursionError:
        raise InputError("schema: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"schema: not JSON: {error}") from None
    if schema is False:
        raise InputError("schema: false accepts nothing")
    if not isinstance(schema, dict):
        raise InputError(f"schema: expected an object, got {text[:40]}")
    return text


def _check_counts(schema: object) -> None:
    """The library lets a key come twice, which counts once."""
    if isinstance(schema, list):
        for part in schema:
            _check_counts(part)
    if not isinstance(schema, dict):
        return
    fewest, required = schema.get("minProperties"), schema.get("required", [])
    if isinstance(fewest, int) and fewest > max(1, len(required) if isinstance(required, list) else 0):
        raise InputError(
            'schema: not supported: the keyword "minProperties" above 1 and above the number of required properties; '
            "name them as required"
        )
    for key, part in schema.items():
        if key not in ("const", "enum", "default", "examples"):
            _check_counts(part)


def _check_numbers(schema: object) -> None:
    """The library holds numbers in 64 bits of floating point, and would write the nearest one."""
    if isinstance(schema, int) and abs(schema) > EXACT:
        raise InputError(f"schema: not supported: the whole number {schema}, beyond 2^53; write it as a string")
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _check_numbers(part)


def _check_size(text: str, name: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{name}: {len(text):,} characters; at most {LONGEST_TEXT:,}")
    rules = text.count("$ref") if name == "schema" else text.count(":") if name == "grammar" else 0
    if rules > MOST_RULES:
        what = "references" if name == "schema" else "rules"
        raise InputError(f"{name}: {rules:,} {what}; at most {MOST_RULES:,}")


def _why(message: str) -> str:
    """One line of what the library says."""
    if found := re.search(r"Unimplemented keys: \[(.*)\]", message):
        return f"not supported: the keyword {found[1]}; leave it out"
    if found := re.search(r"Unknown format: (.*)", message):
        return f'not supported: the keyword "format" with {found[1]!r}; leave it out'
    if "oneOf constraints are not supported" in message:
        return 'not supported: the keyword "oneOf" with choices that one text may both match; write "anyOf"'
    message = re.sub(r"^at [\d()]+: failed to compile JSON schema: ", "", message)
    if found := re.search(r"^error: (.*)$", message, re.MULTILINE):
        return found[1]
    if "too big" in message or "too many" in message or "too large" in message:
        return f"too large: {message.splitlines()[0]}"
    return re.sub(r"\s+", " ", message.splitlines()[0])[:300]

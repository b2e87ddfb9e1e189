"""Jinja for templates that may be anybody's: they see what they are given, end soon, and make no mountains.

Jinja's own sandbox keeps them from everything outside. What is added: the loops of one rendering take at most `MOST_ROUNDS`
rounds together, no text gets longer than `LONGEST_TEXT`, and what makes much out of little (`'x' * 10**9`) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from yuyan.errors import ConfigError, DataError

LONGEST_SOURCE, LONGEST_TEXT, MOST_ROUNDS = 200_000, 20_000_000, 500_000
_WIDE = {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate", "join"}
_LEFT_OUT = ("center", "wordwrap", "indent", "format", "random", "pprint", "xmlattr", "urlize", "slice", "batch")


class SafeTemplate:
    """A template; `place` is what errors call it. Raises ConfigError for one that is none."""

    def __init__(self, source: str, place: str):
        self.place = place
        if len(source) > LONGEST_SOURCE:
            raise ConfigError(f"{place}: {len(source):,} characters are no template")
        try:
            self._template: Template = _environment().from_string(source)
        except (TemplateSyntaxError, RecursionError) as error:
            line = f":{error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise ConfigError(f"{place}{line}: not a template: {error}") from None

    def text(self, lists: Mapping[str, Sequence[Any]], values: Mapping[str, object]) -> str:
        """What it makes of `lists`, whose rounds are counted, and other `values`. Raises DataError where it refuses."""
        budget = _Budget()
        paid = {name: _Paid(values, budget) for name, values in lists.items()}

        def counted(*given: int) -> _Paid:
            return _Paid(range(*given)[: MOST_ROUNDS + 1], budget)

        held: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(**values, **paid, range=counted):
                held.append(piece)
                length += len(piece)
                _bounded(length)
        except (
            TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError, AttributeError, MemoryError,
        ) as error:  # fmt: skip
            raise DataError(f"{self.place}: refuses these messages: {error}") from None
        return "".join(held)


class _Budget:
    """How many rounds the loops of one rendering may still take."""

    def __init__(self) -> None:
        self.left = MOST_ROUNDS

    def rounds(self, values: Sequence[Any]) -> Iterator[Any]:
        for value in values:
            self.left -= 1
            if self.left < 0:
                raise SecurityError(f"its loops take more than {MOST_ROUNDS:,} rounds")
            yield value


class _Paid(list[Any]):
    """A list whose every round is counted, and those of its parts."""

    def __init__(self, values: Sequence[Any], budget: _Budget):
        super().__init__(values)
        self._budget = budget

    def __iter__(self) -> Iterator[Any]:
        return self._budget.rounds([super(_Paid, self).__getitem__(i) for i in range(len(self))])

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Paid(found, self._budget) if isinstance(key, slice) else found


def _bounded(length: int) -> None:
    if length > LONGEST_TEXT:
        raise SecurityError(f"it makes more than {LONGEST_TEXT:,} characters")


class _Generation(Extension):
    """`{% generation %}`, by which some templates mark answers; what it holds is taken as it is."""

    tags = {"generation"}  # noqa: RUF012  (as the library has it)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Joins(NodeTransformer):
    """`a ~ b` by a filter, which can count."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  (the library calls it so)
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Joins().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(side, int | float) for side in (left, right))
        if operator == "**" or (operator in "*%" and not numbers):
            raise SecurityError(f"{operator} is not for texts and lists here")
        if operator == "+" and all(isinstance(side, str | list) for side in (left, right)):
            _bounded(len(left) + len(right))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _WIDE) and super().is_safe_attribute(obj, attr, value)

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        whole = getattr(__obj, "__self__", None)
        if isinstance(whole, str) and getattr(__obj, "__name__", "") == "replace":
            return _replaced(whole, *args)
        return super().call(__context, __obj, *args, **kwargs)


def _replaced(text: object, old: str, new: str, count: int = -1) -> str:
    said = str(text)
    _bounded(len(said) + (len(said) + 1 if old == "" else said.count(old)) * len(new))
    return said.replace(old, new, count)


def _joined(values: Sequence[Any], between: str = "", attribute: str | None = None) -> str:
    parts = [str(value if attribute is None else value[attribute]) for value in values]
    _bounded(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _refuse(message: object) -> None:
    raise TemplateError(str(message))


def _environment() -> _Sandbox:
    made = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    for name in _LEFT_OUT:
        made.filters.pop(name, None)
    made.globals.pop("lipsum", None)
    made.globals["raise_exception"] = _refuse
    made.filters |= {
        "replace": _replaced,
        "join": _joined,
        "tojson": lambda value, **_: json.dumps(value, ensure_ascii=False),
    }
    return made

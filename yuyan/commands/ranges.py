"""The `tune:` section of a config: which keys a search may set, and to what.

tune:
  train.optimizer.lr: {log: [1.0e-4, 1.0e-2]}
  model.dropout: {uniform: [0.0, 0.3]}
  model.num_layers: {int: [2, 6]}
  train.optimizer.kind: {choice: [adamw, muon]}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

Range = dict[Literal["log", "uniform", "int", "choice"], tuple[Any, ...]]


def _checked(ranges: dict[str, Range]) -> dict[str, Range]:
    for key, given in ranges.items():
        if len(given) != 1:
            raise ValueError(f"{key}: one of log, uniform, int and choice, such as {{log: [1e-4, 1e-2]}}")
        kind, values = next(iter(given.items()))
        if kind == "choice":
            if len(values) < 2:
                raise ValueError(f"{key}: a choice is between two values at least")
            continue
        numbers = (int,) if kind == "int" else (int, float)
        if len(values) != 2 or any(not isinstance(v, numbers) or isinstance(v, bool) for v in values):
            raise ValueError(f"{key}: {kind} takes the lowest and the highest {'whole ' * (kind == 'int')}number")
        if not values[0] < values[1] or (kind == "log" and values[0] <= 0):
            raise ValueError(f"{key}: {kind} goes from a number{' above 0' * (kind == 'log')} to a larger one")
    return ranges


Ranges = Annotated[dict[str, Range], AfterValidator(_checked)]

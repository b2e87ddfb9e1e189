"""yuyan (语言): from raw text to a language model that works at your task.

>>> import yuyan
>>> model = yuyan.load("runs/mine")  # a run, a rung of a ladder, or a Hugging Face folder
>>> print(model.generate("Once upon a time", temperature=0.8, seed=1))
>>> result = yuyan.train("configs/tiny/gpt.yaml", train__steps=50, out="runs/mine")
>>> yuyan.runs()  # a table; yuyan.compare("runs/mine", "runs/other") sets two side by side
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if "torch" not in sys.modules:
    # Threads that wait for each other by spinning lose whole time slices when another program takes a core: a step of a
    # small LSTM went from 0.1 to 19 seconds. Sleeping costs little when the machine is quiet. Read once, by OpenMP.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from yuyan.api import compare, load, runs, train

__all__ = ["compare", "load", "runs", "train"]


def __getattr__(name: str) -> Any:
    """Import the parts of the interface when they are first used, so that `import yuyan` stays light."""
    if name in __all__:
        from yuyan import api

        return getattr(api, name)
    raise AttributeError(f"module 'yuyan' has no attribute {name!r}; it has {', '.join(__all__)}")


class _Package(ModuleType):
    """`yuyan.train` is the function always: importing the package of that name would put the package in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

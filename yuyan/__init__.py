"""yuyan (语言): from raw text to a language model that works at your task.

>>> import yuyan
>>> model = yuyan.load("runs/mine")  # a run, a rung of a ladder, or a Hugging Face folder
>>> print(model.generate("Once upon a time", temperature=0.8, seed=1))
>>> result = yuyan.train("configs/tiny/gpt.yaml", "train.steps=50", out="runs/mine")
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if "torch" not in sys.modules:
    # Threads that wait for each other by spinning lose whole time slices when another program takes a core: a step of a
    # small LSTM went from 0.1 to 19 seconds. Sleeping costs little when the machine is quiet. Read once, by OpenMP.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from yuyan.api import load, train

__all__ = ["load", "train"]


def __getattr__(name: str) -> Any:
    """Import the parts of the interface when they are first used, so that `import yuyan` stays light."""
    if name in __all__:
        from yuyan import api

        return getattr(api, name)
    raise AttributeError(f"module 'yuyan' has no attribute {name!r}; it has {', '.join(__all__)}")

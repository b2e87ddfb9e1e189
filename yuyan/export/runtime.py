"""Packages of other engines: loaded when an export needs them, and a clear line when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from yuyan.errors import InputError


class RuntimeMissing(InputError):
    """The engine that would check the export is not installed."""


def package(module: str, name: str) -> Any:
    """A package. Raises RuntimeMissing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise RuntimeMissing(
            f"{module} is not installed; pip install {name}, or all of them: 'yuyan[export]'"
        ) from None

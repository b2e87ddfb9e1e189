"""Whether the compiled arithmetic is there already, without loading the compiler to find out."""

from __future__ import annotations

from pathlib import Path

from yuyan.compile import cache_folder


def first_time() -> bool:
    """Whether nothing of this package was compiled on this machine yet, as far as the usual folder says."""
    folder = cache_folder(Path(__file__).parent)
    return folder is None or not any(folder.rglob("*.nbi"))

"""`made.json` of a run: with what it was made, and what was found out on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yuyan.store import write_json
from yuyan.train.world import rank

MADE = "made.json"


def note(folder: Path, **entries: object) -> None:
    """Add to what `made.json` says; of several processes the first does."""
    if rank() == 0:
        write_json(folder / MADE, noted(folder) | entries)


def noted(folder: Path) -> dict[str, Any]:
    """What `made.json` says; nothing if it is not there or damaged, as no result depends on it."""
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return made if isinstance(made, dict) else {}

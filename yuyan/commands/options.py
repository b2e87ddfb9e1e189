"""What the options of several verbs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def given_path(text: str) -> Path:
    """An empty path is a variable that was never set, not the folder one is in."""
    if not text.strip():
        raise typer.BadParameter("the path is empty")
    return Path(text)


Out = Annotated[
    Path | None, typer.Option("--out", "-o", parser=given_path, help="Folder to write; must not exist yet.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides, such as train.budget=5m.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a stopped run was saved.")]

"""`yuyan export`: a model in another engine's format, checked with that engine."""

from __future__ import annotations

from pathlib import Path

from yuyan.console import say, table, warn
from yuyan.errors import InputError
from yuyan.export import FORMATS, export_model
from yuyan.tasks.language_model import LanguageModel


def export_command(path: Path, to: str, out: Path | None, *, check: bool) -> None:
    """Write the folder and print what was measured. Raises InputError, NotTheSame, StorageError."""
    chosen = next((name for name in FORMATS if name == to), None)
    if chosen is None:
        raise InputError(f"--to: expected one of {', '.join(FORMATS)}; got {to!r}")
    model = LanguageModel.load(path)
    place = path.resolve()
    done = export_model(model, chosen, out or place.with_name(f"{place.name}-{to}"), name=place.name, check=check)
    if done.parity is None:
        warn("parity was not run; nobody has checked what was written")
    else:
        table(f"{to} against the original", ["", ""], done.parity.rows(), left=2)
    say(f"wrote {done.folder}")

"""`yuyan align`: what a model reads of its source at each token that it writes, as a picture and a table."""

from __future__ import annotations

from pathlib import Path

from yuyan.console import say, table
from yuyan.errors import InputError
from yuyan.evaluate.alignment import alignment_chart
from yuyan.store import write_text
from yuyan.tasks.language_model import LanguageModel


def align_command(path: Path, source: str, target: str | None, out: Path) -> None:
    """Write the picture, and print which token was read most for each. Raises InputError, StorageError."""
    if out.suffix.lower() != ".svg":
        raise InputError(f"--out {out}: the picture is an SVG; give a name that ends in .svg")
    if not source.strip():
        raise InputError("the source is empty; give the text to be read")
    found = LanguageModel.load(path).alignment(source, target)
    rows = [
        [written, found.source[int(read.argmax())], f"{float(read.max()):.0%}"]
        for written, read in zip(found.target, found.weights, strict=True)
    ]
    table("what was read most", ["written", "read", "share"], rows)
    write_text(out, str(alignment_chart(found.source, found.target, found.weights)))
    say(f"picture: {out}  (open it in a browser)")

"""Symbolic links in a model folder: one that leads out of it may make us read, or publish, another's file.

A hub's cache is the exception that is safe: it keeps the files of a model as `models--NAME/blobs/*`, and its snapshots
`models--NAME/snapshots/REVISION/` hold links to them. Such a link is followed, if after all steps it ends in the blobs of
the same model.
"""

from __future__ import annotations

from pathlib import Path

from yuyan.errors import DataError

READ = (".json", ".safetensors", ".bin", ".txt", ".jinja")


def refuse_link(path: Path) -> None:
    """Raise DataError if `path` is a link, unless it is one of a hub's cache to a file of the same model."""
    if path.is_symlink() and not _is_blob(path):
        raise DataError(
            f"{path}: is a symbolic link to a file outside the model's folder; copy the folder with its files (cp -rL) "
            "and use the copy"
        )


def refuse_links(folder: Path) -> None:
    """Raise DataError if a file of the folder, or of a folder in it, that a reader might open is such a link."""
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")]):
        if path.is_symlink() and (path.suffix in READ or path.is_dir()):
            refuse_link(path)


def _is_blob(link: Path) -> bool:
    """Whether a link in a snapshot of a hub's cache ends in the blobs of its own model."""
    try:
        place, target = link.parent.resolve(), link.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return False
    for model in place.parents:
        if model.name.startswith("models--") and place.is_relative_to(model / "snapshots"):
            return target.parent == model / "blobs" and target.is_file()
    return False

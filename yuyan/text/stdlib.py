"""The text that is always there: the documentation inside the running Python.

`pydoc_data.topics` (the language reference, chapter by chapter) and every docstring of the standard library, a document
each, in a fixed order. The files are parsed with `ast` and never imported, so no code runs. About 2 MB of English; it
differs a little between Python versions, not between runs.
"""

from __future__ import annotations

import ast
import inspect
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from yuyan.errors import DataError
from yuyan.text.document import Document

_PASSED_OVER = {
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "turtledemo",
    "ensurepip",
}
_SHORTEST = 40
"""Docstrings of fewer characters than this say what the name says."""


def stdlib_documents(root: Path | None = None) -> Iterator[Document]:
    """The documentation of the standard library in `root` (by default that of this Python).

    Raises DataError if there is none: some installations hold byte code only.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    found = False
    for document in _topics(root):
        found = True
        yield document
    for file in _files(root):
        for document in _docstrings(root, file):
            found = True
            yield document
    if not found:
        raise DataError(f"{root}: no documentation in this Python's library; give a file or folder of your own text")


def _topics(root: Path) -> Iterator[Document]:
    tree = _parsed(root / "pydoc_data" / "topics.py")
    for node in tree.body if tree is not None else ():
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if not isinstance(value, ast.Dict):
            continue
        try:
            topics = ast.literal_eval(value)
        except ValueError:
            continue
        for name in _whole(topics):
            yield Document(f"topics/{name}", topics[name].strip("\n") + "\n", {"source": "pydoc_data/topics.py"})


def _whole(topics: dict[str, str]) -> list[str]:
    """The topics that are no part of another one; many chapters hold their sections, which are topics too."""
    folded = {name: " ".join(text.split()) for name, text in topics.items()}
    return [
        name
        for name in sorted(topics)
        if not any(
            folded[name] in other and (len(other) > len(folded[name]) or longer < name)
            for longer, other in folded.items()
            if longer != name
        )
    ]


def _files(root: Path) -> Iterator[Path]:
    for folder, names, leaves in os.walk(root):
        names[:] = sorted(name for name in names if name not in _PASSED_OVER and not name.startswith((".", "config-")))
        yield from (Path(folder) / leaf for leaf in sorted(leaves) if leaf.endswith(".py"))


def _docstrings(root: Path, file: Path) -> Iterator[Document]:
    if file.parent.name == "pydoc_data":
        return
    tree = _parsed(file)
    name = file.relative_to(root).as_posix()
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    seen: set[str] = set()
    for path, node in _definitions(tree) if tree is not None else ():
        text = ast.get_docstring(node, clean=False)
        if text is None:
            continue
        text = inspect.cleandoc(text)
        ident = ".".join((module, *path))
        if len(text) >= _SHORTEST and ident not in seen:
            seen.add(ident)
            yield Document(ident, text + "\n", {"source": name})


_Defined = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(node: _Defined, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], _Defined]]:
    """The module, its classes and functions, and theirs, in the order in which they are written."""
    yield path, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _definitions(child, (*path, child.name))


def _parsed(file: Path) -> ast.Module | None:
    """The file's syntax tree; None if it cannot be read or is not of this Python (the library holds such files)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError):
        return None

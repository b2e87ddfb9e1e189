"""Imports point down: a package may import only from the layers below its own; and benches import what exists."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "yuyan"
LAYERS = [
    "errors",
    "config store console compile",
    "text tokens nn metrics kernels",
    "corpus models vectors",
    "objectives generate hub",
    "tasks train",
    "evaluate explain privacy export",
    "serve",
    "commands api cli __init__ __main__",
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
TOP = len(LAYERS) - 1


def imports_of(root: Path) -> Iterator[tuple[str, int, str, str]]:
    for file in sorted(root.rglob("*.py")):
        here = file.relative_to(root).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module + "." + alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = ["yuyan.relative"]
            for name in names:
                if name.split(".")[0] == "yuyan" and len(name.split(".")) > 1:
                    yield str(file.relative_to(root)), node.lineno, here, name.split(".")[1]


def wrong_imports(root: Path) -> list[str]:
    return [
        f"{file}:{line} {here} -> {there}"
        for file, line, here, there in imports_of(root)
        if there != here and LEVEL[here] != TOP and LEVEL.get(there, TOP + 1) >= LEVEL[here]
    ]


def test_every_package_has_a_layer() -> None:
    names = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert names <= set(LEVEL), names - set(LEVEL)


def test_imports_point_down() -> None:
    assert not wrong_imports(ROOT)


def test_an_import_that_points_up_is_found(tmp_path: Path) -> None:
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "a.py").write_text("from yuyan.train import loop\n")
    assert wrong_imports(tmp_path) == ["nn/a.py:1 nn -> train"]


def missing_names(folder: Path) -> list[str]:
    """What scripts take from the package by name and is not there."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "yuyan":
                module = importlib.import_module(str(node.module))
                known = {
                    *vars(module),
                    *(m.name for m in pkgutil.iter_modules(getattr(module, "__path__", None) or ["-"])),
                }
                found += [f"{file.name}: {node.module}.{a.name}" for a in node.names if a.name not in known]
    return found


def test_benches_take_what_the_package_has() -> None:
    assert not missing_names(ROOT.parent / "bench")


def test_a_name_that_is_gone_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from yuyan.corpus import Batches, Streams, pack\n")
    assert missing_names(tmp_path) == ["a.py: yuyan.corpus.Streams"]


def test_no_module_is_called_utils() -> None:
    names = {p.stem for p in ROOT.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}

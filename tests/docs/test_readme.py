"""What README names is there: commands, configs; and every benchmark is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yuyan.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    verbs |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"^yuyan (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named and named <= verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_exist(page: Path) -> None:
    named = set(re.findall(r"configs/[\w/]+\.yaml", page.read_text(encoding="utf-8")))
    assert named and all((ROOT / name).is_file() for name in named)


def test_every_benchmark_is_listed() -> None:
    listed = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    scripts = {file.name for file in (ROOT / "bench").glob("*.py") if "__main__" in file.read_text(encoding="utf-8")}
    assert {name for name in scripts if f"bench/{name}" not in listed} == set()

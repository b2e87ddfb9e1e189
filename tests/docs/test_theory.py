"""The tables of docs/theory.md and docs/theory.zh.md are true: every file, name and test in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\|(?P<formula>.+)\| `(?P<file>[\w/]+\.py):(?P<name>\w+)` \| `(?P<test>[\w/]+\.py)::(?P<case>\w+)` \|"
)


def rows(page: str) -> list[tuple[str, str, str, str]]:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    found = [match for line in lines if (match := ROW.match(line))]
    assert len(found) == sum(line.startswith("|") and ".py::" in line for line in lines), "a row has another form"
    return [(m["file"], m["name"], m["test"], m["case"]) for m in found]


@pytest.mark.parametrize(("file", "name", "test", "case"), rows("theory.md"))
def test_code_and_test_exist(file: str, name: str, test: str, case: str) -> None:
    code = (ROOT / "yuyan" / file).read_text(encoding="utf-8")
    assert re.search(rf"^(class|def) {name}\b|^{name}\b", code, re.MULTILINE), f"{file} has no {name}"
    assert f"def {case}(" in (ROOT / "tests" / test).read_text(encoding="utf-8"), f"{test} has no {case}"


def test_both_languages_say_the_same() -> None:
    assert rows("theory.md") == rows("theory.zh.md")


def test_every_objective_is_in_the_table() -> None:
    parts = {"__init__", "base", "fit", "words", "prefix_lm"}  # prefix_lm is next_token with fewer labels
    objectives = {file.stem for file in (ROOT / "yuyan" / "objectives").glob("*.py")} - parts
    named = {Path(file).stem for file, *_ in rows("theory.md") if file.startswith("objectives/")}
    assert objectives == named

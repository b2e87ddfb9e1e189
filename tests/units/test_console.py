"""What a user sees is what was said: brackets are text, not markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuyan.commands.config import show_command
from yuyan.console import say, table


def test_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table("a [b]", ["path", "[red]"], [["[/home/x]", "[bold]1[/bold]"]])
    say("[/home/y]")
    shown = capsys.readouterr().err
    for text in ("a [b]", "[red]", "[/home/x]", "[bold]1[/bold]", "[/home/y]"):
        assert text in shown


def test_every_value_says_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(
        "data:\n  sources: [a.txt]\nmodel: {kind: gpt}\ntrain: {steps: 3}\n", encoding="utf-8"
    )
    show_command(tmp_path / "c.yaml", ["train.clip=2.0"], why=True)
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().err.splitlines() if "│" in line}
    assert "a.txt" in lines["data.sources"] and "c.yaml:2" in lines["data.sources"]
    assert "default" in lines["data.encoding"] and "default" in lines["model.hidden_size"]
    assert "command line" in lines["train.clip"] and "2.0" in lines["train.clip"]

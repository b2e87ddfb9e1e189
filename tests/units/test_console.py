"""What a user sees is what was said: brackets are text, not markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuyan.commands.config import show_command
from yuyan.console import progress, say, table


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


def test_the_time_left_counts_only_what_this_session_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(second) for second in range(0, 1000, 10))
    monkeypatch.setattr("yuyan.console.time.monotonic", lambda: next(clock))
    with progress("a run that goes on", 1.0) as bar:
        for done in (0.5, 0.6):  # 10 s and 20 s after the beginning
            bar.set(done)
    assert "60 % after 20 s, 80 s left" in capsys.readouterr().err

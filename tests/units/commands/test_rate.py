"""The learning-rate range: what is suggested from a curve, and that the command leaves nothing but its page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from toy_runs import CONFIG, SETTINGS, command, refused, tree

from yuyan.commands.rate import Rising, smooth, suggest
from yuyan.evaluate.terminal import curve


def test_rates_rise_by_the_same_factor() -> None:
    schedule = Rising(0.01, 100.0)
    assert [schedule.factor(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.01, 0.1, 1.0, 100.0])


def test_the_lowest_of_the_rates_that_do_is_suggested() -> None:
    """A loss that falls from 4 to 2, stays from 1e-3 to 1e-1, and is lost: with noise, a rate near 1e-3."""
    rates = np.logspace(-6, 0, 240)
    loss = np.interp(np.log10(rates), [-6, -5, -3, -1, 0], [4, 4, 2, 2, 6])
    noisy = loss + 0.1 * np.random.default_rng(0).standard_normal(len(rates))
    assert 5e-4 < suggest(rates.tolist(), smooth(noisy.tolist())) < 3e-3


def test_smoothing_lags_behind_nothing() -> None:
    line = np.linspace(3, 1, 100).tolist()
    assert smooth(line)[20:80] == pytest.approx(line[20:80])
    assert smooth([2.0] * 30) == pytest.approx([2.0] * 30)


def test_a_curve_of_characters() -> None:
    lines = curve([0.0, 1.0, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0], width=4, height=4)
    assert lines == ["       4 ┤•", "         ┤ •", "         ┤  •", "       1 ┤   •", "         └────"]
    assert len(curve([1.0], [2.0])) == 11, "one point, nothing to divide by"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    assert command("lr", str(CONFIG), *SETTINGS, "--steps", "60", "--out", "rate.html") == 0
    kept = [name for name in tree(tmp_path) if "inductor" not in name]  # PyTorch's own folder
    assert kept == ["rate.html", "temporary"], "only the page stays"
    said = capsys.readouterr().err
    rate = float(said.rpartition("train.optimizer.lr=")[2])
    assert 5e-3 / 300 <= rate <= 5e-3 * 300 and math.isfinite(rate)
    assert "<svg" in (tmp_path / "rate.html").read_text()
    refused(capsys, "lr", str(CONFIG), *SETTINGS, "--low", "1", "--high", "0.1", said="--low 1 is not below --high 0.1")

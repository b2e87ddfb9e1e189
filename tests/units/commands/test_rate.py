"""The learning-rate range: what is suggested from a curve, and that the command leaves nothing but its page."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from toy_runs import CONFIG, SETTINGS, STORIES, command, refused, tree

from yuyan.commands.rate import Rising, settings_of, smooth, suggest
from yuyan.evaluate.terminal import curve
from yuyan.train import AdamW, Muon


def test_rates_rise_by_the_same_factor() -> None:
    schedule = Rising(0.01, 100.0)
    assert [schedule.factor(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.01, 0.1, 1.0, 100.0])


def test_the_lowest_of_the_rates_that_do_is_suggested() -> None:
    """A loss that falls from 4 to 2, stays from 1e-3 to 1e-1, and is lost: with noise, a rate near 1e-3."""
    rates = np.logspace(-6, 0, 240)
    loss = np.interp(np.log10(rates), [-6, -5, -3, -1, 0], [4, 4, 2, 2, 6])
    noisy = loss + 0.1 * np.random.default_rng(0).standard_normal(len(rates))
    assert 5e-4 < suggest(rates.tolist(), smooth(noisy.tolist())) < 3e-3


def test_a_loss_that_answers_some_steps_later() -> None:
    """In a search of few steps the rates rise past the good one before the loss has fallen: what made it fall is suggested."""
    rates = np.logspace(-5, 0, 50)
    owed = np.interp(np.log10(rates), [-5, -3, -2, 0], [4, 4, 2, 2])
    late = np.concatenate([np.full(8, 4.0), owed[:-8]])
    assert 5e-3 < suggest(rates.tolist(), late.tolist()) < 2e-2


def test_a_second_fall_at_rates_too_high() -> None:
    """More text was read by then, so the loss falls a little more: no reason to take these rates."""
    rates = np.logspace(-5, 0, 200)
    loss = np.interp(np.log10(rates), [-5, -4, -2.2, -1.5, -0.8, -0.3, 0], [7.6, 7.6, 6.1, 6.1, 5.8, 5.8, 6.3])
    assert 2e-3 < suggest(rates.tolist(), smooth(loss.tolist())) < 1e-2


def test_all_rates_that_were_tried_are_written_down() -> None:
    assert settings_of(AdamW(lr=2e-3), 1e-2) == {"kind": "adamw", "lr": 1e-2}
    muon = Muon(lr=4e-3, rest=AdamW(lr=2e-3))
    assert settings_of(muon, 1e-2) == {"kind": "muon", "lr": 1e-2, "rest": {"lr": 5e-3}}


def test_what_was_chosen_beside_the_rate_is_written_down_too() -> None:
    """The next command names the optimizer, which then has its defaults where nothing else is said."""
    chosen = Muon(lr=4e-3, weight_decay=0.3, rest=AdamW(lr=2e-3, weight_decay=0.3, beta2=0.98))
    found = settings_of(chosen, 1e-2)
    assert found == {
        "kind": "muon",
        "lr": 1e-2,
        "weight_decay": 0.3,
        "rest": {"lr": 5e-3, "weight_decay": 0.3, "beta2": 0.98},
    }
    assert Muon.model_validate(found) == chosen.model_copy(
        update={"lr": 1e-2, "rest": chosen.rest.model_copy(update={"lr": 5e-3})}
    )


def test_adafactor_is_tried_with_rates_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never more than one over the root of the step: a curve over larger ones would be of others than it says."""
    monkeypatch.chdir(tmp_path)
    given = ("lr", str(CONFIG), *SETTINGS, "train.optimizer={kind: adafactor}", "--steps", "40")
    assert command(*given) == 0
    highest = float(re.search(r"loss over learning rate, \S+ to (\S+):", capsys.readouterr().err)[1])  # type: ignore[index]
    assert 0.1 < highest <= 40**-0.5
    refused(capsys, *given, "--high", "0.5", said="--high 0.5: adafactor takes no rate above 0.16 at step 40")


def test_a_text_whose_network_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is suggested is about the optimizer that was tried, and the next command works."""
    monkeypatch.chdir(tmp_path)
    small = ("train.steps=20", "train.batch_tokens=512", "train.threads=1")
    assert command("lr", str(STORIES), *small, "--steps", "40") == 0
    said = capsys.readouterr().err
    assert "optimizer: {kind: muon, lr: " in said and "(the config says 0.011)" in said
    words = shlex.split(said.rpartition("now try:")[2])
    assert words[:2] == ["yuyan", "train"] and "train.optimizer.kind=muon" in words
    assert command(*words[1:], "train.steps=1", "--out", "run") == 0


def test_rates_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--low", "-1"), ("--low", "0"), ("--high", "nan"), ("--high", "inf")):
        refused(capsys, "lr", str(CONFIG), option, value, said=f"{option} {value}: a learning rate is a number above 0")


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

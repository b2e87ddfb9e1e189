"""Schedules against their formulas, and the shape users count on."""

from __future__ import annotations

import math

import pytest

from yuyan.train.schedule import Constant, Cosine, Linear, WarmupStableDecay


def test_warm_up_rises_in_a_straight_line() -> None:
    for schedule in (
        Constant(warmup=0.2),
        Cosine(warmup=0.2),
        Linear(warmup=0.2),
        WarmupStableDecay(warmup=0.2, decay=0.3),
    ):
        assert schedule.factor(0.05) == pytest.approx(0.25)
        assert schedule.factor(0.2) == pytest.approx(1.0)


def test_cosine_is_the_published_formula() -> None:
    schedule = Cosine(warmup=0.1, floor=0.1)
    for progress in (0.1, 0.3, 0.77, 1.0):
        along = (progress - 0.1) / 0.9
        assert schedule.factor(progress) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * along)) / 2)
    assert schedule.factor(1.0) == pytest.approx(0.1)


def test_wsd_is_level_then_falls_to_its_floor() -> None:
    schedule = WarmupStableDecay(warmup=0.1, decay=0.4, floor=0.0)
    assert schedule.factor(0.5) == schedule.factor(0.6) == 1.0
    assert schedule.factor(0.8) == pytest.approx(0.5)
    assert schedule.factor(1.0) == 0.0


def test_linear_falls_all_the_way() -> None:
    schedule = Linear(warmup=0.2, floor=0.1)
    assert schedule.factor(0.2) == 1.0
    assert schedule.factor(0.6) == pytest.approx(0.55)
    assert schedule.factor(1.0) == pytest.approx(0.1)


def test_wsd_falls_fast_at_first_with_one_minus_the_root() -> None:
    schedule = WarmupStableDecay(warmup=0.1, decay=0.4, shape="1-sqrt", floor=0.2)
    assert schedule.factor(0.6) == 1.0
    for along in (0.25, 0.81, 1.0):
        assert schedule.factor(0.6 + 0.4 * along) == pytest.approx(0.2 + 0.8 * (1 - math.sqrt(along)))


def test_no_warm_up_and_no_decay() -> None:
    assert Constant(warmup=0).factor(0.0) == 1.0
    assert WarmupStableDecay(warmup=0, decay=0).factor(1.0) == 1.0

"""What the journeys start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_runs import TRAIN, command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run, to be copied before it is damaged."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert command(*TRAIN, "--out", str(out)) == 0
    return out

"""Every planted error still finds its line, so that the list does not go stale."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planted_errors import ERRORS, ROOT, Planted, plant


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.name)
def test_it_can_be_planted(error: Planted, tmp_path: Path) -> None:
    (tmp_path / error.file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "yuyan" / error.file, tmp_path / error.file)
    plant(error, tmp_path)
    assert (tmp_path / error.file).read_text(encoding="utf-8") != (ROOT / "yuyan" / error.file).read_text(
        encoding="utf-8"
    )
    assert any((ROOT / "tests" / name).exists() for name in error.tests)

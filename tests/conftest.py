"""One thread, no network, the same seeds: what every test starts from."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is imported by now stays: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()


DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is an error: the sixth promise."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or (isinstance(address, tuple) and str(address[0]).startswith("127.")):
            connect(self, address)
            return
        raise AssertionError(f"a test tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """That files are synced, and in which order, is tried in `units/test_power_loss.py`; elsewhere it would only be waited
    for. Other processes that a test starts do sync."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Every test begins with the same random state."""
    torch.manual_seed(0)
    yield


@pytest.fixture
def real_data() -> Path:
    """The folder of public data sets, or a skip that says how to get it."""
    if not DATA.is_dir():
        pytest.skip(f"no data sets at {DATA}: set YUYAN_DATA to their folder")
    return DATA

"""Memory: what the system says, what a run would need, and the line that comes instead of a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from yuyan.commands.fitting import check_size, most_rows
from yuyan.commands.settings import TrainConfig
from yuyan.errors import ConfigError
from yuyan.models.network import NetworkModule
from yuyan.models.pair import Pair
from yuyan.models.presets import Gpt
from yuyan.train.room import free_memory, human_size, used_memory
from yuyan.train.world import World


def system(folder: Path, available: int) -> Path:
    file = folder / "meminfo"
    file.write_text(f"MemTotal: 99999 kB\nMemAvailable: {available} kB\n")
    return file


def test_the_smaller_of_system_and_group(tmp_path: Path) -> None:
    meminfo = system(tmp_path, 1000)
    assert free_memory(meminfo, tmp_path / "none") == 1_024_000
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert free_memory(meminfo, tmp_path) == 250_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(meminfo, tmp_path) == 1_024_000


def test_the_older_groups(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("500000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("300000\n")
    (tmp_path / "memory" / "memory.stat").write_text("total_inactive_file 50000\n")
    assert free_memory(system(tmp_path, 1000), tmp_path) == 250_000


def test_where_nobody_knows(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none", tmp_path / "none") is None
    assert used_memory(tmp_path / "none") is None


def test_this_process_uses_memory() -> None:
    assert (used_memory() or 0) > 1_000_000
    assert human_size(2.5e9) == "2.5 GB"


@pytest.fixture
def network() -> NetworkModule:
    return Gpt(hidden_size=64, num_layers=2, num_heads=2).build(512, seed=0)


def settings(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate({"steps": 1, "context": 64, "batch_tokens": 4096, **changes})


def test_enough_memory(network: NetworkModule) -> None:
    assert most_rows(network, settings(), torch.float32, 10**9) == 64


def test_fewer_rows_would_fit(network: NetworkModule) -> None:
    with pytest.raises(ConfigError, match=r"train\.micro_tokens=512 fits"):
        most_rows(network, settings(), torch.float32, 18_000_000)


def test_auto_takes_what_fits(network: NetworkModule) -> None:
    assert most_rows(network, settings(micro_tokens="auto"), torch.float32, 18_000_000) == 8


def test_checkpointing_needs_less(network: NetworkModule) -> None:
    auto = settings(micro_tokens="auto", activation_checkpointing=True)
    assert most_rows(network, auto, torch.float32, 26_000_000) == 16
    assert most_rows(network, settings(micro_tokens="auto"), torch.float32, 26_000_000) == 8


def test_not_even_one_row(network: NetworkModule) -> None:
    with pytest.raises(ConfigError, match=r"activation_checkpointing=true, a smaller train\.context"):
        most_rows(network, settings(), torch.float32, 1)


def test_processes_share_a_machine(network: NetworkModule) -> None:
    world = World()
    world.size = world.local_size = 2
    with pytest.raises(ConfigError, match=r"train\.micro_tokens=512 fits"):
        most_rows(network, settings(), torch.float32, 18_000_000 * 2 - 10, world)
    assert most_rows(network, settings(), torch.float32, 2 * 10**9, world) == 32, "each has its part of the batch"


def test_a_network_that_cannot_be_built_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would kill the process without a word."""
    huge = Gpt(hidden_size=16384, num_layers=96, num_heads=128).network(512)
    with pytest.raises(ConfigError, match=r"^memory: about 2\d\d\d\.\d GB needed for \d+,\d+,\d+,\d+ parameters"):
        check_size(huge, World())
    small = Gpt(hidden_size=64, num_layers=2, num_heads=2).network(512)
    check_size(small, World())
    monkeypatch.setattr("yuyan.commands.fitting.free_memory", lambda: 1_000_000)
    with pytest.raises(ConfigError, match="memory: about 1 MB needed"):
        check_size(small, World())


def test_what_fits_where_there_is_least(network: NetworkModule) -> None:
    """With parts of the weights everywhere, all processes take as many passes."""
    world = World()
    world.gather = lambda tensor: [tensor, tensor // 2]  # type: ignore[method-assign]
    assert most_rows(network, settings(micro_tokens="auto"), torch.float32, 18_000_000, world) == 4


def test_a_pair_needs_both(network: NetworkModule) -> None:
    """A frozen companion its weights, one that is trained all that a network needs; a row of two texts twice the room."""

    def fits(model: nn.Module, free: int, **more: int) -> int:
        return most_rows(model, settings(micro_tokens="auto"), torch.float32, free, **more) or 0

    other = Gpt(hidden_size=64, num_layers=2, num_heads=2).build(512, seed=1)
    free = 26_000_000
    assert fits(network, free) == fits(Pair(network, other, frozen=True), free)  # its weights are there already
    trained = fits(Pair(network, Gpt(hidden_size=64, num_layers=2, num_heads=2).build(512, seed=1), frozen=False), free)
    assert 0 < trained <= fits(network, free) // 2
    assert fits(network, free, texts=2) == fits(network, free) // 2


@pytest.mark.skipif(sys.platform != "linux", reason="another C library")
def test_pages_that_hold_nothing_are_given_back() -> None:
    """In a process of its own: pieces between which something small stays are freed, and the system gets their pages."""
    code = """if True:
        import torch
        from yuyan.train.allocator import give_back_pages, keep_freed_memory
        from yuyan.train.room import used_memory
        assert keep_freed_memory()
        kept = [(torch.ones(1 << 20), bytearray(600)) for _ in range(100)]
        full = used_memory()
        kept = [small for _, small in kept]
        before = used_memory()
        give_back_pages()
        print(full, before, used_memory())
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    full, before, after = map(int, found.stdout.split())
    assert before > full - (100 << 20), "kept, as it should be"
    assert after < full - (300 << 20)

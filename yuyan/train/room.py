"""How much memory there is: what the system has left, within what this process's control group may use; or a GPU's own."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from yuyan.train.device import CPU

GROUP = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and what of the use is only files kept in memory: of version 2 and of version 1."""


def free_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = GROUP, device: torch.device = CPU) -> int | None:
    """Bytes that can still be asked for; None where the system does not say."""
    if device != CPU:
        return int(torch.get_device_module(device).mem_get_info(device)[0])
    found = [value for value in (_of_system(meminfo), _of_group(group)) if value is not None]
    return min(found) if found else None


def used_memory(statm: Path = Path("/proc/self/statm"), device: torch.device = CPU) -> int | None:
    """Bytes of this process that are in the memory of the device; None where the system does not say."""
    if device != CPU:
        return int(torch.get_device_module(device).memory_reserved(device))
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def human_size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _of_system(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_group(group: Path) -> int | None:
    for limit, use, files in _FILES:
        try:
            statistics = (group / limit).with_name("memory.stat").read_text().split()
            kept = int(statistics[statistics.index(files) + 1]) if files in statistics else 0
            return max(0, int((group / limit).read_text()) - int((group / use).read_text()) + kept)
        except (OSError, ValueError):  # no such file, or the limit is "max"
            continue
    return None

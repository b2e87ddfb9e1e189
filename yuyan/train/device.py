"""What computes: the processor, or a graphics processor (a GPU) that PyTorch reaches by CUDA.

A batch is made by the processor and goes to where the weights are; what is saved comes back. Nothing else of a run knows
where it is computed.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

from yuyan.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
CPU = torch.device("cpu")


def choose_device(wanted: Device) -> torch.device:
    """The device of this process: of several on a machine each has a GPU of its own. Raises ConfigError without one."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise ConfigError(
            "train.device: cuda, but PyTorch finds no GPU here; leave it out, or install PyTorch for CUDA"
        )
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"train.device: {local + 1} processes on this machine, which has {count} GPUs; start one for each"
        )
    return torch.device("cuda", local)


def name_of(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def wait_for(device: torch.device) -> None:
    """Until what was asked of it is done: a GPU works on while the processor goes ahead."""
    if device != CPU:
        torch.get_device_module(device).synchronize()


def random_kept(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn within has no effect on what is drawn afterwards."""
    devices = [] if device == CPU else [device]
    return torch.random.fork_rng(devices, device_type="cuda" if device == CPU else device.type)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """By the kind of device: the processor's, and that of the GPU if there is one."""
    states = {"cpu": torch.get_rng_state()}
    if device != CPU:
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states


def take_random_state(device: torch.device, kind: str, state: Tensor) -> None:
    """One of those of `random_states`, on a device that has it."""
    if kind == "cpu":
        torch.set_rng_state(state)
    elif kind == device.type:
        torch.get_device_module(device).set_rng_state(state, device)

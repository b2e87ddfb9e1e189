"""How the work of one step is spread over processes: the same weights in each, or a part of them in each.

What shards is imported where it is needed: a process by itself starts faster without it.

Both give the sums that one process would have: the gradient of the sum of all losses, never a mean of means, which the
step divides once by what was scored in all processes. A parameter that no process used has no gradient afterwards either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.nn.stack import StackModule
from yuyan.train.learner import Learner
from yuyan.train.parts import whole
from yuyan.train.precision import MasterWeights
from yuyan.train.world import World, parts

T = TypeVar("T")
BUCKET = 1 << 23  # float32 numbers that are sent at once
STATE_BYTES = 20  # of a parameter: bfloat16 weight and gradient, float32 master, gradient and two moments


class _Spread(Config):
    timeout: float = Field(300.0, gt=0)
    """Seconds to wait for another process before it counts as lost."""


class Ddp(_Spread):
    """Every process holds all weights and reads its part of the batch; gradients are summed (Li et al. 2020)."""

    kind: Literal["ddp"] = "ddp"

    def place(self, learner: Learner, dtype: torch.dtype, world: World) -> MasterWeights:
        """The weights to step, for a learner that stays as it is."""
        return MasterWeights(learner, dtype) if world.size == 1 else ReplicatedWeights(learner, dtype, world)


class Fsdp(_Spread):
    """Every process holds a part of each weight, and has the others sent while it needs them (Zhao et al. 2023)."""

    kind: Literal["fsdp"] = "fsdp"

    def place(self, learner: Learner, dtype: torch.dtype, world: World) -> MasterWeights:
        """The weights to step; `learner` is sharded in place."""
        return MasterWeights(learner, dtype) if world.size == 1 else ShardedWeights(learner, dtype, world)


class Auto(_Spread):
    """`ddp`, or `fsdp` where all weights and their optimizer would take more than half of a process's memory."""

    kind: Literal["auto"] = "auto"

    def place(self, learner: Learner, dtype: torch.dtype, world: World) -> MasterWeights:
        """As one of the two would."""
        needed = STATE_BYTES * sum(p.numel() for p in learner.parameters())
        large = bool(world.first([needed > 0.5 * _memory(learner) / world.local_size])[0])
        chosen = Fsdp if large and world.size > 1 else Ddp
        return chosen(timeout=self.timeout).place(learner, dtype, world)


Parallel = Annotated[Auto | Ddp | Fsdp, Field(discriminator="kind")]


class ReplicatedWeights(MasterWeights):
    """All weights in every process."""

    def __init__(self, learner: Learner, dtype: torch.dtype, world: World):
        super().__init__(learner, dtype)
        self.world = world

    def sum_gradients(self) -> None:
        """In float32, a few megabytes at a time, the next on its way while one is unpacked."""
        used = torch.tensor([p.grad is not None for p in self.masters.values()], dtype=torch.float32)
        somewhere = self.world.add(used).tolist()
        masters = [p for p, n in zip(self.masters.values(), somewhere, strict=True) if n]
        for master in masters:
            master.grad = torch.zeros_like(master) if master.grad is None else master.grad.to(master.dtype)
        if not masters:
            return
        flat = torch.cat([cast(Tensor, master.grad).flatten() for master in masters])
        under_way = [dist.all_reduce(flat[part], async_op=True) for part in parts(flat.numel(), BUCKET)]
        for work in under_way:
            work.wait()
        start = 0
        for master in masters:
            grad = cast(Tensor, master.grad)
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()


class ShardedWeights(MasterWeights):
    """A part of every weight in each process: `masters` are float32 DTensors. The gradients are summed as they are made.

    What is computed in bfloat16 is a copy that lives as long as a block needs it.
    """

    sharded = True

    def __init__(self, learner: Learner, dtype: torch.dtype, world: World):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(next(learner.parameters()).device.type, (world.size,))  # where the weights are
        policy = MixedPrecisionPolicy(
            param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        blocks = [b for m in learner.modules() if isinstance(m, StackModule) for b in m.layers]
        for module in (*blocks, learner):  # what no block holds is the learner's: there for all of its forward
            fully_shard(module, mesh=mesh, mp_policy=policy)
            sharded = cast(FSDPModule, module)
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(learner, "inside")
        super().__init__(learner, torch.float32)
        self.world, self.learner = world, learner
        self._sharded = [module for module in learner.modules() if isinstance(module, FSDPModule)]

    def whole(self, tensor: Tensor) -> Tensor:
        """Sent together from all processes; all have to ask."""
        return whole(tensor)

    def inside(self, work: Callable[[], T]) -> T:
        """All processes have to do the same work, since each layer is put together when it is reached.

        What was put together is let go of afterwards: no backward pass will, and the weights may be others by then.
        """
        try:
            return self.learner.inside(work)
        finally:
            for module in self._sharded:
                module.reshard()


def _memory(learner: Learner) -> float:
    """Bytes of the device that the weights are on."""
    device = next(learner.parameters()).device
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")), float("inf"))

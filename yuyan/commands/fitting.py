"""What of the machine a run takes: the rows that fit into its memory, the threads and the micro-batch that are fastest."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from yuyan.commands.made import note, noted
from yuyan.commands.settings import TrainConfig
from yuyan.console import say, warn
from yuyan.corpus import Batches
from yuyan.errors import ConfigError
from yuyan.models.cost import parameter_count
from yuyan.models.memory import TrainingMemory, training_memory
from yuyan.models.network import Network, NetworkModule
from yuyan.models.pair import Pair
from yuyan.train import Learner, parameter_kinds
from yuyan.train.compile import compile_blocks, try_compiled
from yuyan.train.device import CPU
from yuyan.train.micro import fastest_rows, sizes
from yuyan.train.recompute import blocks_of
from yuyan.train.room import free_memory, human_size
from yuyan.train.threads import fair_threads, fastest_threads
from yuyan.train.world import World

LEAST_BYTES = 8
"""Of a parameter that is trained: it and its gradient in float32."""


def most_rows(
    model: nn.Module,
    settings: TrainConfig,
    dtype: torch.dtype,
    free: int | None = None,
    world: World | None = None,
    texts: int = 1,
) -> int | None:
    """How many rows of one forward pass fit into memory, with the built `model` already in it; None if nobody knows.

    A row has so many `texts`. The processes of `world` on this machine share what is free equally, each with a whole network of its own;
    all are told what fits where there is least.
    Raises ConfigError, naming the keys to change, if not one does, or fewer than the config asks for.
    """
    world = world or World()
    free = free_memory(device=world.device) if free is None else free
    if free is None:
        return None
    if world.device == CPU:  # which they share
        free //= world.local_size
    here = sum(p.numel() * p.element_size() for p in model.parameters())
    wanted = max(1, min(settings.micro_rows, settings.batch_rows // world.size))
    needed = _needed(model, settings, dtype, wanted * texts)
    fixed, room = needed.total - needed.activations, free + here
    fits = wanted
    while fits and fixed + _needed(model, settings, dtype, fits * texts).activations > room:
        fits //= 2
    line = f"memory: about {human_size(needed.total)} needed, {human_size(needed.activations)} of it for a forward pass of {wanted} row{'s' * (wanted > 1)}; {human_size(room)} free"
    if not fits:
        more = (
            "" if settings.activation_checkpointing or not blocks_of(model) else "train.activation_checkpointing=true, "
        )
        raise ConfigError(f"{line}. Try {more}a smaller train.context, or a smaller model")
    if fits < wanted and settings.micro_tokens != "auto":
        raise ConfigError(f"{line}. train.micro_tokens={fits * settings.context} fits")
    say(line)
    return min(int(each) for each in world.gather(torch.tensor(fits)))


def check_size(network: Network, world: World) -> None:
    """Raises ConfigError for a network whose weights and gradients alone do not fit: before it is built."""
    free, count = free_memory(), parameter_count(network)
    if free is not None and (needed := LEAST_BYTES * count) > free // world.local_size:
        raise ConfigError(
            f"memory: about {human_size(needed)} needed for {count:,} parameters and their gradients; "
            f"{human_size(free // world.local_size)} free. Give a smaller model"
        )


def _needed(model: nn.Module, settings: TrainConfig, dtype: torch.dtype, rows: int) -> TrainingMemory:
    """Of a pair, both: a companion that is trained as what it is trained with, of one that is frozen its weights, and what
    one of its layers holds at a time, which is left out."""
    if not isinstance(model, Pair):
        assert isinstance(model, NetworkModule)
        return _of_network(model, settings, dtype, rows)
    alone = _of_network(model.model, settings, dtype, rows)
    if model.frozen:
        frozen = sum(p.numel() for p in model.companion.parameters()) * dtype.itemsize
        return alone._replace(weights=alone.weights + frozen)
    other = _of_network(model.companion, settings, dtype, rows)
    return TrainingMemory(*(a + b for a, b in zip(alone, other, strict=True)))


def _of_network(network: NetworkModule, settings: TrainConfig, dtype: torch.dtype, rows: int) -> TrainingMemory:
    masters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return training_memory(
        network.config, sum(p.numel() for p in network.parameters()), sum(p.numel() for p in masters.values()),
        rows=rows, context=settings.context, number_bytes=dtype.itemsize,
        kept=settings.optimizer.kept(masters, parameter_kinds(network)), recompute=settings.activation_checkpointing,
    )  # fmt: skip


def choose_threads(settings: TrainConfig, folder: Path, learner: Learner, batches: Batches, world: World) -> None:
    """As the config says, else what is fastest here; written down so that a resumed run computes the same way."""
    chosen = settings.threads or noted(folder).get("threads", {}).get("chosen")
    if world.size > 1:
        chosen = settings.threads or fair_threads(world)
    if chosen is None and world.device != CPU:
        chosen = fair_threads(world)
    if chosen is not None:
        torch.set_num_threads(int(chosen))
        return
    threads, medians = fastest_threads(learner, batches.update(0))
    torch.set_num_threads(threads)
    note(folder, threads={"chosen": threads, "seconds_a_step": {str(n): round(s, 5) for n, s in medians.items()}})


def choose_micro_rows(
    settings: TrainConfig, folder: Path, learner: Learner, batches: Batches, world: World, most: int | None
) -> None:
    """For `auto`: as many rows as are fastest, of those that fit; written down, as threads are. Several processes, and an
    objective that compares the rows of a forward pass, take what fits.

    Raises ConfigError where there is nothing to compare.
    """
    share, compares = batches.batch_rows // world.size, not learner.objective.independent
    if settings.micro_tokens == "auto":
        rows = noted(folder).get("micro_rows", {}).get("chosen")
        if rows is None and world.size == 1 and not compares:
            rows, seconds = fastest_rows(learner, batches.sample, sizes(share, most))
            note(
                folder, micro_rows={"chosen": rows, "seconds_a_row": {str(n): round(s, 6) for n, s in seconds.items()}}
            )
        batches.micro_rows = min(share, rows or most or share)
    if compares:
        _check_compared(batches.micro_rows, share, settings)


def _check_compared(rows: int, share: int, settings: TrainConfig) -> None:
    keys = f"train.batch_tokens (now {settings.batch_tokens}) and train.micro_tokens (now {settings.micro_tokens})"
    if rows < 2:
        raise ConfigError(
            f"{keys}: the objective compares the rows of one forward pass with each other, and there is only one; "
            f"give each process at least {2 * settings.context} of both"
        )
    if rows < share:
        warn(f"{keys}: each row is compared with the {rows} of its forward pass, not with the {share} of the update")


def choose_compiled(settings: TrainConfig, folder: Path, learner: Learner, batches: Batches, world: World) -> None:
    """Compile the blocks if the config says so, or if that is faster; written down, so that a resumed run computes the
    same way. Of several processes none measures: `auto` is as they are.

    Raises ConfigError for a network without attention blocks.
    """
    if settings.compile is False or (settings.compile == "auto" and world.size > 1):
        return
    blocks, known = blocks_of(learner), noted(folder).get("compile", {}).get("chosen")
    if settings.compile == "auto" and not blocks:
        return
    if known is not None or world.size > 1:
        if known is not False:
            compile_blocks(blocks)
        return
    say("torch.compile: compiling the blocks and measuring ...")
    found = try_compiled(learner, blocks, batches.sample(batches.micro_rows), measure=settings.compile == "auto")
    note(folder, compile=found)
    if "failed" in found:
        warn(f"torch.compile failed, the run goes on without it: {found['failed']}")
    elif settings.compile == "auto":
        gain = found["seconds_plain"] / found["seconds_compiled"]
        say(f"torch.compile: {gain:.2f} times as fast; {'taken' if found['chosen'] else 'left'}")

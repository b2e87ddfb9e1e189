"""Products with packed weights: what they equal, and how far numbers of few bits are from the weights they stand for."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core import types

from yuyan.kernels import head, vector
from yuyan.kernels.pack import KINDS, Coding, Packed, memory_of, pack, planned, quantise
from yuyan.kernels.product import lay_out, multiply
from yuyan.kernels.vector import tile_address

CODINGS = [Coding("float32"), Coding("bfloat16"), *(Coding(k, g) for k in ("int8", "int4") for g in (32, 64, 128))]
NAMES = [f"{coding.kind}-{coding.group}" for coding in CODINGS]


def packed(weight: torch.Tensor, coding: Coding) -> tuple[Packed, np.ndarray]:
    plan = planned(*weight.shape, coding)
    plan = Packed(coding, plan.outputs, plan.inputs, 64, 64 + plan.weight_bytes)
    memory = memory_of(64 + plan.weight_bytes + plan.scale_bytes)
    pack(weight, plan, memory)
    return plan, memory


def product(x: torch.Tensor, plan: Packed, memory: np.ndarray) -> np.ndarray:
    """(M, O padded)."""
    rows = np.zeros((len(x), plan.inputs), np.float32)
    rows[:, : x.shape[1]] = x.numpy()
    words = len(x) * plan.inputs
    left = (np.zeros(words, np.int32), np.zeros(words // 32, np.float32), np.zeros(words // 32, np.int32))
    matrix = np.array(plan.row(), np.int64)
    lay_out(KINDS.index(plan.coding.kind), rows, 0, len(x), matrix[3], left)
    out = np.full((len(x), plan.outputs), np.nan, np.float32)
    multiply(tile_address(), matrix, memory, len(x), left, 0, plan.outputs, out.ctypes.data, 4 * plan.outputs)
    return out


def rounded_weights(weight: torch.Tensor, coding: Coding) -> torch.Tensor:
    """What the packed weights stand for."""
    if not coding.whole:
        return weight if coding.kind == "float32" else weight.bfloat16().float()
    whole = torch.zeros(len(weight), planned(*weight.shape, coding).inputs)
    whole[:, : weight.shape[1]] = weight
    numbers, scales = quantise(whole, coding)
    return (numbers.view(len(weight), -1, coding.group) * scales.float()[..., None]).flatten(1)[:, : weight.shape[1]]


def rounded_rows(x: torch.Tensor, coding: Coding) -> torch.Tensor:
    """What the rows become on their way into a product."""
    if not coding.whole:
        return x if coding.kind == "float32" else x.bfloat16().float()
    padding = -x.shape[1] % max(64, coding.group)
    groups = torch.nn.functional.pad(x, (0, padding)).view(len(x), -1, coding.group)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return ((groups / scale.clamp(min=1e-30)).round() * scale).flatten(1)[:, : x.shape[1]]


@pytest.mark.parametrize("coding", CODINGS, ids=NAMES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 12, 13, 48, 49, 100])
def test_a_product_is_that_of_the_rounded_numbers(coding: Coding, rows: int) -> None:
    """Whatever the number of rows, and with sizes that need padding."""
    generator = torch.Generator().manual_seed(rows)
    weight, x = torch.randn(100, 200, generator=generator), torch.randn(rows, 200, generator=generator)
    plan, memory = packed(weight, coding)
    found = product(x, plan, memory)
    wanted = rounded_rows(x, coding).double() @ rounded_weights(weight, coding).double().T
    tolerance = 2e-3 if coding.whole else 1e-5  # a half of an 8-bit number may round to either side
    assert np.abs(found[:, :100] - wanted.numpy()).max() < tolerance * float(wanted.abs().max())
    assert not found[:, 100:].any(), "columns of padding are zero"


@pytest.mark.parametrize("coding", CODINGS, ids=NAMES)
def test_a_row_gives_the_same_alone_and_among_others(coding: Coding) -> None:
    """So what a request writes does not depend on the batch it is in."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(64, 128, generator=generator), torch.randn(20, 128, generator=generator)
    plan, memory = packed(weight, coding)
    together = product(x, plan, memory)
    alone = np.concatenate([product(x[i : i + 1], plan, memory) for i in range(20)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("coding", CODINGS, ids=NAMES)
def test_vectors_are_found_again(coding: Coding) -> None:
    weight = torch.randn(70, 128, generator=torch.Generator().manual_seed(1))
    plan, memory = packed(weight, coding)
    ids = np.array([0, 69, 15, 16, 33])
    found = np.empty((5, plan.inputs), np.float32)
    head.look_up(np.array(plan.row(), np.int64), memory, ids, found)
    assert np.array_equal(found[:, :128], rounded_weights(weight, coding)[ids].numpy())


@pytest.mark.parametrize("coding", CODINGS[2:], ids=NAMES[2:])
def test_rounding_is_at_most_half_a_step(coding: Coding) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(16, 256, generator=generator) * torch.rand(16, 1, generator=generator) * 10
    weight[3] = 0
    _, scales = quantise(weight, coding)
    apart = (rounded_weights(weight, coding) - weight).abs().view(16, -1, coding.group)
    assert bool((apart <= scales.float()[..., None] * 0.5 * (1 + 1e-5)).all())


@pytest.mark.parametrize("kind", range(4), ids=KINDS)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 4), (5, 2)])
def test_sums_spelled_out_are_those_of_the_instructions(
    kind: int, rows: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a processor without the dot products runs."""
    random = np.random.default_rng(0)
    a, b = (words(kind, shape, random) for shape in ((32, rows), (blocks, 16, 16)))
    scales, sums = random.random((2, rows), np.float32), random.integers(-9, 9, (2, rows), dtype=np.int32)
    b_scales = np.full((blocks, 2, 16), 0x3F80, np.int16)
    steps, groups = (8, 2) if kind >= vector.I8 else (16, 1)
    found = []
    for features in (vector.FEATURES, frozenset()):
        monkeypatch.setattr(vector, "FEATURES", features)
        out = np.zeros((rows, 16 * blocks), np.float32)
        one_tile(kind, rows, blocks)(
            a.ctypes.data, 4 * rows, b.ctypes.data, 16 * 64, out.ctypes.data, 64 * blocks, steps, groups,
            scales.ctypes.data, sums.ctypes.data, b_scales.ctypes.data, 64,
        )  # fmt: skip
        found.append(out)
    assert np.allclose(*found, rtol=1e-5, atol=1e-5 * np.abs(found[0]).max())
    assert np.abs(found[0]).min() > 0


def words(kind: int, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Numbers of a kind, as words."""
    if kind >= vector.I8:
        return random.integers(-(2**31), 2**31, shape, dtype=np.int32)
    numbers = torch.from_numpy(random.standard_normal((*shape, 2), np.float32))
    if kind == vector.F32:
        return np.ascontiguousarray(numbers[..., 0].numpy()).view(np.int32)
    return numbers.bfloat16().view(torch.int16).numpy().view(np.int32)[..., 0]


def one_tile(kind: int, rows: int, blocks: int) -> Any:
    """A single tile, compiled now."""

    @vector.intrinsic
    def emitted(
        typing: Any, a: Any, a_step: Any, b: Any, b_block: Any, c: Any, c_row: Any, steps: Any, groups: Any,
        a_scale: Any, a_sum: Any, b_scale: Any, b_scale_block: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector._emit_tile(builder, kind, rows, blocks, arguments)
            return context.get_dummy_value()

        return types.void(*([types.int64] * 12)), codegen

    @numba.njit
    def run(a, a_step, b, b_block, c, c_row, steps, groups, a_scale, a_sum, b_scale, b_scale_block):  # type: ignore[no-untyped-def]
        emitted(a, a_step, b, b_block, c, c_row, steps, groups, a_scale, a_sum, b_scale, b_scale_block)

    return run

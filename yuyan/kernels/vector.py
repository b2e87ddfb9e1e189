"""Instructions that Numba has no name for: vectors of 16 lanes, dot products of narrow numbers, atomics, raw memory.

Each function here becomes a few LLVM instructions inside a compiled function; addresses are whole numbers. Where the
processor has AVX-512 with bfloat16 and VNNI its dot products are used, elsewhere the same sums are spelled out with
ordinary vector arithmetic: slower, and with the same meaning.

The heart is `tile`: a few rows of A times 32 or 64 columns of B, all sums held in registers. Both sides are laid out
for it (yuyan.kernels.pack): a word is 4 bytes, which are 1 float32, 2 bfloat16, 4 int8 or, in B, 8 int4.

    A: words [step][row], so that one address serves all rows of a tile
    B: blocks of 16 columns, each [step][16 words]
"""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

from yuyan.compile import compiled_at
from yuyan.kernels import code
from yuyan.kernels.code import LANES, cgutils, intrinsic

F32, BF16, I8, I4 = 0, 1, 2, 3
"""What a product's words hold."""
DEPTH = (1, 2, 4, 8)
"""How many numbers of a column one word of B holds (for I4 with the two words of A that meet it)."""
ROWS = 12
"""The most rows of a tile."""
WIDE = 3
"""Up to so many rows a tile has 4 blocks of columns, else 2: enough sums at once to hide how long one takes."""


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no class for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def features() -> frozenset[str]:
    """What the processor can do, of what matters here."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    found = llvm.get_host_cpu_features()
    return frozenset(name for name in ("avx512f", "avx512bf16", "avx512vnni") if found.get(name))


FEATURES = features()


# ------------------------------------------------------------ dot products


def _dot_bf16(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """total + a0 b0 + a1 b1, words of two bfloat16."""
    if "avx512bf16" in FEATURES:
        halves = ir.VectorType(_BFloat(), 2 * LANES)
        dot = code.declared(builder, "llvm.x86.avx512bf16.dpbf16ps.512", code.floats, [code.floats, halves, halves])
        return builder.call(dot, [total, builder.bitcast(a, halves), builder.bitcast(b, halves)])
    low = [builder.bitcast(builder.shl(x, code.words_of(16)), code.floats) for x in (a, b)]
    high = [builder.bitcast(builder.and_(x, code.words_of(0xFFFF0000)), code.floats) for x in (a, b)]
    return code.fma(builder, high[0], high[1], code.fma(builder, low[0], low[1], total))


def _dot_i8(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """total + the sum of four products of a signed byte of a and an unsigned byte of b."""
    if "avx512vnni" in FEATURES:
        dot = code.declared(builder, "llvm.x86.avx512.vpdpbusd.512", code.words, [code.words] * 3)
        return builder.call(dot, [total, b, a])
    for byte in range(4):
        signed = builder.ashr(builder.shl(a, code.words_of(24 - 8 * byte)), code.words_of(24))
        unsigned = builder.and_(builder.lshr(b, code.words_of(8 * byte)), code.words_of(255))
        total = builder.add(total, builder.mul(signed, unsigned))
    return total


# ------------------------------------------------------------ the tile


@intrinsic
def tile(
    typing: Any, kind: Any, rows: Any, a: Any, a_step: Any, b: Any, b_block: Any, c: Any, c_row: Any, steps: Any,
    groups: Any, a_scale: Any, a_sum: Any, b_scale: Any, b_scale_block: Any,
) -> Any:  # fmt: skip
    """C (rows, 16 blocks) in float32, at the address `c`, for up to `ROWS` rows; up to `WIDE` rows have 4 blocks, more 2.

    `a_step` is the bytes between the words of one row, `b_block` those between blocks of B, `c_row` between rows of C;
    `steps` the words of B in a column, or in a group of it. Of int8 and int4 each of the `groups` has its own scales:
    `a_scale` and `a_sum` (the sum that turns unsigned weights into signed ones) [group][row] with `a_step` bytes between
    groups, and `b_scale` in bfloat16 [group][16], `b_scale_block` bytes between blocks.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        case = builder.add(builder.mul(arguments[0], ir.Constant(code.i64, 16)), arguments[1])
        after = builder.append_basic_block("after")
        choice = builder.switch(case, after)
        for each in range(4):
            for count in range(1, ROWS + 1):
                block = builder.append_basic_block(f"tile_{each}_{count}")
                choice.add_case(ir.Constant(code.i64, 16 * each + count), block)
                builder.position_at_end(block)
                _emit_tile(builder, each, count, 4 if count <= WIDE else 2, arguments[2:])
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 14)), codegen


def _emit_tile(builder: Any, kind: int, rows: int, blocks: int, arguments: Any) -> None:
    a, a_step, b, b_block, c, c_row, steps, groups, a_scale, a_sum, b_scale, b_scale_block = arguments
    places = [(row, block) for row in range(rows) for block in range(blocks)]
    sums = {place: cgutils.alloca_once_value(builder, ir.Constant(code.floats, None)) for place in places}
    b_starts = [builder.mul(b_block, ir.Constant(code.i64, block)) for block in range(blocks)]
    ahead = builder.mul(b_block, ir.Constant(code.i64, blocks))
    if kind in (F32, BF16):
        _emit_steps(builder, kind, rows, a, a_step, b, b_starts, ahead, steps, sums)
    else:
        words = 2 if kind == I4 else 1
        with cgutils.for_range(builder, groups) as group:
            done = builder.mul(group.index, steps)
            parts = {}
            shift = builder.mul(group.index, a_step)
            for row, block in places:
                start = code.load(builder, code.plus(builder, builder.add(a_sum, shift), 4 * row), code.i32)
                parts[row, block] = cgutils.alloca_once(builder, code.words)
                builder.store(code.splat(builder, start), parts[row, block])
            a_here = builder.add(a, builder.mul(builder.mul(done, a_step), ir.Constant(code.i64, words)))
            b_here = builder.add(b, builder.mul(done, ir.Constant(code.i64, 64)))
            _emit_steps(builder, kind, rows, a_here, a_step, b_here, b_starts, ahead, steps, parts)
            scale_here = builder.add(b_scale, builder.mul(group.index, ir.Constant(code.i64, 2 * LANES)))
            scales = []
            for block in range(blocks):
                at = builder.add(scale_here, builder.mul(b_scale_block, ir.Constant(code.i64, block)))
                half = builder.load(code.at(builder, at, ir.VectorType(code.i16, LANES)), align=1)
                scales.append(
                    builder.bitcast(builder.shl(builder.zext(half, code.words), code.words_of(16)), code.floats)
                )
            for row, block in places:
                own = code.load(builder, code.plus(builder, builder.add(a_scale, shift), 4 * row), code.f32)
                scale = builder.fmul(scales[block], code.splat(builder, own))
                part = builder.sitofp(builder.load(parts[row, block]), code.floats)
                builder.store(code.fma(builder, part, scale, builder.load(sums[row, block])), sums[row, block])
    for (row, block), total in sums.items():
        at = builder.add(code.plus(builder, c, 64 * block), builder.mul(c_row, ir.Constant(code.i64, row)))
        builder.store(builder.load(total), code.at(builder, at, code.floats), align=1)


def _emit_steps(
    builder: Any, kind: int, rows: int, a: Any, a_step: Any, b: Any, b_starts: list[Any], ahead: Any, steps: Any,
    sums: Any,
) -> None:  # fmt: skip
    """Add the products of so many steps to `sums`; `ahead` is where the next columns begin."""
    with cgutils.for_range(builder, steps) as step:
        words = 2 if kind == I4 else 1
        a_at = builder.add(a, builder.mul(builder.mul(step.index, a_step), ir.Constant(code.i64, words)))
        b_at = builder.add(b, builder.mul(step.index, ir.Constant(code.i64, 64)))
        columns = [code.load(builder, builder.add(b_at, start), code.words) for start in b_starts]
        for start in b_starts if rows > WIDE else ():  # what the next columns will need; few rows read faster than this
            code.prefetch(builder, builder.add(builder.add(b_at, start), ahead))
        if kind == I4:
            low = [builder.and_(column, code.words_of(0x0F0F0F0F)) for column in columns]
            high = [
                builder.and_(builder.lshr(column, code.words_of(4)), code.words_of(0x0F0F0F0F)) for column in columns
            ]
            sides = [(a_at, low), (builder.add(a_at, a_step), high)]
        else:
            sides = [(a_at, columns)]
        for at, side in sides:
            for row in range(rows):
                word = code.splat(builder, code.load(builder, code.plus(builder, at, 4 * row), code.i32))
                for block, column in enumerate(side):
                    total = builder.load(sums[row, block])
                    if kind == F32:
                        total = code.fma(
                            builder, builder.bitcast(word, code.floats), builder.bitcast(column, code.floats), total
                        )
                    elif kind == BF16:
                        total = _dot_bf16(builder, total, word, column)
                    else:
                        total = _dot_i8(builder, total, word, column)
                    builder.store(total, sums[row, block])


@intrinsic
def call_tile(
    typing: Any, address: Any, kind: Any, rows: Any, a: Any, a_step: Any, b: Any, b_block: Any, c: Any, c_row: Any,
    steps: Any, groups: Any, a_scale: Any, a_sum: Any, b_scale: Any, b_scale_block: Any,
) -> Any:  # fmt: skip
    """`tile`, where it stands at an address (`tile_address`)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [code.i64] * 14)
        builder.call(code.at(builder, arguments[0], function), arguments[1:])
        return context.get_dummy_value()

    return types.void(*([types.int64] * 15)), codegen


@cache
def tile_address() -> int:
    """Where `tile` stands as a function of its own: it is large, and compiled once."""
    return compiled_at(_tile, types.void(*([types.int64] * 14)))


def _tile(
    kind: Any, rows: Any, a: Any, a_step: Any, b: Any, b_block: Any, c: Any, c_row: Any, steps: Any, groups: Any,
    a_scale: Any, a_sum: Any, b_scale: Any, b_scale_block: Any,
) -> None:  # fmt: skip
    tile(kind, rows, a, a_step, b, b_block, c, c_row, steps, groups, a_scale, a_sum, b_scale, b_scale_block)


# ------------------------------------------------------------ numbers, memory, threads


@intrinsic
def float_of(typing: Any, x: Any) -> Any:
    """The float32 of these bits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], code.f32)

    return types.float32(types.int32), codegen


@intrinsic
def fetch_add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address, at once for all threads; what was there."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", code.at(builder, arguments[0], code.i64), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def fetch(typing: Any, address: Any) -> Any:
    """The int64 at an address, as other threads left it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(code.at(builder, arguments[0], code.i64), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def ask_for(typing: Any, address: Any) -> Any:
    """Ask for the line of 64 bytes at an address, which need not be there, to come nearer."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code.prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def give_way(typing: Any) -> Any:
    """Let another thread run on this processor."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = "SwitchToThread" if os.name == "nt" else "sched_yield"
        builder.call(code.declared(builder, name, code.i32, []), [])
        return context.get_dummy_value()

    return types.void(), codegen

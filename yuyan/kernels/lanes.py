"""What is done to 16 numbers at once between products, as LLVM code: activations, softmax, roundings, transposition.

Numba's own loops become vectors only where LLVM sees fit, and a loop over a head's 64 numbers often does not. All
functions here take addresses, and do `chunks` times 16 numbers that stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from yuyan.kernels import code
from yuyan.kernels.code import LANES, cgutils, intrinsic
from yuyan.kernels.formulas import ACTIVATIONS, Floats, exponential

NOTHING = -3e38
"""The score of what is not seen."""


@intrinsic
def activate(typing: Any, kind: Any, source: Any, source_step: Any, target: Any, chunks: Any) -> Any:
    """target = activation(source), with `source_step` bytes from 16 numbers of the source to the next."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, source, source_step, target, chunks = arguments
        after = builder.append_basic_block("after")
        choice = builder.switch(kind, after)
        for number, formula in enumerate(ACTIVATIONS.values()):
            block = builder.append_basic_block(f"activation_{number}")
            choice.add_case(ir.Constant(code.i64, number), block)
            builder.position_at_end(block)
            with cgutils.for_range(builder, chunks) as chunk:
                x = code.load(builder, code.step(builder, source, chunk.index, source_step), code.floats)
                code.store(builder, formula(Floats(builder, x)).value, code.step(builder, target, chunk.index, 64))
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 5)), codegen


@intrinsic
def times(typing: Any, target: Any, source: Any, source_step: Any, chunks: Any) -> Any:
    """target *= source."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source, source_step, chunks = arguments
        with cgutils.for_range(builder, chunks) as chunk:
            place = code.step(builder, target, chunk.index, 64)
            x = code.load(builder, code.step(builder, source, chunk.index, source_step), code.floats)
            code.store(builder, builder.fmul(code.load(builder, place, code.floats), x), place)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 4)), codegen


# ------------------------------------------------------------ attention


def _over_lanes(builder: Any, value: Any, join: Callable[[Any, Any], Any]) -> Any:
    """All 16 lanes as one number, halves first."""
    for size in (8, 4, 2, 1):
        order = ir.Constant(code.words, [(lane + size) % LANES for lane in range(LANES)])
        value = join(value, builder.shuffle_vector(value, value, order))
    return builder.extract_element(value, ir.Constant(code.i32, 0))


@intrinsic
def softmax(typing: Any, line: Any, first: Any, last: Any, chunks: Any, scale: Any, sum: Any) -> Any:
    """e^(scale (s - largest)) of the numbers `first` to `last`, zero for the others of the chunks; to `sum` their sum.

    A number's lane is its place: the sum does not depend on how many numbers stand in the line.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, first, last, chunks, scale, sum = arguments
        nothing = ir.Constant(code.floats, [NOTHING] * LANES)
        most, total = (cgutils.alloca_once_value(builder, x) for x in (nothing, ir.Constant(code.floats, None)))
        low, high = (code.splat(builder, builder.trunc(x, code.i32)) for x in (first, last))
        factor, lanes = code.splat(builder, scale), ir.Constant(code.words, list(range(LANES)))

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_unordered(">", a, b), a, b)

        with cgutils.for_range(builder, chunks) as chunk:
            place = code.step(builder, line, chunk.index, 64)
            number = builder.trunc(builder.mul(chunk.index, ir.Constant(code.i64, LANES)), code.i32)
            numbers = builder.add(code.splat(builder, number), lanes)
            seen = builder.and_(builder.icmp_signed(">=", numbers, low), builder.icmp_signed("<", numbers, high))
            x = builder.fmul(code.load(builder, place, code.floats), factor)
            x = builder.select(seen, x, nothing)
            code.store(builder, x, place)
            builder.store(larger(x, builder.load(most)), most)
        top = Floats(builder, code.splat(builder, _over_lanes(builder, builder.load(most), larger)))
        with cgutils.for_range(builder, chunks) as chunk:
            place = code.step(builder, line, chunk.index, 64)
            x = Floats(builder, code.load(builder, place, code.floats))
            unseen = builder.fcmp_ordered("==", x.value, nothing)
            value = builder.select(unseen, ir.Constant(code.floats, None), exponential(x - top).value)
            code.store(builder, value, place)
            builder.store(builder.fadd(builder.load(total), value), total)
        found = _over_lanes(builder, builder.load(total), builder.fadd)
        builder.store(found, code.at(builder, sum, code.f32))
        return context.get_dummy_value()

    return types.void(*([types.int64] * 4), types.float32, types.int64), codegen


def _real(builder: Any, count: Any, chunk: Any) -> Any:
    """Which of the 16 numbers of a chunk are among the first `count`."""
    left = builder.sub(count, builder.mul(chunk, ir.Constant(code.i64, LANES)))
    lanes = ir.Constant(code.words, list(range(LANES)))
    return builder.icmp_signed("<", lanes, code.splat(builder, builder.trunc(left, code.i32)))


def _each(builder: Any, count: Any, work: Callable[[Any, Any], None], chunks: Any = None) -> None:
    """`work` with the number of each chunk of `count` numbers, and with which of it are real: None for all, as an access
    to some lanes only waits for what was written before. Then for chunks without any, up to `chunks`."""
    size = ir.Constant(code.i64, LANES)
    whole, rest = builder.sdiv(count, size), builder.srem(count, size)
    with cgutils.for_range(builder, whole) as chunk:
        work(chunk.index, None)
    with builder.if_then(builder.icmp_signed("!=", rest, ir.Constant(code.i64, 0))):
        work(whole, _real(builder, count, whole))
    if chunks is not None:
        with cgutils.for_range_slice(builder, _chunks(builder, count), chunks, ir.Constant(code.i64, 1)) as (index, _):
            work(index, ir.Constant(code.BITS, [0] * LANES))


def _load_real(builder: Any, address: Any, real: Any) -> Any:
    """16 words, zeros where none are real."""
    if real is None:
        return code.load(builder, address, code.words)
    arguments = [code.POINTER, code.i32, code.BITS, code.words]
    read = code.declared(builder, "llvm.masked.load.v16i32.p0", code.words, arguments)
    place = code.at(builder, address, code.i8)
    return builder.call(read, [place, ir.Constant(code.i32, 4), real, ir.Constant(code.words, None)])


def _store_real(builder: Any, value: Any, address: Any, real: Any) -> None:
    """The real ones of 16 words."""
    if real is None:
        code.store(builder, value, address)
        return
    arguments = [code.words, code.POINTER, code.i32, code.BITS]
    write = code.declared(builder, "llvm.masked.store.v16i32.p0", ir.VoidType(), arguments)
    builder.call(write, [value, code.at(builder, address, code.i8), ir.Constant(code.i32, 4), real])


def _rounded(builder: Any, bits: Any) -> Any:
    """The bits of the nearest bfloat16 of 16 numbers, in the low halves."""
    odd = builder.and_(builder.lshr(bits, code.words_of(16)), code.words_of(1))
    return builder.lshr(builder.add(builder.add(bits, code.words_of(0x7FFF)), odd), code.words_of(16))


@intrinsic
def turn(typing: Any, low: Any, half: Any, cosines: Any, sines: Any) -> Any:
    """Turn `half` pairs in place, of which the second ones stand behind the first, and so do cosines and sines."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, half, cosines, sines = arguments
        behind = builder.mul(half, ir.Constant(code.i64, 4))

        def work(chunk: Any, real: Any) -> None:
            places = [code.step(builder, x, chunk, 64) for x in (low, cosines, sines)]
            places += [builder.add(place, behind) for place in places]
            read = [builder.bitcast(_load_real(builder, place, real), code.floats) for place in places]
            a, cosine, sine, b, later_cosine, later_sine = (Floats(builder, x) for x in read)
            _store_real(builder, (b * sine + a * cosine).bits(), places[0], real)
            _store_real(builder, (a * later_sine + b * later_cosine).bits(), places[3], real)

        _each(builder, half, work)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 4)), codegen


@intrinsic
def narrow(typing: Any, source: Any, count: Any, target: Any, chunks: Any) -> Any:
    """The nearest bfloat16 of `count` numbers, side by side, and zeros up to the end of the chunks."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, count, target, chunks = arguments
        halves = ir.VectorType(code.i16, LANES)

        def work(chunk: Any, real: Any) -> None:
            found = _rounded(builder, _load_real(builder, code.step(builder, source, chunk, 64), real))
            code.store(builder, builder.trunc(found, halves), code.step(builder, target, chunk, 32))

        _each(builder, count, work, chunks)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 4)), codegen


@intrinsic
def narrow_into(typing: Any, source: Any, count: Any, target: Any, target_step: Any, shift: Any) -> Any:
    """The nearest bfloat16 of `count` numbers into the low (`shift` 0) or high (16) halves of words; the others stay.

    `target_step`: bytes from 16 words to the next, in which zeros follow the last number.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, count, target, target_step, shift = arguments
        by = code.splat(builder, builder.trunc(shift, code.i32))
        kept = builder.not_(builder.shl(code.words_of(0xFFFF), by))

        def work(chunk: Any, real: Any) -> None:
            place = code.step(builder, target, chunk, target_step)
            bits = _load_real(builder, code.step(builder, source, chunk, 64), real)
            old = builder.and_(code.load(builder, place, code.words), kept)
            code.store(builder, builder.or_(old, builder.shl(_rounded(builder, bits), by)), place)

        _each(builder, count, work)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 5)), codegen


def _chunks(builder: Any, count: Any) -> Any:
    return builder.sdiv(builder.add(count, ir.Constant(code.i64, LANES - 1)), ir.Constant(code.i64, LANES))


@intrinsic
def copy(typing: Any, source: Any, count: Any, target: Any, target_step: Any, chunks: Any) -> Any:
    """`count` words, and zeros up to the end of the chunks, with `target_step` bytes from 16 to the next."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, count, target, target_step, chunks = arguments

        def work(chunk: Any, real: Any) -> None:
            found = _load_real(builder, code.step(builder, source, chunk, 64), real)
            code.store(builder, found, code.step(builder, target, chunk, target_step))

        _each(builder, count, work, chunks)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 5)), codegen


@intrinsic
def column(typing: Any, source: Any, count: Any, target: Any) -> Any:
    """`count` words to every sixteenth word from `target` on."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, count, target = arguments
        with cgutils.for_range(builder, count) as each:
            word = code.load(builder, code.step(builder, source, each.index, 4), code.i32)
            builder.store(word, code.at(builder, code.step(builder, target, each.index, 64), code.i32))
        return context.get_dummy_value()

    return types.void(*([types.int64] * 3)), codegen


@intrinsic
def divided(typing: Any, source: Any, count: Any, sum: Any, target: Any) -> Any:
    """`count` numbers, divided by the one at `sum`."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, count, sum, target = arguments
        factor = builder.fdiv(ir.Constant(code.f32, 1.0), code.load(builder, sum, code.f32))
        factors = code.splat(builder, factor)

        def work(chunk: Any, real: Any) -> None:
            x = code.load(builder, code.step(builder, source, chunk, 64), code.floats)
            found = builder.bitcast(builder.fmul(x, factors), code.words)
            _store_real(builder, found, code.step(builder, target, chunk, 64), real)

        _each(builder, count, work)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 4)), codegen


# ------------------------------------------------------------ left sides of products


@intrinsic
def largest(typing: Any, source: Any, chunks: Any) -> Any:
    """The bits of the largest size of numbers: they order as the numbers do."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, chunks = arguments
        most = cgutils.alloca_once_value(builder, ir.Constant(code.words, None))

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.icmp_signed(">", a, b), a, b)

        with cgutils.for_range(builder, chunks) as chunk:
            bits = code.load(builder, code.step(builder, source, chunk.index, 64), code.words)
            builder.store(larger(builder.and_(bits, code.words_of(0x7FFFFFFF)), builder.load(most)), most)
        return _over_lanes(builder, builder.load(most), larger)

    return types.int32(types.int64, types.int64), codegen


@intrinsic
def whole(typing: Any, source: Any, factor: Any, target: Any, chunks: Any) -> Any:
    """The nearest whole numbers of 8 bits to numbers times `factor`; their sum."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, factor, target, chunks = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(code.words, None))
        factors, halves = code.splat(builder, factor), ir.Constant(code.floats, [0.5] * LANES)
        signed = code.declared(builder, "llvm.copysign.v16f32", code.floats, [code.floats] * 2)
        with cgutils.for_range(builder, chunks) as chunk:
            x = code.load(builder, code.step(builder, source, chunk.index, 64), code.floats)
            x = builder.fmul(x, factors)
            numbers = builder.fptosi(builder.fadd(x, builder.call(signed, [halves, x])), code.words)
            builder.store(builder.add(builder.load(total), numbers), total)
            found = builder.trunc(numbers, ir.VectorType(code.i8, LANES))
            code.store(builder, found, code.step(builder, target, chunk.index, LANES))
        return _over_lanes(builder, builder.load(total), builder.add)

    return types.int32(types.int64, types.float32, types.int64, types.int64), codegen


@intrinsic
def transpose(typing: Any, source: Any, source_row: Any, rows: Any, target: Any, target_step: Any, chunks: Any) -> Any:
    """Words [row][step] of up to 16 rows to [step][row], 16 steps a chunk; `source_row` and `target_step` in bytes."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, source_row, rows, target, target_step, chunks = arguments
        real = _real(builder, rows, ir.Constant(code.i64, 0))
        last = builder.sub(rows, ir.Constant(code.i64, 1))
        starts = []
        for row in range(LANES):
            place = ir.Constant(code.i64, row)
            place = builder.select(builder.icmp_signed("<", place, rows), place, last)
            starts.append(code.step(builder, source, place, source_row))
        with cgutils.for_range(builder, chunks) as chunk:
            lines = [code.load(builder, code.step(builder, start, chunk.index, 64), code.words) for start in starts]
            here = code.step(builder, target, builder.mul(chunk.index, ir.Constant(code.i64, LANES)), target_step)
            for line in _transposed(builder, lines):
                _store_real(builder, line, here, real)
                here = builder.add(here, target_step)
        return context.get_dummy_value()

    return types.void(*([types.int64] * 6)), codegen


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """16 lines of 16, blocks of 8, 4, 2 and 1 after each other."""
    for size in (8, 4, 2, 1):
        upper = [lane if lane & size == 0 else LANES + lane - size for lane in range(LANES)]
        lower = [lane + size if lane & size == 0 else LANES + lane for lane in range(LANES)]
        found = list(lines)
        for row in range(LANES):
            if row & size == 0:
                pair = lines[row], lines[row + size]
                found[row] = builder.shuffle_vector(*pair, ir.Constant(code.words, upper))
                found[row + size] = builder.shuffle_vector(*pair, ir.Constant(code.words, lower))
        lines = found
    return lines

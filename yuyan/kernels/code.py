"""Pieces of LLVM's code, for functions that Numba compiles: vectors of 16 lanes, addresses as whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import extending
from numba.core import cgutils as _cgutils

Function = Callable[..., Any]
intrinsic = cast(Callable[[Function], Function], extending.intrinsic)
cgutils: Any = _cgutils

LANES = 16
i8, i16, i32, i64, f32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
words, floats = ir.VectorType(i32, LANES), ir.VectorType(f32, LANES)
BITS, POINTER = ir.VectorType(ir.IntType(1), LANES), i8.as_pointer()


def at(builder: Any, address: Any, kind: Any) -> Any:
    """A pointer."""
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any) -> Any:
    """What stands at an address."""
    return builder.load(at(builder, address, kind), align=1 if isinstance(kind, ir.VectorType) else 4)


def store(builder: Any, value: Any, address: Any) -> None:
    """Write it at an address."""
    builder.store(value, at(builder, address, value.type), align=1)


def plus(builder: Any, address: Any, offset: int) -> Any:
    """An address so many bytes further on."""
    return builder.add(address, ir.Constant(i64, offset)) if offset else address


def step(builder: Any, address: Any, index: Any, size: Any) -> Any:
    """An address `index` times `size` bytes further on."""
    return builder.add(address, builder.mul(index, size if not isinstance(size, int) else ir.Constant(i64, size)))


def splat(builder: Any, value: Any) -> Any:
    """16 times the same."""
    vector = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(i32, 0))
    zeros = ir.Constant(words, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def words_of(value: int) -> Any:
    """16 times the same whole number."""
    return ir.Constant(words, [value] * LANES)


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of LLVM's or the C library's."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of vectors, rounded once."""
    return builder.call(declared(builder, "llvm.fma.v16f32", floats, [floats] * 3), [a, b, c])


def prefetch(builder: Any, address: Any, near: int = 2) -> None:
    """Ask for the line at an address, which need not be there, to come to the second cache, or (3) to the first."""
    ask = declared(builder, "llvm.prefetch.p0", ir.VoidType(), [i8.as_pointer(), i32, i32, i32])
    builder.call(ask, [at(builder, address, i8), *(ir.Constant(i32, value) for value in (0, near, 1))])

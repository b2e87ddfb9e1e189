"""Formulas on 16 numbers at once, written down as LLVM code: exponential and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from yuyan.kernels import code
from yuyan.kernels.code import LANES


class Floats:
    """16 float32 in a formula; a plain number stands for 16 like ones."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _of(self, other: Floats | float) -> Any:
        return other.value if isinstance(other, Floats) else ir.Constant(code.floats, [other] * LANES)

    def _made(self, value: Any) -> Floats:
        return Floats(self.builder, value)

    def __add__(self, other: Floats | float) -> Floats:
        return self._made(self.builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: Floats | float) -> Floats:
        return self._made(self.builder.fsub(self.value, self._of(other)))

    def __mul__(self, other: Floats | float) -> Floats:
        return self._made(self.builder.fmul(self.value, self._of(other)))

    def __truediv__(self, other: Floats | float) -> Floats:
        return self._made(self.builder.fdiv(self.value, self._of(other)))

    def over(self, other: float) -> Floats:
        """A plain number divided by these."""
        return self._made(self.builder.fdiv(self._of(other), self.value))

    def times_plus(self, factor: Floats | float, more: Floats | float) -> Floats:
        """Times `factor`, plus `more`, rounded once."""
        return self._made(code.fma(self.builder, self.value, self._of(factor), self._of(more)))

    def at_least(self, other: Floats | float) -> Floats:
        """The larger of both; what is no number stays so."""
        less = self.builder.fcmp_ordered("<", self.value, self._of(other))
        return self._made(self.builder.select(less, self._of(other), self.value))

    def at_most(self, other: Floats | float) -> Floats:
        """The smaller of both; what is no number stays so."""
        more = self.builder.fcmp_ordered(">", self.value, self._of(other))
        return self._made(self.builder.select(more, self._of(other), self.value))

    def bits(self) -> Any:
        return self.builder.bitcast(self.value, code.words)


def exponential(x: Floats) -> Floats:
    """e^x to about 1e-7 of it (Cephes' expf); what is no number stays so."""
    shift = 12582912.0  # at 1.5 * 2^23 the whole numbers stand in the lowest bits
    x = x.at_least(-87.0).at_most(88.0)
    turned = x.times_plus(1.44269504, shift)
    rest = (turned - shift).times_plus(-0.693147181, x)
    series = rest * 1.9875691500e-4 + 1.3981999507e-3
    for factor in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = series.times_plus(rest, factor)
    value = (series * rest).times_plus(rest, rest) + 1.0
    builder = x.builder
    power = builder.add(builder.shl(turned.bits(), code.words_of(23)), code.words_of(127 << 23))
    return value * Floats(builder, builder.bitcast(power, code.floats))


# ------------------------------------------------------------ activations


def _relu(x: Floats) -> Floats:
    return x.at_least(0.0)


def _gelu(x: Floats) -> Floats:
    """With an error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    size = x.at_least(x * -1.0) * 0.70710678
    t = size.times_plus(0.3275911, 1.0).over(1.0)
    series = t * 1.061405429 - 1.453152027
    for factor in (1.421413741, -0.284496736, 0.254829592):
        series = series.times_plus(t, factor)
    tail = series * t * exponential(size * size * -1.0)
    builder = x.builder
    right = builder.fcmp_ordered(">=", x.value, x._of(0.0))
    both = Floats(builder, builder.select(right, (tail * -1.0 + 2.0).value, tail.value))
    return x * 0.5 * both


def _gelu_tanh(x: Floats) -> Floats:
    inner = (x * x * x).times_plus(0.044715, x) * 0.7978845608
    return x / (exponential(inner * -2.0) + 1.0)


def _silu(x: Floats) -> Floats:
    return x / (exponential(x * -1.0) + 1.0)


def _squared(x: Floats) -> Floats:
    return _relu(x) * _relu(x)


def _tanh(x: Floats) -> Floats:
    return (exponential(x * 2.0) + 1.0).over(-2.0) + 1.0


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "silu": _silu, "relu2": _squared, "tanh": _tanh,
}  # fmt: skip
"""In the order of their numbers."""

"""What is done to 16 numbers at once, against PyTorch."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from yuyan.kernels import lanes
from yuyan.kernels.code import LANES
from yuyan.kernels.formulas import ACTIVATIONS
from yuyan.kernels.product import spread

REFERENCE: dict[str, Any] = {
    "relu": F.relu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu,
    "relu2": lambda x: F.relu(x) ** 2, "tanh": torch.tanh,
}  # fmt: skip


@numba.njit  # type: ignore[untyped-decorator]
def activate(kind: Any, x: Any, out: Any) -> None:
    lanes.activate(kind, x.ctypes.data, 64, out.ctypes.data, len(x) // 16)


@numba.njit  # type: ignore[untyped-decorator]
def soften(line: Any, first: Any, last: Any, scale: Any, total: Any) -> None:
    lanes.softmax(line.ctypes.data, first, last, len(line) // 16, scale, total.ctypes.data)


@numba.njit  # type: ignore[untyped-decorator]
def narrow(x: Any, count: Any, out: Any) -> None:
    lanes.narrow(x.ctypes.data, count, out.ctypes.data, len(out) // 16)


@numba.njit  # type: ignore[untyped-decorator]
def narrow_into(x: Any, out: Any, step: Any, shift: Any) -> None:
    lanes.narrow_into(x.ctypes.data, len(x), out.ctypes.data, step, shift)


@numba.njit  # type: ignore[untyped-decorator]
def whole(x: Any, factor: Any, out: Any) -> Any:
    return lanes.largest(x.ctypes.data, len(x) // 16), lanes.whole(x.ctypes.data, factor, out.ctypes.data, len(x) // 16)


@numba.njit  # type: ignore[untyped-decorator]
def turn(x: Any, half: Any, cosines: Any, sines: Any) -> None:
    lanes.turn(x.ctypes.data, half, cosines.ctypes.data, sines.ctypes.data)


@numba.njit  # type: ignore[untyped-decorator]
def spread_rows(rows: Any, out: Any, size: Any) -> None:
    spread(rows.ctypes.data, rows.strides[0], rows.shape[0], rows.shape[1], out.ctypes.data, size)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    x = torch.cat(
        [torch.linspace(-12, 12, 4 * LANES), torch.tensor([0.0, -0.0, 200.0, -200.0, 90.0, -90.0, 1e-20, 3e4] * 2)]
    )
    out = np.zeros(len(x), np.float32)
    activate(list(ACTIVATIONS).index(name), x.numpy(), out)
    torch.testing.assert_close(torch.from_numpy(out), REFERENCE[name](x.double()).float(), rtol=2e-6, atol=3e-7)


@pytest.mark.parametrize("name", ["silu", "gelu_tanh", "tanh"])
def test_what_is_no_number_stays_so(name: str) -> None:
    x, out = np.full(LANES, np.nan, np.float32), np.zeros(LANES, np.float32)
    activate(list(ACTIVATIONS).index(name), x, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 16), (3, 17), (20, 45), (0, 64)])
def test_softmax(first: int, last: int) -> None:
    """The sum is the same to the last digit however long the line is."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(64, generator=g) * 30
    wanted = torch.zeros(64)
    wanted[first:last] = (x[first:last] * 0.25).softmax(-1)
    sums = []
    for size in range(-(-last // 16) * 16, 65, 16):
        line, total = x[:size].numpy().copy(), np.zeros(1, np.float32)
        soften(line, first, last, np.float32(0.25), total)
        torch.testing.assert_close(torch.from_numpy(line / total), wanted[:size], rtol=1e-5, atol=1e-7)
        sums.append(float(total[0]))
    assert len(set(sums)) == 1


@pytest.mark.parametrize("count", [1, 16, 37, 64])
def test_bfloat16_is_the_nearest(count: int) -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(2))
    out = np.full(64, 77, np.int16)
    narrow(x.numpy(), count, out)
    wanted = x.bfloat16().view(torch.int16).numpy().copy()
    wanted[count:] = 0
    assert (out == wanted).all()


@pytest.mark.parametrize("count", [5, 16, 40])
def test_two_values_share_words(count: int) -> None:
    """Either may be written first, and again."""
    g = torch.Generator().manual_seed(3)
    a, b, c = (torch.randn(count, generator=g) for _ in range(3))
    blocks, step = -(-count // 16), 3
    words = np.zeros((blocks, step, 16), np.int32)
    for x, shift in ((c, 0), (b, 16), (a, 0)):
        narrow_into(x.numpy(), words, 64 * step, shift)
    halves = torch.from_numpy(words[:, 0].copy()).view(torch.bfloat16).view(-1, 2)
    assert torch.equal(halves[:count], torch.stack([a.bfloat16(), b.bfloat16()], 1)) and not halves[count:].any()
    assert not words[:, 1:].any()


def test_whole_numbers() -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(4))
    x[5] = -4.0
    out = np.zeros(64, np.int8)
    most, total = whole(x.numpy(), np.float32(127 / 4), out)
    assert np.int32(most).view(np.float32) == 4.0
    wanted = (x * (127 / 4)).round()
    assert torch.equal(torch.from_numpy(out).float(), wanted) and total == int(wanted.sum())


@pytest.mark.parametrize("half", [1, 16, 20, 32])
def test_turned_pairs(half: int) -> None:
    g = torch.Generator().manual_seed(5)
    x, cos, sin = (torch.randn(2 * half + 3, generator=g) for _ in range(3))
    a, b = x[:half], x[half : 2 * half]
    wanted = torch.cat(
        [a * cos[:half] + b * sin[:half], b * cos[half : 2 * half] + a * sin[half : 2 * half], x[2 * half :]]
    )
    found = x.numpy().copy()
    turn(found, half, cos.numpy(), sin.numpy())
    torch.testing.assert_close(torch.from_numpy(found), wanted)


@pytest.mark.parametrize("rows", [1, 3, 16, 21])
def test_rows_side_by_side(rows: int) -> None:
    """Words of others beside them stay."""
    x = np.arange(rows * 48, dtype=np.int32).reshape(rows, 48)
    size = rows + 2 if rows > 1 else 1
    out = np.full((48, size), -1, np.int32)
    spread_rows(x, out, size)
    assert (out[:, :rows] == x.T).all() and (out[:, rows:] == -1).all()

"""One layer of an LSTM over a whole text, forward and backward, for training in bfloat16 on a CPU.

PyTorch's kernel is fast in float32; its backward pass in bfloat16 is slower than in float32. Here the inputs of all
tokens are multiplied at once, as are the gradients of both weights; only the product with the state is done token by
token, with weights that are put in oneDNN's order once, and everything else about a token is one loop
(`yuyan/nn/kernels.py`). Gates, cell state and their gradients are float32, products are bfloat16.

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of W x_t + U h_(t-1) + b
    c_t = f c_(t-1) + i g,    h_t = o tanh(c_t)            (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

Shapes: B batch, T tokens, E width of the input, D hidden size. Time comes first inside: (T, B, ...).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from yuyan.nn.linear import Packed, linear
from yuyan.nn.transforms import under_transform
from yuyan.nn.words import words


def is_faster(cell: nn.Module, x: Tensor) -> bool:
    """Whether `layer` should take the place of PyTorch's kernel."""
    return (
        isinstance(cell, nn.LSTM)
        and not cell.bidirectional
        and x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and any(p.requires_grad for p in cell.parameters())
        and not under_transform()
    )


def layer(x: Tensor, h0: Tensor, c0: Tensor, weights: list[Tensor], carried: Tensor) -> tuple[Tensor, Tensor]:
    """(T, B, E) to the outputs (T, B, D) and the last cell state (B, D), from the states (B, D) before the first token.

    `weights` are those of input and state and their biases, as `nn.LSTM` has them; `carried` (T, B) is 0 where the state is
    forgotten before a token, else 1, or empty.
    """
    made: tuple[Tensor, Tensor] = _Layer.apply(x, h0, c0, *weights, carried)  # type: ignore[no-untyped-call]
    return made


class _Layer(torch.autograd.Function):
    """(T, B, E) to (T, B, D) and the last cell state; `carried` (T, B) is 0 where a state is forgotten, else 1."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
        carried: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        from yuyan.nn.kernels import lstm_forward

        length, batch, size = x.shape[0], x.shape[1], w_hh.shape[1]
        from_input = linear(x.reshape(length * batch, -1), w_ih, b_ih + b_hh)
        gates = torch.empty(length, batch, 4 * size)
        cells = torch.empty(length + 1, batch, size)
        hidden = torch.empty(length + 1, batch, size, dtype=x.dtype)
        cells[0], hidden[0] = c0, h0
        arrays = (words(from_input).reshape(length, batch, -1), gates.numpy(), cells.numpy(), words(hidden))
        product, keep = Packed(w_hh, batch), carried.numpy()
        for t in range(length):
            before = hidden[t] * carried[t, :, None].to(x.dtype) if len(carried) else hidden[t]
            lstm_forward(t, arrays[0], words(product(before)), keep, *arrays[1:])
        ctx.save_for_backward(x, w_ih, w_hh, gates, cells, hidden, carried)
        return hidden[1:], cells[-1].to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        from yuyan.nn.kernels import lstm_backward

        x, w_ih, w_hh, gates, cells, hidden, carried = ctx.saved_tensors
        length, batch, size = d_out.shape
        d_before = torch.empty(length, batch, 4 * size, dtype=x.dtype)
        d_state, d_cell, d_bias = torch.zeros_like(d_out[0]), d_last.float().contiguous(), torch.zeros(4 * size)
        arrays = (d_cell.numpy(), carried.numpy(), gates.numpy(), cells.numpy(), words(d_before), d_bias.numpy())
        product, outs = Packed(w_hh.t().contiguous(), batch), words(d_out.contiguous())
        for t in reversed(range(length)):
            lstm_backward(t, outs, words(d_state), *arrays)
            d_state = product(d_before[t])
        before = hidden[:-1]
        if len(carried):
            before, d_state = before * carried[:, :, None].to(before.dtype), d_state * carried[0, :, None].to(x.dtype)
        flat, summed = d_before.flatten(0, 1), d_bias.to(x.dtype)
        return (
            (flat @ w_ih).view_as(x),
            d_state,
            d_cell.to(x.dtype),
            flat.t() @ x.reshape(length * batch, -1),
            flat.t() @ before.flatten(0, 1),
            summed,
            summed,
            None,
        )

"""One layer of an LSTM over a whole text, forward and backward, for training in bfloat16 on a CPU.

PyTorch's kernel is fast in float32; its backward pass in bfloat16 is slower than in float32. Here the inputs of all
tokens are multiplied at once, as are the gradients of both weights; only the product with the state is done token by
token, and the backward pass prepares everything that does not depend on the tokens after it for all tokens together.
Gates and cell state are float32, products are in the type of the weights.

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of W x_t + U h_(t-1) + b
    c_t = f c_(t-1) + i g,    h_t = o tanh(c_t)            (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

Shapes: B batch, T tokens, E width of the input, D hidden size. Time comes first inside: (T, B, ...).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from yuyan.nn.transforms import under_transform


class LstmState(NamedTuple):
    """(L, B, D) each, as `nn.LSTM` has them."""

    hidden: Tensor
    cell: Tensor


def is_faster(cell: nn.Module, x: Tensor) -> bool:
    """Whether `run` should take the place of `cell(x)`."""
    return (
        isinstance(cell, nn.LSTM)
        and not cell.bidirectional
        and x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and any(p.requires_grad for p in cell.parameters())
        and not under_transform()
    )


def run(cell: nn.LSTM, x: Tensor, state: LstmState, starts: Tensor | None = None) -> tuple[Tensor, LstmState]:
    """What `cell(x, state)` gives: (B, T, D) outputs of the last layer and the states after the last token.

    The state is forgotten before each token where `starts` (B, T) is True.
    """
    hidden, cells = [], []
    carried = None if starts is None else (~starts).t()[:, :, None].float()
    out = x.transpose(0, 1)
    for layer in range(cell.num_layers):
        if layer:
            out = F.dropout(out, cell.dropout, cell.training)
        weights = (getattr(cell, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        first = state.hidden[layer], state.cell[layer]
        out, last = _Layer.apply(out, *first, *weights, carried)  # type: ignore[no-untyped-call]
        hidden.append(out[-1])
        cells.append(last)
    return out.transpose(0, 1), LstmState(torch.stack(hidden), torch.stack(cells))


class _Layer(torch.autograd.Function):
    """(T, B, E) to (T, B, D) and the last cell state; `carried` (T, B, 1) is 0 where a state is forgotten, else 1."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
        carried: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        length, batch, size = x.shape[0], x.shape[1], w_hh.shape[1]
        exact = torch.promote_types(x.dtype, torch.float32)
        from_input = torch.addmm(b_ih + b_hh, x.reshape(length * batch, -1), w_ih.t()).view(length, batch, -1)
        gates = torch.empty(length, batch, 4, size, dtype=exact)
        cells = torch.empty(length + 1, batch, size, dtype=exact)
        hidden = torch.empty(length + 1, batch, size, dtype=x.dtype)
        cells[0], hidden[0], turned = c0, h0, w_hh.t()
        for t in range(length):
            now, before, cell = gates[t], hidden[t], cells[t]
            if carried is not None:
                before, cell = before * carried[t].to(before.dtype), cell * carried[t]
            now.copy_(torch.addmm(from_input[t], before, turned).view(batch, 4, size))
            now[:, :2].sigmoid_()
            now[:, 2].tanh_()
            now[:, 3].sigmoid_()
            torch.mul(now[:, 1], cell, out=cells[t + 1]).addcmul_(now[:, 0], now[:, 2])
            hidden[t + 1] = torch.tanh(cells[t + 1]).mul_(now[:, 3])
        ctx.save_for_backward(x, w_ih, w_hh, gates, cells, hidden, carried)
        return hidden[1:], cells[-1].to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, cells, hidden, carried = ctx.saved_tensors
        length, batch, size = d_out.shape
        before, cells_before = hidden[:-1], cells[:-1]
        if carried is not None:
            before, cells_before = before * carried.to(before.dtype), cells_before * carried
        slopes, through = _slopes(gates, cells_before, cells[1:])
        d_before = torch.empty(length, batch, 4 * size, dtype=x.dtype)
        d_hidden, d_cell = gates.new_zeros(batch, size), d_last.to(gates.dtype)
        for t in reversed(range(length)):
            d_hidden = d_hidden + d_out[t]
            d_cell = torch.addcmul(d_cell, d_hidden, through[t])
            slopes[t, :, :3] *= d_cell[:, None]
            slopes[t, :, 3] *= d_hidden
            d_before[t] = slopes[t].flatten(1)
            d_cell = d_cell * gates[t, :, 1]
            d_hidden = (d_before[t] @ w_hh).to(gates.dtype)
            if carried is not None:
                d_cell, d_hidden = d_cell * carried[t], d_hidden * carried[t]
        flat = d_before.flatten(0, 1)
        d_bias = slopes.sum((0, 1)).flatten().to(x.dtype)
        return (
            (flat @ w_ih).view_as(x),
            d_hidden.to(x.dtype),
            d_cell.to(x.dtype),
            flat.t() @ x.reshape(length * batch, -1),
            flat.t() @ before.flatten(0, 1),
            d_bias,
            d_bias,
            None,
        )


def _slopes(gates: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """d(c_t) / d(i, f, g before their functions) and d(h_t) / d(o before its function), (T, B, 4, D); d(h_t) / d(c_t)."""
    i, f, g, o = gates.unbind(2)
    squashed = torch.tanh(after)
    slopes = torch.empty_like(gates)
    torch.mul(g, i, out=slopes[:, :, 0]).mul_(1 - i)
    torch.mul(before, f, out=slopes[:, :, 1]).mul_(1 - f)
    torch.mul(i, 1 - g.square(), out=slopes[:, :, 2])
    torch.mul(squashed, o, out=slopes[:, :, 3]).mul_(1 - o)
    return slopes, squashed.square_().neg_().add_(1).mul_(o)

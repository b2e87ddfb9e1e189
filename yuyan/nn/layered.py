"""The layers of a recurrent network one after the other, with what is dropped for a whole text.

PyTorch's cells run all layers at once and can only drop single numbers between them. Here each forward pass first draws
what is missing in it: recurrent weights, the same for every token (DropConnect on U: Merity et al. 2018, section 2), and
numbers between the layers, for each token anew or one mask for all tokens of a text (Gal & Ghahramani 2016). The fast
LSTM of `yuyan/nn/lstm.py` is run this way too.

Shapes: B batch, T tokens, D hidden size, L layers times directions, N tokens of a packed batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from yuyan.nn import lstm
from yuyan.nn.drop import Dropout, dropout

State = tuple[Tensor, ...]
"""(L, B, D) each: the hidden state, and for an LSTM the cell state."""
DropoutMasks = Literal["token", "text"]
_KERNELS: dict[type[nn.Module], Callable[..., Any]] = {nn.LSTM: torch.lstm, nn.GRU: torch.gru, nn.RNN: torch.rnn_tanh}


class Drops(NamedTuple):
    """Shares that are dropped while training."""

    between: float = 0.0
    """Of what one layer gives the next."""
    whole_text: bool = False
    """Whether that is drawn once for all tokens of a text."""
    weights: float = 0.0
    """Of the recurrent weights."""

    @property
    def need_layers(self) -> bool:
        """Whether PyTorch's cell cannot do it."""
        return self.weights > 0 or (self.whole_text and self.between > 0)


class TextDropout(nn.Module):
    """Dropout with one mask for all tokens of a text: (B, T, D) to the same (Gal & Ghahramani 2016, section 4)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        return x * dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.rate)


def dropout_module(rate: float, masks: DropoutMasks) -> nn.Module:
    """Dropout of (B, T, D)."""
    return TextDropout(rate) if masks == "text" else Dropout(rate)


class Layers:
    """A cell for one forward pass: what is dropped stays dropped, however often it is run."""

    def __init__(self, cell: nn.RNNBase, drops: Drops = Drops()):
        self.cell, self.drops = cell, drops
        self.directions = 2 if cell.bidirectional else 1
        every = [self._thinned(weights) for weights in cell.all_weights]
        self.weights = [
            [weight for one in every[at : at + self.directions] for weight in one]
            for at in range(0, len(every), self.directions)
        ]  # of each layer, one direction after the other
        self._masks: dict[int, Tensor] = {}

    def _thinned(self, weights: Sequence[Tensor]) -> list[Tensor]:
        from_input, recurrent, *biases = weights
        return [from_input, dropout(recurrent, self.drops.weights) if self.cell.training else recurrent, *biases]

    def run(self, x: Tensor, state: State, starts: Tensor | None = None) -> tuple[Tensor, State]:
        """What `cell(x, state)` gives: (B, T, D) outputs of the last layer, and the states after the last token.

        With the fast LSTM the state is forgotten before each token where `starts` (B, T) is True.
        """
        if isinstance(self.cell, nn.LSTM) and lstm.is_faster(self.cell, x):
            return self._fast(x, state, starts)
        assert starts is None
        after: list[State] = []
        for layer in range(self.cell.num_layers):
            x = self._dropped(x, layer, lambda mask: mask[:, None])
            x, *last = self._kernel(x, self._hx(state, layer), self.weights[layer], True, 1, 0.0, self.cell.training,
                                    self.cell.bidirectional, True)  # fmt: skip
            after.append(tuple(last))
        return x, self._joined(after)

    def run_packed(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
        """The same for texts of several lengths."""
        data, sizes, there, back = packed
        state = state if there is None else tuple(part.index_select(1, there) for part in state)
        rows = torch.cat([torch.arange(size, device=data.device) for size in sizes.tolist()])
        after: list[State] = []
        for layer in range(self.cell.num_layers):
            data = self._dropped(data, layer, lambda mask: mask[rows], int(sizes[0]))
            data, *last = self._kernel(data, sizes, self._hx(state, layer), self.weights[layer], True, 1, 0.0,
                                       self.cell.training, self.cell.bidirectional)  # fmt: skip
            after.append(tuple(last))
        joined = self._joined(after)
        joined = joined if back is None else tuple(part.index_select(1, back) for part in joined)
        return PackedSequence(data, sizes, there, back), joined

    def _fast(self, x: Tensor, state: State, starts: Tensor | None) -> tuple[Tensor, State]:
        carried = torch.empty(0, 0) if starts is None else (~starts).t().float().contiguous()
        out, after = x.transpose(0, 1), list[State]()
        for layer in range(self.cell.num_layers):
            out = self._dropped(out, layer, lambda mask: mask[None], out.shape[1])
            out, last = lstm.layer(out, state[0][layer], state[1][layer], self.weights[layer], carried)
            after.append((out[-1:], last[None]))
        return out.transpose(0, 1), self._joined(after)

    def _kernel(self, *arguments: Any) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = _KERNELS[type(self.cell)](*arguments)
        return result

    def _hx(self, state: State, layer: int) -> Any:
        part = tuple(each[layer * self.directions : (layer + 1) * self.directions].contiguous() for each in state)
        return list(part) if isinstance(self.cell, nn.LSTM) else part[0]

    def _dropped(self, x: Tensor, layer: int, spread: Callable[[Tensor], Tensor], rows: int | None = None) -> Tensor:
        """What a layer reads; `spread` lays a mask (B, D) over `x`."""
        rate = self.drops.between
        if not layer or not rate or not self.cell.training:
            return x
        if not self.drops.whole_text:
            return dropout(x, rate)
        if layer not in self._masks:
            self._masks[layer] = dropout(x.new_ones(rows or x.shape[0], x.shape[-1]), rate)
        return x * spread(self._masks[layer])

    def _joined(self, after: list[State]) -> State:
        return tuple(torch.cat(parts) for parts in zip(*after, strict=True))

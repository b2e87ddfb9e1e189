"""What a model is asked to do. An objective is two halves: `example` makes the question, `loss` marks the answer.

`example` runs in the data thread: pure, its randomness handed in, so that it is a function of (seed, epoch, position).
`loss` runs in the step and gives a total and a count for each example of the batch, never a mean: whoever called it
decides what to divide by. Accumulation, ranks of unequal length, metrics and privacy all rest on that.

B examples, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from yuyan.nn.linear_cross_entropy import IGNORE, linear_cross_entropy

Batch = dict[str, Tensor]
Example = dict[str, np.ndarray]


class Loss(NamedTuple):
    """`total` (B,) float32, summed over what was scored in each example; `count` (B,), how many things that was."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # shadows tuple.count, which nobody needs of a loss


class LanguageNetwork(Protocol):
    """The three methods of a network, and the last layer by itself."""

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor: ...

    def decode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor: ...

    def score(self, hidden: Tensor) -> Tensor: ...

    def before_projection(self, hidden: Tensor) -> Tensor: ...

    def output_projection(self) -> tuple[Tensor, Tensor | None]: ...


class Objective(Protocol):
    """One file in this package each; the contract is `tests/contracts/test_objectives.py`."""

    def example(self, row: np.ndarray, random: np.random.Generator) -> Example: ...

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss: ...


def token_loss(model: LanguageNetwork, hidden: Tensor, labels: Tensor) -> Loss:
    """Cross-entropy of the next-token scores of `hidden` (B, T, D) against `labels` (B, T); -100 is not scored.

    Per token -log p(label), p = softmax of the scores: the language-model objective (Bengio et al. 2003, section 2).
    """
    weight, bias = model.output_projection()
    flat = model.before_projection(hidden).flatten(0, 1)
    each = linear_cross_entropy(flat, weight, bias, labels.flatten()).view(labels.shape)
    return Loss(each.sum(1), (labels != IGNORE).sum(1))

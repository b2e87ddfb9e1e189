"""Cross-entropy of a linear layer's scores, a chunk of tokens at a time, so that the scores of a batch never exist whole.

With V the vocabulary, a batch's scores are the largest tensor of a language model: N x V numbers, three times over
(scores, probabilities, their gradient). Here each chunk makes its scores, its loss and at once its gradients, and throws
the scores away; memory is flat in the vocabulary. Softmax and loss are float32 whatever the type of the inputs.

N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
CHUNK_ELEMENTS = 1 << 21  # scores of one chunk: 8 MiB in float32, about what the caches of one core complex hold
MOST_TOKENS = 512


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """-log softmax(hidden @ weight.T + bias)[label] of every token, float32 (N,); 0 where the label is -100.

    `hidden` (N, D), `weight` (V, D), `bias` (V,) or None, `labels` (N,). Equal to `naive_linear_cross_entropy`.
    """
    result: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, labels)  # type: ignore[no-untyped-call]
    return result


def naive_linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """The same, with all scores in memory: works under vmap, higher derivatives and compilation."""
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, ignore_index=IGNORE, reduction="none")


def chunk_tokens(vocab_size: int, hidden_size: int) -> int:
    """Tokens of one chunk. Each chunk passes over the gradient of the whole table once, so with a large vocabulary a
    chunk's scores may be as large as that gradient."""
    return max(CHUNK_ELEMENTS // vocab_size, min(hidden_size, MOST_TOKENS), 16)


def _chunks(labels: Tensor, weight: Tensor) -> list[slice]:
    size = chunk_tokens(*weight.shape)
    return [slice(start, start + size) for start in range(0, len(labels), size)]


class _LinearCrossEntropy(torch.autograd.Function):
    """The forward pass also makes the gradients of the *sum* of the losses, which is what training asks for.

    A backward pass with unequal weights for the tokens makes them anew.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        eager = any(t is not None and t.requires_grad for t in (hidden, weight, bias))
        loss, gradients = _sweep(
            hidden, weight, bias, labels, None, with_gradients=eager, frozen=not weight.requires_grad
        )
        ctx.save_for_backward(hidden, weight, bias, labels, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        hidden, weight, bias, labels, *gradients = ctx.saved_tensors
        scored = upstream[labels != IGNORE]
        if len(scored) and not bool((scored == scored[0]).all()):
            frozen = not ctx.needs_input_grad[1]
            gradients = _sweep(hidden, weight, bias, labels, upstream, with_gradients=True, frozen=frozen)[1]
        elif len(scored) and float(scored[0]) != 1.0:
            gradients = [None if g is None else g * scored[0].to(g.dtype) for g in gradients]
        return gradients[0], gradients[1], gradients[2], None


def _sweep(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, scale: Tensor | None, *,
    with_gradients: bool, frozen: bool = False,
) -> tuple[Tensor, list[Tensor | None]]:  # fmt: skip
    """The losses and, if wanted, the gradients of hidden states, weight (None if it is frozen) and bias."""
    loss = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
    if not with_gradients:
        for part in _chunks(labels, weight):
            loss[part] = naive_linear_cross_entropy(hidden[part], weight, bias, labels[part])
        return loss, [None, None, None]
    d_hidden, d_weight = torch.empty_like(hidden), None
    d_bias = None if bias is None else torch.zeros(bias.shape, dtype=torch.float32, device=bias.device)
    scored = labels != IGNORE
    factor = None if scale is None and bool(scored.all()) else scored if scale is None else scored * scale
    for part in _chunks(labels, weight):
        target = labels[part].clamp(min=0)[:, None]
        scores = torch.log_softmax(F.linear(hidden[part], weight, bias), 1, dtype=torch.float32)
        loss[part] = -scores.gather(1, target).squeeze(1) * scored[part]
        d_scores = scores.exp_().scatter_add_(1, target, scores.new_full(target.shape, -1.0))
        if factor is not None:
            d_scores *= factor[part][:, None]
        if d_bias is not None:
            d_bias += d_scores.sum(0)
        d_scores = d_scores.to(weight.dtype)
        torch.mm(d_scores, weight, out=d_hidden[part])
        if not frozen:
            d_weight = _added(d_weight, d_scores.t(), hidden[part])
    return loss, [
        d_hidden,
        None if d_weight is None else d_weight.to(weight.dtype),
        None if d_bias is None or bias is None else d_bias.to(bias.dtype),
    ]


def _added(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right, summed in float32; the first product is left as it is, since it may be the only one."""
    if total is None:
        return left @ right
    if total.dtype.itemsize < 4:
        total = total.float()
    return total.addmm_(left, right) if total.dtype == right.dtype else total.add_(left @ right)

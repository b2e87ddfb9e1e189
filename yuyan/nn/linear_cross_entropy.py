"""Cross-entropy of a linear layer's scores, a chunk of tokens at a time, so that the scores of a batch never exist whole.

With V the vocabulary, a batch's scores are the largest tensor of a language model: N x V numbers, three times over
(scores, probabilities, their gradient). Here each chunk makes its scores, its loss and at once its gradients, and throws
the scores away; memory is flat in the vocabulary. Softmax and loss are float32 whatever the type of the inputs.

What is trained may be more than what is reported: with a `CrossEntropy` that smooths labels or holds the scores down, the
value stays the plain cross-entropy, comparable with that of any run, and only the gradient is that of the whole.

N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.nn.linear import linear, turned_product
from yuyan.nn.words import add_words, has_words, share, words

IGNORE = -100
CHUNK_ELEMENTS = 1 << 21  # scores of one chunk: 8 MiB in float32, about what the caches of one core complex hold
MOST_TOKENS = 512
ROWS = 1 << 13  # of the gradient of the table, at once


class CrossEntropy(Config):
    """What a token's loss is trained as: cross-entropy, and what is added for the gradient's sake alone."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7)."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared logarithm of the sum of exp(scores), which keeps scores from drifting; 1e-4 is usual (Chowdhery et al. 2022, section 5)."""


PLAIN = CrossEntropy()


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, trained: CrossEntropy = PLAIN
) -> Tensor:
    """-log softmax(hidden @ weight.T + bias)[label] of every token, float32 (N,); 0 where the label is -100.

    `hidden` (N, D), `weight` (V, D), `bias` (V,) or None, `labels` (N,). Equal to `naive_linear_cross_entropy`; the
    gradient is that of what `trained` adds as well.
    """
    if not torch.is_grad_enabled():
        return _sweep(hidden, weight, bias, labels, None, trained, with_gradients=False)[0]
    result: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, labels, trained)  # type: ignore[no-untyped-call]
    return result


def naive_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, trained: CrossEntropy = PLAIN
) -> Tensor:
    """The same, with all scores in memory: works under vmap, higher derivatives and compilation."""
    scores = F.linear(hidden, weight, bias).float()
    plain = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
    if trained == PLAIN:
        return plain
    whole = F.cross_entropy(
        scores, labels, ignore_index=IGNORE, reduction="none", label_smoothing=trained.label_smoothing
    )
    whole = whole + trained.z_loss * scores.logsumexp(1).square() * (labels != IGNORE)
    return plain.detach() + (whole - whole.detach())


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
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, trained: CrossEntropy
    ) -> Tensor:
        ctx.trained = trained
        eager = any(t is not None and t.requires_grad for t in (hidden, weight, bias))
        loss, gradients = _sweep(
            hidden, weight, bias, labels, None, trained, with_gradients=eager, frozen=not weight.requires_grad
        )
        ctx.save_for_backward(hidden, weight, bias, labels, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        hidden, weight, bias, labels, *gradients = ctx.saved_tensors
        scored = upstream[labels != IGNORE]
        if len(scored) and not bool((scored == scored[0]).all()):
            frozen = not ctx.needs_input_grad[1]
            gradients = _sweep(hidden, weight, bias, labels, upstream, ctx.trained, with_gradients=True, frozen=frozen)[
                1
            ]
        elif len(scored) and float(scored[0]) != 1.0:
            gradients = [None if g is None else g * float(scored[0]) for g in gradients]
        return gradients[0], gradients[1], gradients[2], None, None


def _sweep(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, scale: Tensor | None,
    trained: CrossEntropy, *, with_gradients: bool, frozen: bool = False,
) -> tuple[Tensor, list[Tensor | None]]:  # fmt: skip
    """The losses and, if wanted, the gradients of hidden states, weight (None if it is frozen) and bias."""
    loss = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
    if not with_gradients:
        for part in _chunks(labels, weight):
            scores = linear(hidden[part], weight, bias).float()
            loss[part] = F.cross_entropy(scores, labels[part], ignore_index=IGNORE, reduction="none")
        return loss, [None, None, None]
    d_hidden, d_weight = torch.empty_like(hidden), None
    d_bias = None if bias is None else torch.zeros(bias.shape, dtype=torch.float32, device=bias.device)
    scored = labels != IGNORE
    factor = None if scale is None and bool(scored.all()) else scored if scale is None else scored * scale
    through = _in_one_pass if has_words(hidden) else _by_operations
    for part in _chunks(labels, weight):
        scores = linear(hidden[part], weight, bias)
        d_scores = through(scores, labels[part], None if factor is None else factor[part], trained, loss[part], d_bias)
        d_hidden[part] = linear(d_scores, weight.t())
        if not frozen:
            d_weight = _added(d_weight, d_scores, hidden[part])
        del scores, d_scores
    return loss, [
        d_hidden,
        None if d_weight is None else d_weight.to(weight.dtype),
        None if d_bias is None or bias is None else d_bias.to(bias.dtype),
    ]


def _by_operations(
    scores: Tensor, labels: Tensor, factor: Tensor | None, trained: CrossEntropy, loss: Tensor, d_bias: Tensor | None
) -> Tensor:
    """(n, V) gradients of `scores`, each row times its `factor`; the losses are put into `loss`, and `d_bias` grows."""
    target, given, scores = labels.clamp(min=0)[:, None], scores.dtype, scores.float()
    p = torch.softmax(scores, 1)
    # exp is most of the work here, so it is done once: the largest p is at least 1 / V, and its logarithm exact
    log_sum = scores.amax(1, keepdim=True) - p.amax(1, keepdim=True).log_()
    loss.copy_((log_sum - scores.gather(1, target)).squeeze(1) * (labels != IGNORE))
    del scores
    d_scores = _d_scores(p, log_sum, target, trained)
    if factor is not None:
        d_scores *= factor[:, None]
    if d_bias is not None:
        d_bias += d_scores.sum(0)
    return d_scores.to(given)


def _in_one_pass(
    scores: Tensor, labels: Tensor, factor: Tensor | None, trained: CrossEntropy, loss: Tensor, d_bias: Tensor | None
) -> Tensor:
    """The same in the place of `scores`, which are bfloat16 on a CPU."""
    from yuyan.nn import kernels

    factors = torch.ones(len(labels)) if factor is None else factor.float()
    arrays = (words(scores), labels.contiguous().numpy(), factors.contiguous().numpy())
    more = (np.float32(trained.label_smoothing), np.float32(trained.z_loss), loss.numpy())

    def work(first: int, last: int) -> npt.NDArray[np.float32]:
        total = np.zeros(0 if d_bias is None else len(d_bias), np.float32)
        kernels.cross_entropy(first, last, *arrays, *more, total)
        return total

    for total in share(len(labels), scores.numel(), work):
        if d_bias is not None:
            d_bias += torch.from_numpy(total)
    return scores


def _d_scores(p: Tensor, log_sum: Tensor, target: Tensor, trained: CrossEntropy) -> Tensor:
    """(n, V) in the place of `p`: softmax minus label for each score; `log_sum` (n, 1) is that of all exp(scores)."""
    if trained.z_loss:
        p *= 1 + 2 * trained.z_loss * log_sum
    if trained.label_smoothing:
        p -= trained.label_smoothing / p.shape[1]
    return p.scatter_add_(1, target, p.new_full(target.shape, trained.label_smoothing - 1.0))


def _added(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """total + left.T @ right, summed in float32; the first product is left as it is, since it may be the only one.

    bfloat16 is done some words of the vocabulary at a time: a product with fewer rows is faster, and is added while at hand.
    """
    if not has_words(left):
        return turned_product(left, right) if total is None else total.add_(turned_product(left, right))
    first = total is None
    if total is None:
        total = left.new_empty(left.shape[1], right.shape[1])
    total = total if first else total.float()
    for start in range(0, len(total), ROWS):
        part = turned_product(left[:, start : start + ROWS], right)
        if first:
            total[start : start + ROWS] = part
        else:
            add_words(total[start : start + ROWS], part)
    return total

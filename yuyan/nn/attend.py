"""The kernel under every attention: softmax(Q K^T * scale + mask) V, by the fastest means that is exact.

In float32 that is PyTorch's fused kernel. In bfloat16 on a CPU its products run at a fifth of what the processor reaches, and
its backward pass at a few per cent. There attention is computed in blocks of queries, each against the keys it may
see, with products that run at full speed; for a backward pass the probabilities are kept. What no query of a block sees,
before its first key or after its last, is not computed: so a causal mask, a window, and the documents of a packed row save time.
Dropout of the probabilities is drawn as in `yuyan/nn/drop.py`, once a block, and drawn again in the backward pass.

Shapes: B batch, H heads, T tokens, S keys, K head size; N = B x H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.nn.drop import drawn_seed, dropped
from yuyan.nn.transforms import under_transform
from yuyan.nn.words import has_words, share, words

LONGEST_BLOCKED = 2048  # the kept probabilities grow with the square of the length
LARGEST_BLOCK = 1 << 25  # scores of one block, 64 MiB
WHOLE = 1 << 24  # scores up to which a block is as large as it can be where no key can be left out
ALIGNED = 16  # keys; products of other sizes are slower


class Reach(NamedTuple):
    """For each query the first key that it sees in some row, and the place after the last."""

    first: list[int]
    end: list[int]


def reach_of(mask: Tensor) -> Reach | None:
    """The reach of a mask of booleans with four axes; None where it is the same for all queries, or nobody would ask."""
    if mask.shape[2] == 1 or mask.device.type != "cpu" or under_transform():
        return None
    seen = mask.flatten(0, 1).any(0).to(torch.uint8)
    end = seen.shape[1] - seen.flip(1).argmax(1)
    return Reach(seen.argmax(1).tolist(), end.tolist())


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool, scale: float | None, dropout: float,
    reach: Reach | None = None,
) -> Tensor:  # fmt: skip
    """(B, H, T, K) queries on (B, G, S, K) keys and values, G heads shared by H / G queries each.

    `mask` as in `scaled_dot_product_attention`, with four axes; with `causal` query t sees the keys up to t. `reach` is
    that of the mask, if it is known.
    """
    if (mask is None or not causal) and _blocked_is_faster(query, key, value, mask):
        shared = query.shape[1] // key.shape[1]
        if shared > 1:
            key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        size = block_size(query.shape[2])
        if not causal and reach is None:  # nothing can be left out
            size = max(size, WHOLE // (query.shape[0] * query.shape[1] * key.shape[2]))
        blocks = blocks_of(query.shape[2], key.shape[2], causal, reach, size)
        drop = Drop(dropout, [drawn_seed() for _ in blocks]) if dropout else None
        if not _differentiated(query, key, value, mask):
            return _forward(query, key, value, mask, blocks, scale, None, drop)
        result: Tensor = Blocked.apply(query, key, value, mask, blocks, scale, drop)  # type: ignore[no-untyped-call]
        return result
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, dropout_p=dropout,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


def _blocked_is_faster(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and batch * heads * min(block_size(queries), queries) * keys <= LARGEST_BLOCK
        and (keys <= LONGEST_BLOCKED or not _differentiated(query, key, value, mask))
        and not under_transform()
    )


def _differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, blocks: list[Block], scale: float,
    kept: list[Tensor] | None, drop: Drop | None,
) -> Tensor:  # fmt: skip
    """Block after block; the probabilities of each, before dropout, are added to `kept`."""
    batch, heads, queries, _ = query.shape
    query, key, value = _joined(query, key, value)
    outputs = []
    for number, (rows, seen, causal) in enumerate(blocks):
        part = None if mask is None else mask[:, :, rows if mask.shape[2] > 1 else slice(None), seen]
        numbers = None if part is None or part.dtype == torch.bool else part
        near = key[:, seen].contiguous()  # the product would copy a view in the order of its transpose, slowly
        scores = _scores(query[:, rows], near, scale, numbers, heads)
        if part is not None and part.dtype == torch.bool:
            scores.view(batch, heads, -1, scores.shape[-1]).masked_fill_(~part, float("-inf"))
        weights = _softmax(scores, scale if numbers is None else 1.0, causal)
        used = weights if drop is None else drop.of(number, weights)
        outputs.append(torch.bmm(used, value[:, seen]))
        if kept is not None:
            kept.append(weights)
    return _one(outputs).view(batch, heads, queries, -1)


def _scores(query: Tensor, key: Tensor, scale: float, added: Tensor | None, heads: int) -> Tensor:
    """(N, T, S): Q K^T, or Q K^T * scale + added, rounded to bfloat16 once."""
    if added is None:
        return torch.bmm(query, key.transpose(1, 2))
    shape = (query.shape[0] // heads, heads, query.shape[1], key.shape[1])
    return torch.baddbmm(added.expand(shape).flatten(0, 1), query, key.transpose(1, 2), alpha=scale)


def _softmax(scores: Tensor, scale: float, causal: bool) -> Tensor:
    """softmax(scale * scores) in their place, float32 inside; with `causal` the last queries and keys are the same tokens,
    and hide from each other what comes later."""
    queries = scores.shape[1]
    if not has_words(scores):
        if causal:
            later = torch.ones(queries, queries, dtype=torch.bool, device=scores.device).triu(1)
            scores[..., -queries:].masked_fill_(later, float("-inf"))
        return torch.softmax(scores * scale, -1)
    from yuyan.nn import kernels

    rows, number, hidden = words(scores).reshape(-1, scores.shape[2]), np.float32(scale), queries - 1 if causal else 0
    share(len(rows), scores.numel(), lambda first, last: kernels.softmax(first, last, rows, number, queries, hidden))
    return scores


def _softmax_gradient(d_weights: Tensor, weights: Tensor, scale: float) -> Tensor:
    """That of the scores before they were multiplied by `scale`; of words in the place of `d_weights`."""
    if not (has_words(weights) and has_words(d_weights)):
        return torch._softmax_backward_data(d_weights, weights, -1, weights.dtype) * scale
    from yuyan.nn import kernels

    given, slopes = (words(x).reshape(-1, x.shape[2]) for x in (weights, d_weights))
    number = np.float32(scale)
    share(len(given), weights.numel(), lambda first, last: kernels.d_softmax(first, last, given, slopes, number))
    return d_weights


class Drop(NamedTuple):
    """Dropout of the probabilities of an attention: its rate, and a seed for each block."""

    rate: float
    seeds: list[int]

    def of(self, block: int, numbers: Tensor) -> Tensor:
        """What is left of the probabilities of a block, or of their gradient."""
        return dropped(numbers, self.rate, self.seeds[block])


class Blocked(torch.autograd.Function):
    """Attention in blocks of queries; gradients of the mask too, where it is numbers (T5's bias)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, blocks: list[Block], scale: float,
        drop: Drop | None = None,
    ) -> Tensor:  # fmt: skip
        kept: list[Tensor] = []
        output = _forward(query, key, value, mask, blocks, scale, kept, drop)
        ctx.save_for_backward(query, key, value, mask, *kept)
        ctx.blocks, ctx.scale, ctx.drop = blocks, scale, drop
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, *kept = ctx.saved_tensors
        shapes = [x.shape for x in (query, key, value)]
        query, key, value, d_output = _joined(query, key, value, d_output)
        keys = key.shape[1]
        d_queries, d_masks, d_key, d_value = [], [], None, None
        for number in reversed(range(len(kept))):
            (rows, seen, _), weights = ctx.blocks[number], kept[number]
            used = weights if ctx.drop is None else ctx.drop.of(number, weights)
            d_rows = d_output[:, rows]
            d_weights = torch.bmm(d_rows, value[:, seen].contiguous().transpose(1, 2))
            if ctx.drop is not None:
                d_weights = ctx.drop.of(number, d_weights)
            d_scores = _softmax_gradient(d_weights, weights, 1.0 if ctx.needs_input_grad[3] else ctx.scale)
            if ctx.needs_input_grad[3]:
                d_masks.append(_mask_gradient(d_scores.view(*shapes[0][:2], *d_scores.shape[1:]), mask))
                d_scores.mul_(ctx.scale)
            d_queries.append(torch.bmm(d_scores, key[:, seen]))
            d_block = torch.bmm(d_scores.transpose(1, 2), query[:, rows])
            d_key = _added(d_key, seen, d_block, keys, len(kept))
            d_value = _added(d_value, seen, torch.bmm(used.transpose(1, 2), d_rows), keys, len(kept))
        assert d_key is not None and d_value is not None
        gradients = (_one(d_queries[::-1]), d_key.to(key.dtype), d_value.to(value.dtype))
        given = (g.view(shape) for g, shape in zip(gradients, shapes, strict=True))
        return *given, _whole(d_masks, mask), None, None, None


def _joined(*tensors: Tensor) -> list[Tensor]:
    """(B, H, T, K) as (N, T, K), which products run fastest on."""
    return [x.contiguous().flatten(0, 1) for x in tensors]


def _one(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _added(total: Tensor | None, seen: slice, part: Tensor, keys: int, blocks: int) -> Tensor:
    """The running sum over blocks of queries, in float32; of one block that sees all keys there is nothing to sum."""
    if total is None and part.shape[1] == keys:
        return part if blocks == 1 else part.float()
    if total is None:
        total = part.new_zeros(part.shape[0], keys, part.shape[2], dtype=torch.float32)
    total[:, seen] += part
    return total


def _mask_gradient(d_scores: Tensor, mask: Tensor) -> Tensor:
    """(B, H, T, S) summed over the axes that the mask has not, in float32."""
    absent = [axis for axis in range(4) if mask.shape[axis] == 1 != d_scores.shape[axis]]
    return d_scores.sum(absent, keepdim=True, dtype=torch.float32) if absent else d_scores.to(torch.float32, copy=True)


def _whole(parts: list[Tensor], mask: Tensor | None) -> Tensor | None:
    """The mask's gradient from those of the blocks, the last block first."""
    if not parts or mask is None:
        return None
    total = torch.cat(parts[::-1], dim=2) if mask.shape[2] > 1 else torch.stack(parts).sum(0)
    return total.to(mask.dtype)


class Block(NamedTuple):
    """Queries that are computed together, and the keys that they may see; with `causal` the last ones hide each other."""

    rows: slice
    seen: slice
    causal: bool


def blocks_of(queries: int, keys: int, causal: bool, reach: Reach | None, size: int) -> list[Block]:
    """All queries, `size` after `size`."""
    blocks = list[Block]()
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        first, end = 0, stop if causal else keys
        if reach is not None:
            first = min(reach.first[start:stop]) // ALIGNED * ALIGNED
            end = min(-(-max(reach.end[start:stop]) // ALIGNED) * ALIGNED, keys)
        blocks.append(Block(slice(start, stop), slice(first, end), causal))
    return blocks


def block_size(length: int) -> int:
    """Queries of one block: small enough to skip most of what a causal mask hides, large enough for fast products."""
    return 64 if length <= 256 else 128

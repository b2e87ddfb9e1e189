"""The kernel under every attention: softmax(Q K^T * scale + mask) V, by the fastest means that is exact.

PyTorch's fused kernel is the means everywhere but in one place: its backward pass in bfloat16 on a CPU runs at a few
per cent of what the processor's matrix products reach. There a causal attention is computed in blocks of queries, each
against the keys it may see, with products that run at full speed; the probabilities are kept for the backward pass.

Shapes: B batch, H heads, T tokens, K head size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST_BLOCKED = 2048  # the kept probabilities grow with the square of the length


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool, scale: float | None, dropout: float
) -> Tensor:
    """(B, H, T, K) queries on (B, G, S, K) keys and values, G heads shared by H / G queries each.

    `mask` as in `scaled_dot_product_attention`; with `causal` query t sees the keys up to t.
    """
    if causal and mask is None and dropout == 0.0 and _blocked_is_faster(query, key):
        shared = query.shape[1] // key.shape[1]
        if shared > 1:
            key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        result: Tensor = BlockedCausal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return result
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, dropout_p=dropout,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


def _blocked_is_faster(query: Tensor, key: Tensor) -> bool:
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.requires_grad
        and torch.is_grad_enabled()
        and query.shape[2] == key.shape[2] <= LONGEST_BLOCKED
        and not torch.compiler.is_compiling()
    )


class BlockedCausal(torch.autograd.Function):
    """Causal attention in blocks of queries; softmax in float32."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        length, size = query.shape[2], block_size(query.shape[2])
        output, kept = torch.empty_like(query), []
        later = torch.ones(size, size, dtype=torch.bool, device=query.device).triu(1)
        for start in range(0, length, size):
            stop = min(start + size, length)
            scores = torch.matmul(query[:, :, start:stop], key[:, :, :stop].transpose(2, 3)).float().mul_(scale)
            scores[..., start:].masked_fill_(later[: stop - start, : stop - start], float("-inf"))
            weights = torch.softmax(scores, -1).to(query.dtype)
            output[:, :, start:stop] = torch.matmul(weights, value[:, :, :stop])
            kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *kept = ctx.saved_tensors
        d_output, size = d_output.contiguous(), block_size(query.shape[2])
        d_query = torch.empty_like(query)
        d_key, d_value = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (key, value))
        for block, weights in enumerate(kept):
            rows = slice(block * size, min((block + 1) * size, query.shape[2]))
            d_rows, seen = d_output[:, :, rows], slice(0, rows.stop)
            d_weights = torch.matmul(d_rows, value[:, :, seen].transpose(2, 3))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype).mul_(ctx.scale)
            d_query[:, :, rows] = torch.matmul(d_scores, key[:, :, seen])
            d_key[:, :, seen] += torch.matmul(d_scores.transpose(2, 3), query[:, :, rows])
            d_value[:, :, seen] += torch.matmul(weights.transpose(2, 3), d_rows)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None


def block_size(length: int) -> int:
    """Queries of one block: small enough to skip most of what is masked, large enough for fast products."""
    return 64 if length <= 256 else 128

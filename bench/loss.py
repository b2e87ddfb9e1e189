"""Memory of the loss over the vocabulary: `python bench/loss.py [--quick]`.

Scores of 2,048 tokens by a table of 8k, 32k and 128k rows of 384 bfloat16 numbers, cross-entropy, and the gradients of the
hidden states and of the table: ours, a chunk of tokens at a time, and the plain one, which holds all scores. Memory is the
most that PyTorch had allocated at once, without the table and its gradient, which both need; time is the median of some
turns, one after the other. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import yuyan  # noqa: F401  # isort: skip  (before torch: it chooses how threads wait)

import torch  # isort: skip
from models import most_memory

from yuyan.nn.linear_cross_entropy import linear_cross_entropy, naive_linear_cross_entropy
from yuyan.train.allocator import keep_freed_memory

TOKENS, WIDTH = 2048, 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the smallest vocabulary")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = [row(size, options.turns) for size in ((8192,) if options.quick else (8192, 32768, 131072))]
    print(json.dumps({"bench": "loss", "rows": rows}))


def row(vocabulary: int, turns: int) -> dict[str, Any]:
    """Ours against the plain loss."""
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Embedding(vocabulary, WIDTH, dtype=torch.bfloat16)
    table.weight.data.normal_(std=0.05, generator=generator)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).bfloat16().requires_grad_()
    labels = torch.randint(0, vocabulary, (TOKENS,), generator=generator)
    losses = dict[str, float]()

    def work(name: str, function: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def once() -> None:
            table.weight.grad = hidden.grad = None
            total = function(hidden, table.weight, None, labels).sum()
            total.backward()
            losses[name] = float(total.detach()) / TOKENS

        return once

    sides = {"ours": work("ours", linear_cross_entropy), "plain": work("plain", naive_linear_cross_entropy)}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, once in sides.items():
            begun = time.perf_counter()
            once()
            if turn:
                spent[name].append(time.perf_counter() - begun)
    needed = 2 * vocabulary * WIDTH
    memory = {name: (most_memory(table, once) - needed) / 1e6 for name, once in sides.items()}
    seconds = {name: statistics.median(times) for name, times in spent.items()}
    print(
        f"{vocabulary:7,} words: ours {memory['ours']:6,.0f} MB, {seconds['ours'] * 1e3:6,.0f} ms   "
        f"plain {memory['plain']:6,.0f} MB, {seconds['plain'] * 1e3:6,.0f} ms   loss {losses['ours']:.4f} {losses['plain']:.4f}",
        flush=True,
    )
    return {
        "name": f"loss, vocabulary {vocabulary}", "unit": "MB beyond the table and its gradient", "ours": memory["ours"],
        "peer": "plain cross-entropy", "peer_value": memory["plain"], "ratio": memory["plain"] / memory["ours"],
        "ours_seconds": seconds["ours"], "peer_seconds": seconds["plain"],
        "equal_output": abs(losses["ours"] - losses["plain"]) < 0.01,
    }  # fmt: skip


if __name__ == "__main__":
    main()

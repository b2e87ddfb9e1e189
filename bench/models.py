"""Forward and backward passes against transformers: `python bench/models.py [--quick] [--only gpt]`.

GPT-2 small, BERT base and T5 small with random weights, which are the same on both sides; float32 and bfloat16, one and
two threads. `forward` is the scores of every position without gradients; `training` is the summed loss and its gradients,
each side by its own means (ours never holds all scores; of BERT 15 % of the positions are labels). Dropout is off. Ours and
the peer take turns; a figure is the median, in tokens per second of wall time, and the ratio of processor times is
beside it, which a busy machine disturbs less. "padded" is a batch of unequal texts with its attention mask; tokens are
real tokens. The peer has `attn_implementation="sdpa"`, both keep freed memory (yuyan.train.allocator), and `--peer-onednn`
also gives the peer's float32 products to oneDNN, which ours ask of their own accord. `MiB` is the most memory that
PyTorch's tensors took beyond the weights, in one pass before the timed ones. The causal path must get no mask tensor,
and run on PyTorch's fused kernel or on ours in blocks: the output says which. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yuyan  # noqa: F401  # sets how threads wait, before torch is there

# isort: split
import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from yuyan.hub import read_model
from yuyan.models.network import NetworkModule
from yuyan.nn import attend, attention
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives.base import sparse_token_loss, token_loss
from yuyan.train.allocator import keep_freed_memory

Batch = dict[str, Tensor]
Row = dict[str, Any]
PEER = f"transformers {transformers.__version__}"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""How far the scores may be apart, as a share of the largest."""


class Case(NamedTuple):
    """One published shape."""

    name: str
    make: Callable[[bool], Any]
    """Their model; with few layers if it has to be quick."""
    rows: int
    length: int
    causal: bool
    labelled: float
    """Share of the positions that are labels."""
    target: int = 0
    """Length of what a decoder beside an encoder writes."""
    padded: bool = False
    """Whether texts are of unequal lengths."""


def gpt2(quick: bool) -> Any:
    layers = {"n_layer": 2} if quick else {}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **layers)
    )


def bert(quick: bool) -> Any:
    layers = {"num_hidden_layers": 2} if quick else {}
    return transformers.BertForMaskedLM(
        transformers.BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **layers)
    )


def t5(quick: bool) -> Any:
    layers = {"num_layers": 2, "num_decoder_layers": 2} if quick else {}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(dropout_rate=0.0, **layers)  # its defaults are T5 small
    )


CASES = (
    Case("GPT-2 small", gpt2, 2, 256, causal=True, labelled=1.0),
    Case("BERT base", bert, 4, 128, causal=False, labelled=0.15),
    Case("BERT base padded", bert, 4, 128, causal=False, labelled=0.15, padded=True),
    Case("T5 small", t5, 4, 128, causal=False, labelled=1.0, target=64),
    Case("T5 small padded", t5, 4, 128, causal=False, labelled=1.0, target=64, padded=True),
)


def batch_of(case: Case, vocab_size: int) -> Batch:
    """Random texts and labels; padded, row i of n has (n - i) / n of the length."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, vocab_size, (case.rows, case.length), generator=generator)
    batch: Batch = {"input_ids": ids}
    if case.padded:
        lengths = torch.arange(case.rows, 0, -1) * case.length // case.rows
        batch["attention_mask"] = (torch.arange(case.length) < lengths[:, None]).long()
        batch["input_ids"] = ids = ids * batch["attention_mask"]
    if case.target:
        targets = torch.randint(5, vocab_size, (case.rows, case.target), generator=generator)
        return {**batch, "decoder_input_ids": targets, "labels": targets.roll(-1, 1)}
    if case.causal:
        return {**batch, "labels": ids.roll(-1, 1)}
    chosen = torch.rand(ids.shape, generator=generator) < case.labelled
    if case.padded:
        chosen &= batch["attention_mask"].bool()
    return {**batch, "labels": ids.masked_fill(~chosen, IGNORE)}


# ---------------------------------------------------------------- what is timed


def our_hidden(model: NetworkModule, batch: Batch) -> Tensor:
    mask = batch.get("attention_mask")
    if "decoder_input_ids" in batch:
        memory = model.encode(batch["input_ids"], mask)
        return model.decode(batch["decoder_input_ids"], memory=memory, memory_mask=mask)
    return model.read(batch["input_ids"], mask)


def our_loss(model: NetworkModule, batch: Batch, case: Case) -> Tensor:
    loss = (sparse_token_loss if case.labelled < 1 else token_loss)(model, our_hidden(model, batch), batch["labels"])
    return loss.total.sum()


def their_scores(model: Any, batch: Batch) -> Tensor:
    """As in training: nothing is kept for tokens to come."""
    inputs: Row = {key: value for key, value in batch.items() if key != "labels"}
    cache = {} if model.config.model_type == "bert" else {"use_cache": False}
    scores: Tensor = model(**inputs, **cache).logits
    return scores


def their_loss(model: Any, batch: Batch) -> Tensor:
    """Cross-entropy of their scores. Not their own `labels=`, which shifts them for some families and not for others."""
    flat = their_scores(model, batch).flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(flat, batch["labels"].flatten(), ignore_index=IGNORE, reduction="sum")


def train(model: Any, loss: Callable[[], Tensor]) -> float:
    model.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    return float(value.detach())


class Timed(NamedTuple):
    """Medians of one side."""

    wall: float
    processor: float


def alternate(repeats: int, *works: Callable[[], object]) -> list[Timed]:
    """Run the works in turns, each once before it counts."""
    spent: list[list[tuple[float, float]]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, times in zip(works, spent, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            work()
            if turn:
                times.append((time.perf_counter() - wall, time.process_time() - processor))
    return [Timed(*(statistics.median(column) for column in zip(*times, strict=True))) for times in spent]


def most_memory(model: Any, work: Callable[[], object]) -> int:
    """The most bytes that PyTorch had allocated at once in one pass, beyond what there was before it."""
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    alive = most = 0
    events = profiled.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def attention_of(model: NetworkModule, batch: Batch) -> set[str]:
    """How ours computes attention in a pass like this: fused or in blocks, and whether it was given a mask."""
    kinds: set[str] = set()

    def watched(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any) -> Tensor:
        blocked = settings["dropout"] == 0.0 and attend._blocked_is_faster(query, key, value, mask)
        plain = not blocked and mask is not None and mask.requires_grad and torch.is_grad_enabled()
        kind = "blocked" if blocked else "plain" if plain else "fused"
        kinds.add(kind if mask is None else f"{kind}+mask")
        return attend.attend(query, key, value, mask, **settings)

    with mock.patch.object(attention, "attend", watched):
        our_hidden(model, batch)
    return kinds


# ---------------------------------------------------------------- one case


def bench_case(case: Case, quick: bool, threads: list[int], repeats: int) -> list[Row]:
    torch.manual_seed(0)
    theirs = case.make(quick).eval()
    theirs.set_attn_implementation("sdpa")
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = read_model(Path(folder))
    batch, rows = batch_of(case, theirs.config.vocab_size), []
    for dtype in (torch.float32, torch.bfloat16):
        ours.to(dtype)
        theirs.to(dtype)
        for count in threads:
            torch.set_num_threads(count)
            rows += [forward(case, ours, theirs, batch, repeats), training(case, ours, theirs, batch, repeats)]
        for model in (ours, theirs):
            model.zero_grad(set_to_none=True)
    return rows


def forward(case: Case, ours: NetworkModule, theirs: Any, batch: Batch, repeats: int) -> Row:
    @torch.no_grad()
    def mine() -> Tensor:
        return ours.score(our_hidden(ours, batch))

    @torch.no_grad()
    def other() -> Tensor:
        return their_scores(theirs, batch)

    with torch.no_grad():
        kinds = attention_of(ours, batch)
    first, second = mine().float(), other().float()
    if case.padded and not case.target:  # what stands at padding means nothing
        first, second = (x[batch["attention_mask"].bool()] for x in (first, second))
    difference = float((first - second).abs().max() / second.abs().max())
    memory = most_memory(ours, mine), most_memory(theirs, other)
    return report(case, "forward", ours, batch, alternate(repeats, mine, other), difference, kinds, memory)


def training(case: Case, ours: NetworkModule, theirs: Any, batch: Batch, repeats: int) -> Row:
    def mine() -> float:
        return train(ours, lambda: our_loss(ours, batch, case))

    def other() -> float:
        return train(theirs, lambda: their_loss(theirs, batch))

    kinds = attention_of(ours, batch)
    difference = abs(mine() - other()) / abs(other())
    memory = most_memory(ours, mine), most_memory(theirs, other)
    return report(case, "training", ours, batch, alternate(repeats, mine, other), difference, kinds, memory)


def report(
    case: Case, what: str, ours: NetworkModule, batch: Batch, times: list[Timed], difference: float, kinds: set[str],
    memory: tuple[int, int],
) -> Row:  # fmt: skip
    """One line of the table."""
    mine, other = times
    read = int(batch["attention_mask"].sum()) if case.padded else case.rows * case.length
    dtype, tokens = next(ours.parameters()).dtype, read + case.rows * case.target
    name = f"{case.name}, {what}, {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    row: Row = {
        "name": name, "unit": "tokens/s", "ours": tokens / mine.wall, "peer": PEER, "peer_value": tokens / other.wall,
        "ratio": other.wall / mine.wall, "processor_ratio": other.processor / mine.processor,
        "equal_output": difference < TOLERANCE[dtype], "difference": difference, "attention": sorted(kinds),
        "memory": memory[0], "peer_memory": memory[1],
    }  # fmt: skip
    print(
        f"{name:50} {row['ours']:7,.0f} tokens/s  theirs {row['peer_value']:7,.0f}  ratio {row['ratio']:.2f}"
        f" (processor {row['processor_ratio']:.2f})  MiB {memory[0] >> 20} / {memory[1] >> 20}"
        f"  difference {difference:.0e}  {' '.join(sorted(kinds))}",
        flush=True,
    )
    if case.causal and kinds not in ({"fused"}, {"blocked"}):
        print(f"{name}: the causal path lost the fused kernel", file=sys.stderr)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two layers, shorter texts, three turns")
    parser.add_argument("--only", help="a case by the beginning of its name: gpt, bert, t5")
    parser.add_argument("--peer-onednn", action="store_true", help="float32 products of the peer through oneDNN too")
    settings = parser.parse_args()
    keep_freed_memory()
    if settings.peer_onednn:  # for the whole process; ours does not depend on it
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = [count for count in (1, 2) if count <= cores]
    rows: list[Row] = []
    for case in CASES:
        if settings.only and not case.name.lower().startswith(settings.only.lower()):
            continue
        if settings.quick:
            case = case._replace(rows=2, length=case.length // 2, target=case.target // 2)
        rows += bench_case(case, settings.quick, threads, repeats=3 if settings.quick else 5)
    print(json.dumps({"bench": "models", "rows": rows}))


if __name__ == "__main__":
    main()

"""tiny-shakespeare by characters, nanoGPT's published split and window protocol, at equal wall time.

    python bench/shakespeare.py [--quick] [--seconds 180] [key=value ...]

Protocol: the first 90 % of the 1,115,394 characters train, the last 10 % validate. The score is the mean cross-entropy, in
nats a character, over windows of `context` characters that follow each other without overlap and see nothing before them
(nanoGPT draws such windows at random; here every one of them is scored). Published for nanoGPT's CPU setting (4 layers, 4
heads, 128 wide, context 64, batch 12, 2,000 steps, about 3 minutes on a laptop): 1.88.

The peer is that setting in transformers' GPT-2, a plain float32 loop with nanoGPT's schedule, for the same wall time.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import yuyan  # noqa: F401  # isort: skip  (before torch: it chooses how threads wait)

import torch  # isort: skip
import numpy as np
from brown import data_folder

from yuyan.commands.run import read_run_config
from yuyan.commands.train import train_command
from yuyan.objectives import NextToken
from yuyan.tasks.language_model import LanguageModel

CONFIG = Path(__file__).parents[1] / "configs" / "small" / "characters.yaml"


def window_nats(score, ids: np.ndarray, context: int) -> float:
    """Mean of -log p over windows of `context` tokens of `ids`; `score(inputs, labels)` gives the sum of a batch."""
    count = (len(ids) - 1) // context
    starts = np.arange(count) * context
    total = 0.0
    for part in range(0, count, 64):
        rows = torch.from_numpy(ids[starts[part : part + 64, None] + np.arange(context + 1)])
        total += score(rows[:, :-1], rows[:, 1:])
    return total / (count * context)


def ours(file: Path, seconds: float, overrides: list[str], folder: Path) -> dict[str, float]:
    settings = [f"data.sources=[{file}]", f"train.budget={seconds:.0f}s", *overrides]
    config = read_run_config(CONFIG, settings)
    started, cpu = time.monotonic(), time.process_time()
    result = train_command(config, folder, resume=False)
    spent, cpu = time.monotonic() - started, time.process_time() - cpu
    model = LanguageModel.load(folder)
    text = file.read_text(encoding="utf-8")
    ids = np.array(model.tokenizer.encode(text[int(len(text) * 0.9) :]))

    @torch.no_grad()
    def score(inputs: torch.Tensor, labels: torch.Tensor) -> float:
        return float(NextToken().loss(model.network, {"input_ids": inputs, "labels": labels}).total.double().sum())

    curve = [(round(r["seconds"]), round(r["validation"]["nats"] / r["validation"]["tokens"], 4))
             for r in result.log if "validation" in r]  # fmt: skip
    return {
        "nats": window_nats(score, ids, config.train.context), "whole_text_nats": result.validation.nats / result.validation.tokens,
        "seconds": result.seconds, "all_seconds": spent, "cpu_seconds": cpu, "parameters": result.parameters,
        "tokens": result.tokens, "context": config.train.context, "curve": curve,
    }  # fmt: skip


def peer(file: Path, seconds: float) -> dict[str, float]:
    """nanoGPT's CPU setting with transformers' GPT-2; the schedule's length is fixed by a measured first 20 steps."""
    from transformers import GPT2Config, GPT2LMHeadModel

    text = file.read_text(encoding="utf-8")
    letters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids, split = np.array([letters[c] for c in text]), int(len(text) * 0.9)
    train, held_out, context, batch = ids[:split], ids[split:], 64, 12
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(letters), n_positions=context, n_embd=128, n_layer=4, n_head=4,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)  # fmt: skip
    model, draw = GPT2LMHeadModel(config), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def loss_of(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), labels.flatten())

    started, step, steps = time.monotonic(), 0, 10**9
    while step < steps and time.monotonic() - started < seconds:
        if step == 20:
            steps = max(40, int(seconds / (time.monotonic() - started) * 20))
        done = min(1.0, step / steps) if step >= 20 else 0.0
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        rows = torch.from_numpy(
            train[draw.integers(0, len(train) - context - 1, batch)[:, None] + np.arange(context + 1)]
        )
        optimizer.zero_grad()
        loss_of(rows[:, :-1], rows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    model.eval()

    @torch.no_grad()
    def score(inputs: torch.Tensor, labels: torch.Tensor) -> float:
        return float(loss_of(inputs, labels)) * labels.numel()

    return {"nats": window_nats(score, held_out, context), "seconds": time.monotonic() - started, "steps": step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    file = data_folder() / "lm" / "tinyshakespeare.txt"
    if not file.is_file():
        print(f"no {file}: set YUYAN_DATA to the folder of the data sets")
        print(json.dumps({"bench": "shakespeare", "rows": []}))
        return
    seconds = 15.0 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        mine = ours(file, seconds, options.overrides, Path(folder) / "run")
    theirs = {"nats": None} if options.no_peer else peer(file, seconds)
    print(f"ours {mine}\npeer {theirs}")
    ratio = None if theirs["nats"] is None else mine["nats"] / theirs["nats"]
    rows = [
        {"name": f"validation after {seconds:.0f} s, windows of {mine['context']}", "unit": "nats/character",
         "ours": round(mine["nats"], 4), "peer": "transformers GPT-2, nanoGPT's CPU setting, windows of 64",
         "peer_value": theirs["nats"], "ratio": ratio, "equal_output": False},
        {"name": "published, nanoGPT's CPU setting, ~180 s on a laptop", "unit": "nats/character",
         "ours": round(mine["nats"], 4), "peer": "nanoGPT README", "peer_value": 1.88, "ratio": mine["nats"] / 1.88,
         "equal_output": False},
    ]  # fmt: skip
    print(json.dumps({"bench": "shakespeare", "rows": rows}))


if __name__ == "__main__":
    main()

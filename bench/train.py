"""Training against the peers: `python bench/train.py [--quick] [--only gpt] [--threads 1] [--sides ours,loop]`.

Five shapes on tiny-shakespeare: two GPT-2, a small BERT, a small T5, an LSTM. Peers: `transformers.Trainer`, a plain loop in
the manner of nanoGPT (for GPT-2 with a model of its own; eager and compiled), litgpt's model; float32 and bfloat16 autocast;
and each with glibc's allocator told to keep freed memory, which is the best setting that a user can give a peer. Both sides
start from the same weights and see the same batches; a peer's are made beforehand, ours come from its data pipeline.

Each side is a process of its own. Ours and a peer take turns, a stretch of steps at a time; a figure is the median over the
stretches, in tokens per second of wall time, and the ratio is the median of the ratios of neighbouring stretches. Model FLOPs
are those of the products that the loss needs (scores where there is a label, half of causal attention), three times the forward pass; their
share is of the matrix products measured in the same run. The losses of the last stretch must agree. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yuyan  # noqa: F401  # isort: skip  (before torch: it chooses how threads wait)

import torch  # isort: skip
import transformers
from brown import data_folder

from yuyan.corpus import Batches, Packed, write_shards
from yuyan.models.classic import Lstm
from yuyan.models.cost import flops_per_token
from yuyan.models.network import Network
from yuyan.objectives import MaskedToken, NextToken, Objective, SpanCorruption, collate
from yuyan.text.document import Document
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig

Row = dict[str, Any]
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_TOP_PAD_": str(1 << 26)}
KEPT = " + allocator"
APART = 0.02
"""Losses of the last stretch may be so far apart, as a share."""
OURS = "ours bfloat16"
PEERS = (
    "trainer float32", "trainer bfloat16", "trainer bfloat16 + allocator", "loop float32", "loop bfloat16",
    "loop bfloat16 + allocator", "loop bfloat16 compiled", "loop bfloat16 compiled + allocator", "litgpt bfloat16 + allocator",
)  # fmt: skip
BEST = ("trainer bfloat16 + allocator", "loop bfloat16 + allocator", "loop bfloat16 compiled + allocator")


class Case(NamedTuple):
    """One shape."""

    name: str
    make: Callable[[], Any]
    """Their model, or a network of ours."""
    objective: Any
    rows: int
    length: int
    flops: Callable[[Any], float]
    """Operations of one row, forward and backward."""
    peers: tuple[str, ...] = BEST
    stretch: int = 3


def gpt2(**sizes: int) -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, **sizes
        )
    )


def bert() -> Any:
    sizes = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048}
    return transformers.BertForMaskedLM(
        transformers.BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
    )


def t5() -> Any:
    return transformers.T5ForConditionalGeneration(transformers.T5Config(dropout_rate=0.0))  # T5 small


def lstm() -> Network:
    return Lstm(hidden_size=650, num_layers=2).network(10_000)


def decoder_flops(config: Any, length: int) -> float:
    width, layers = config.n_embd, config.n_layer
    return 3 * length * (2 * layers * 12 * width**2 + layers * 4 * width * length / 2 + 2 * width * config.vocab_size)


def bert_flops(config: Any, length: int) -> float:
    width = config.hidden_size
    body = config.num_hidden_layers * (2 * (4 * width**2 + 2 * width * config.intermediate_size) + 4 * width * length)
    return 3 * length * (body + 0.15 * 2 * (width * config.vocab_size + width**2))


def t5_flops(config: Any, source: int, target: int) -> float:
    width, inner, ff = config.d_model, config.num_heads * config.d_kv, config.d_ff
    per_layer = source * (8 * width * inner + 4 * width * ff + 4 * inner * source)
    per_layer += target * (12 * width * inner + 4 * width * ff + 4 * inner * (target / 2 + source))
    per_layer += source * 4 * width * inner
    return 3 * (config.num_layers * per_layer + target * 2 * width * config.vocab_size)


CASES = (
    Case("GPT 6 x 384, 8k, context 256", lambda: gpt2(vocab_size=8192, n_positions=256, n_embd=384, n_layer=6, n_head=6),
         NextToken(), 16, 256, lambda c: decoder_flops(c, 256), PEERS),
    Case("GPT-2 small, context 512", lambda: gpt2(n_positions=512), NextToken(), 4, 512, lambda c: decoder_flops(c, 512),
         (*BEST, "litgpt bfloat16 + allocator"), stretch=2),
    Case("BERT small, masked, context 128", bert, MaskedToken(), 32, 128, lambda c: bert_flops(c, 128)),
    Case("T5 small, spans, source 256", t5, SpanCorruption(), 16, 282, lambda c: t5_flops(c, 256, 55)),
    Case("LSTM 2 x 650, 10k, context 64", lstm, NextToken(), 32, 64, lambda c: 3 * 64 * flops_per_token(c, 64),
         (*BEST[1:], "loop float32", "loop bfloat16")),
)  # fmt: skip


class Side:
    """A process that trains when it is told to."""

    def __init__(self, folder: Path, name: str, threads: int):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | (KEEP if KEPT in name else {})
        script = Path(__file__).parent / "sides" / "training.py"
        self.name, self.stretches = name, list[Row]()
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder), name], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE if threads else None,
        )  # fmt: skip
        self.warm = self._answer()

    def _answer(self) -> Row:
        assert self.process.stdout and self.process.stderr
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read()[-1500:])
        answer: Row = json.loads(line)
        return answer

    def go(self) -> Row:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.stretches.append(self._answer())
        return self.stretches[-1]

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.wait()


def prepare(case: Case, text: str, folder: Path, stretches: int) -> float:
    """Model, tokens, batches and settings in `folder`; operations of one row."""
    torch.manual_seed(0)
    made = case.make()
    if isinstance(made, Network):
        (folder / "network.json").write_text(made.model_dump_json())
        torch.save(made.build(seed=0).state_dict(), folder / "weights.pt")
        flops, lstm_sizes = case.flops(made), (made.hidden_size, made.vocab_size, 2)
    else:
        made.save_pretrained(folder / "hf")
        flops, lstm_sizes = case.flops(made.config), None
    tokenizer = train_tokenizer([text], BytePairConfig(vocab_size=8192, mask=True, sentinels=100))
    tokenizer.save(folder / "tokenizer")
    documents = [Document(str(i), text[at : at + 20_000]) for i, at in enumerate(range(0, len(text), 20_000))]
    write_shards(documents, tokenizer, folder / "shards")
    warm = 3
    torch.save(batches_of(case, tokenizer, folder, warm + case.stretch * stretches), folder / "batches.pt")
    settings = {"objective": case.objective.kind, "rows": case.rows, "length": case.length, "warm": warm,
                "stretch": case.stretch, "lstm": lstm_sizes}  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    return flops


def batches_of(case: Case, tokenizer: Tokenizer, folder: Path, count: int) -> list[dict[str, torch.Tensor]]:
    from yuyan.corpus import Shards

    objective: Objective = case.objective.build(tokenizer)
    special = tokenizer.special
    rows = Packed(Shards.open(folder / "shards"), case.length, seed=0, bos=special.bos, eos=special.eos)
    batches = Batches(rows, batch_rows=case.rows, example=objective.example, collate=collate, seed=0)
    return [{k: v.contiguous() for k, v in batches.update(i * case.rows)[0].items()} for i in range(count)]


def bench_case(case: Case, text: str, peers: Sequence[str], threads: int, turns: int) -> list[Row]:
    """Ours against each peer in turns."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        flops = prepare(case, text, folder, turns)
        peaks = peak(folder, threads)
        tokens = case.rows * case.length * case.stretch
        print(f"{case.name}, {threads} threads: products {peaks['bfloat16'] / 1e9:.0f} GFLOP/s bfloat16, "
              f"{peaks['float32'] / 1e9:.0f} float32", flush=True)  # fmt: skip
        rows, best = [], 0.0
        for name in peers:
            try:
                sides = [Side(folder, OURS if "float32" not in name else "ours float32", threads)]
                sides.append(Side(folder, name, threads))
            except RuntimeError as error:
                print(f"{name}: left out: {str(error).strip().splitlines()[-1]}", flush=True)
                continue
            for _ in range(turns):
                for side in sides:
                    side.go()
            for side in sides:
                side.end()
            row = compare(f"{case.name}, {threads} threads", sides, tokens, flops * case.rows * case.stretch, peaks)
            best = max(best, row["peer_value"] if "float32" not in name else 0.0)
            rows.append(row)
    return rows


def compare(name: str, sides: list[Side], tokens: int, flops: float, peaks: Row) -> Row:
    """One line of the table."""
    ours, peer = sides
    seconds = [[each["seconds"] for each in side.stretches] for side in sides]
    mine, theirs = (statistics.median(each) for each in seconds)
    losses = [statistics.mean(side.stretches[-1]["losses"]) for side in sides]
    apart = abs(losses[0] - losses[1]) / losses[1]
    row: Row = {
        "name": name, "unit": "tokens/s", "ours": tokens / mine, "ours_setting": ours.name.removeprefix("ours "), "peer": peer.name,
        "peer_value": tokens / theirs, "ratio": statistics.median(b / a for a, b in zip(*seconds, strict=True)),
        "equal_output": apart < APART, "losses": losses,
        "of_bfloat16_peak": flops / mine / peaks["bfloat16"], "peer_of_bfloat16_peak": flops / theirs / peaks["bfloat16"],
        "of_float32_peak": flops / mine / peaks["float32"], "peer_of_float32_peak": flops / theirs / peaks["float32"],
        "peak_MB": ours.stretches[-1]["peak_bytes"] / 1e6, "peer_peak_MB": peer.stretches[-1]["peak_bytes"] / 1e6,
        "warm_seconds": ours.warm["seconds"], "peer_warm_seconds": peer.warm["seconds"],
    }  # fmt: skip
    print(
        f"  {ours.name:14} {row['ours']:7,.0f} tokens/s ({row['of_bfloat16_peak']:.0%})   {peer.name:35} "
        f"{row['peer_value']:7,.0f} ({row['peer_of_bfloat16_peak']:.0%})  ratio {row['ratio']:.2f}   "
        f"loss {losses[0]:.3f} {losses[1]:.3f}   peak {row['peak_MB']:,.0f} {row['peer_peak_MB']:,.0f} MB",
        flush=True,
    )
    return row


def peak(folder: Path, threads: int) -> Row:
    script = Path(__file__).parent / "sides" / "training.py"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), "peak"], env=environment, capture_output=True, text=True, check=True
    )
    found: Row = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first shape, three peers, two turns")
    parser.add_argument("--only", default="", help="shapes by the beginning of their name: gpt, gpt-2, bert, t5, lstm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", help="only these, by parts of their names, separated by commas")
    options = parser.parse_args()
    file = data_folder() / "lm" / "tinyshakespeare.txt"
    if not file.is_file():
        print(f"no {file}: set YUYAN_DATA to the folder of the data sets")
        print(json.dumps({"bench": "train", "rows": []}))
        return
    text, rows = file.read_text(encoding="utf-8"), list[Row]()
    for case in CASES[:1] if options.quick else CASES:
        if not case.name.lower().startswith(options.only.lower()):
            continue
        peers = BEST if options.quick else case.peers
        if options.peers:
            allowed = PEERS if case.name.startswith("GPT") else PEERS[:-1]
            peers = tuple(name for name in allowed if any(part in name for part in options.peers.split(",")))
        if importlib.util.find_spec("litgpt") is None:
            print("litgpt is not installed; left out")
            peers = tuple(name for name in peers if "litgpt" not in name)
        rows += bench_case(case, text, peers, options.threads, 2 if options.quick else options.turns)
    print(json.dumps({"bench": "train", "rows": rows}))


if __name__ == "__main__":
    main()

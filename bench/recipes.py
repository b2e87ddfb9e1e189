"""What each ingredient of a training recipe brings, on three texts, three seeds, equal time of the processor.

    python bench/recipes.py run [--budget 60s] [--only wikitext,tang] [--variants muon,ema] [--seeds 0,1,2] [--minutes 60]
    python bench/recipes.py pace [--budget 60s] ...
    python bench/recipes.py page
    python bench/recipes.py --quick

`run` trains every variant that is not yet in `bench/results/recipes.jsonl` and adds a line for each; it can be stopped and
run again, on another day too. `page` makes docs/recipes.md of these lines. A variant is the default recipe (the one that
`yuyan ladder` takes for a text and a budget) with one thing changed; `nanogpt` changes all of it at once: the settings of
nanoGPT for a small text in a network of the same width and depth.

Equal time is granted as a number of steps, so that a result depends on nothing but its seed, whatever else the machine does:
the tokens a second of one variant, AdamW's, are measured once, and each other's beside that, a few steps of the one and of the
other in turn, on the processor's clock and one thread (`bench/results/recipe_paces.jsonl`; `pace` does it ahead of `run`,
best while the machine does nothing else).

Texts: WikiText-2 with its tokens joined to plain text, tiny-shakespeare, 10,000 Tang poems. The score is bits per byte on
the held-out documents, all of them, by the exported float32 model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import yuyan  # noqa: F401  # isort: skip  (before torch: it chooses how threads wait)

import torch  # isort: skip
from brown import data_folder
from ladders import source
from recipe_variants import PACE_OF, VARIANTS

from yuyan.commands.corpus import Corpus
from yuyan.commands.fitting import choose_micro_rows
from yuyan.commands.ladder import LadderOrder, prepare_corpus
from yuyan.commands.made import MADE
from yuyan.commands.provenance import provenance
from yuyan.commands.recipe import Measured, measure_machine, rung_run
from yuyan.commands.run import RunConfig
from yuyan.commands.session import Session
from yuyan.commands.settings import EvaluateConfig, seconds_of
from yuyan.commands.train import run_training
from yuyan.store import write_json
from yuyan.text import DataConfig, Document, write_documents
from yuyan.train.loop import train
from yuyan.train.state import State
from yuyan.train.step import PlainStep, Update
from yuyan.train.world import World

RESULTS = Path(__file__).parent / "results" / "recipes.jsonl"
PACES = Path(__file__).parent / "results" / "recipe_paces.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
TEXTS = ("wikitext", "shakespeare", "tang")


# ---------------------------------------------------------------- texts

JOINS = (
    (r" @([-.,])@ ", r"\1"),
    (r" ([,.;:?!)\]%]|'s|n't)", r"\1"),
    (r"([(\[$£]) ", r"\1"),
    (r'" ([^"\n]*) "', r'"\1"'),
)


def plain_wikitext(tokens: str) -> Iterator[Document]:
    """The articles, a document each, with punctuation joined to its word."""
    for number, article in enumerate(re.split(r"\n(?= = [^=])", tokens)):
        for pattern, into in JOINS:
            article = re.sub(pattern, into, article)
        if article.strip():
            yield Document(str(number), article.strip() + "\n", {"source": "wikitext-2"})


def order_of(name: str, folder: Path) -> LadderOrder:
    """What to prepare. Raises FileNotFoundError without the data."""
    if name != "wikitext":
        return LadderOrder(data=DataConfig(sources=(source(name, folder),)), title=name, budget=600.0)
    with zipfile.ZipFile(data_folder() / "lm" / "wikitext-2.zip") as archive:
        for part in ("train", "valid", "test"):
            text = archive.read(f"wikitext-2/wiki.{part}.tokens").decode()
            write_documents(folder / f"{part}.jsonl", plain_wikitext(text))
    data = DataConfig(
        sources=(folder / "train.jsonl",), validation=(folder / "valid.jsonl",), test=(folder / "test.jsonl",)
    )
    return LadderOrder(data=data, title=name, budget=600.0)


# ---------------------------------------------------------------- running


REFERENCE = "adamw"  # whose pace is measured alone
TURNS = 15  # of measuring a pace beside the reference's
TURNS_ALONE = 40  # the best of them counts
A_TURN = 16_384  # tokens


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The records of a file of results; none where there is none."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def add_line(file: Path, record: dict[str, Any]) -> None:
    """Keep a result."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(record) + "\n")


@dataclasses.dataclass
class Bench:
    """What all measurements of a budget have in common."""

    budget: float
    work: Path
    machine: Measured
    corpora: dict[str, Corpus] = dataclasses.field(default_factory=dict)

    def corpus(self, text: str) -> Corpus:
        """The prepared text, made once in the work folder; without its test part, which nothing here looks at."""
        if text not in self.corpora:
            (self.work / text).mkdir(parents=True, exist_ok=True)
            made = prepare_corpus(order_of(text, self.work / text), self.work / text)
            self.corpora[text] = dataclasses.replace(made, test=None)
        return self.corpora[text]

    def config(self, name: str, text: str, seed: int, steps: int) -> RunConfig:
        """A variant, to be trained for so many steps."""
        config = rung_run("gpt", self.corpus(text), self.budget, self.machine, seed)
        config = VARIANTS[name][1](config, self.corpus(text))
        train = config.train.model_copy(update={"budget": None, "steps": steps, "threads": 1, "save_every": "24h"})
        return config.model_copy(update={"train": train, "evaluate": EvaluateConfig(every=10**9)})

    def tokens_a_second(self, name: str, text: str) -> float:
        """That of `REFERENCE` on this machine, at best; another's, that times how much faster it was beside the reference."""
        name = PACE_OF.get(name, name)
        found = {(p["variant"], p["text"], p["budget"]): p for p in lines_of(PACES)}
        key = {"variant": name, "text": text, "budget": self.budget}
        if tuple(key.values()) not in found:
            reference, other = self._turns(REFERENCE, name, text)
            ratio = statistics.median(a / b for a, b in zip(other, reference, strict=True))
            own = {"tokens_a_second": max(reference)} if name == REFERENCE else {"ratio": ratio}
            found[name, text, self.budget] = key | own
            add_line(PACES, key | own)
            print(f"{text} {name}: " + ", ".join(f"{k} {v:.6g}" for k, v in own.items()), flush=True)
        pace = found[name, text, self.budget]
        return pace["tokens_a_second"] if name == REFERENCE else pace["ratio"] * self.tokens_a_second(REFERENCE, text)

    def _turns(self, first: str, second: str, text: str) -> tuple[list[float], list[float]]:
        """Tokens a second of two variants, of the first's some steps and of the second's in turn."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            runs = [
                stack.enter_context(opened(self.config(name, text, 0, 10**6), Path(folder) / str(i), self.corpus(text)))
                for i, name in enumerate((first, second))
            ]
            found: tuple[list[float], list[float]] = ([], [])
            for turn in range(1 + (TURNS_ALONE if first == second else TURNS)):
                for (state, updates), paces in zip(runs, found, strict=True):
                    begun, tokens = time.process_time(), state.tokens
                    while state.tokens < tokens + A_TURN:
                        next(updates)
                    if turn:  # the first one prepares kernels and memory
                        paces.append((state.tokens - tokens) / (time.process_time() - begun))
        return found

    def train(self, name: str, text: str, seed: int) -> dict[str, Any]:
        """Train a variant as long as its pace lets it, and measure it."""
        config = self.config(name, text, seed, 1)
        assert config.train.batch_tokens is not None
        steps = round(self.budget * self.tokens_a_second(name, text) / config.train.batch_tokens)
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / MADE, provenance())
            result = run_training(self.config(name, text, seed, steps), Path(folder), self.corpus(text))
        return {
            "variant": name, "text": text, "seed": seed, "budget": self.budget,
            "bits_per_byte": result.validation.bits_per_byte, "parameters": result.parameters, "steps": steps,
            "tokens": result.tokens, "epochs": round(result.epochs, 3), "operations": self.machine.operations,
            "torch": torch.__version__,
        }  # fmt: skip


@contextmanager
def opened(config: RunConfig, folder: Path, corpus: Corpus) -> Iterator[tuple[State, Iterator[Update]]]:
    """A run at its beginning, and its updates to be taken one by one."""
    folder.mkdir()
    write_json(folder / MADE, provenance())
    session = Session(config, folder, corpus, World())
    with closing(session.log), closing(session.saver):
        session.go_on()
        settings = config.train
        choose_micro_rows(settings, folder, session.state.learner, session.batches, session.world, session.most_rows)
        step = PlainStep(session.plan, settings.schedule, clip=settings.clip, penalty=settings.penalty)
        yield session.state, train(session.state, session.batches, step)


def run(options: argparse.Namespace) -> None:
    """Train what is missing, the seeds one after the other so that each round is whole; or only measure the paces."""
    started = time.monotonic()
    torch.set_num_threads(1)
    machine = Measured(next((line["operations"] for line in lines_of(RESULTS)), None) or measure_machine().operations)
    bench = Bench(seconds_of(options.budget), options.work, machine)
    names = options.variants.split(",") if options.variants else list(VARIANTS)
    for seed in map(int, options.seeds.split(",")):
        for name in names:
            for text in options.only.split(","):
                made = {(r["variant"], r["text"], r["seed"], r["budget"]) for r in lines_of(RESULTS)}
                if options.what == "pace":
                    bench.tokens_a_second(name, text)
                elif (name, text, seed, bench.budget) not in made:
                    if time.monotonic() - started > 60 * options.minutes:
                        return
                    record = bench.train(name, text, seed)
                    add_line(RESULTS, record)
                    print(f"{text} {name} seed {seed}: {record['bits_per_byte']:.4f}", flush=True)


# ---------------------------------------------------------------- telling


INTRODUCTION = """# How a network and its training are chosen

`yuyan train my-texts/ train.budget=10m`, and the networks of `yuyan ladder`, follow one recipe (`yuyan/commands/recipe.py`).
It has one dial, `model.size`, and even that turns itself:

- **Size.** The machine's speed is measured, and what a token costs follows from width and vocabulary: small products are slower than
  large ones, and a second thread brings a small network little. The network is the one that has the time to read 5 tokens for each
  weight outside its table: small texts are read many times, so a larger network and fewer readings are better than the reverse.
  3 layers up to 0.45 million such weights, 4 up to 4 million, 6 from there on.
- **Network.** A decoder in the layout of Qwen3: rotary positions, RMSNorm before each part, norms on queries and keys, SwiGLU,
  scores that share the embedding, no biases; first weights like GPT-2's, of a deviation of 0.02 and less into the stream.
- **Training.** Muon for the matrices inside the network and AdamW with beta2 = 0.98 for the rest, both at a rate of 8e-3 at a
  width of 128 that falls with the root of the width (an LSTM or GRU: 16e-3 at 256; without gates, half of that), 3 % warm-up, a
  level half, a straight way down to zero; bfloat16 with float32 master weights. Batches of 4,096 tokens from a minute to ten of one
  core here, smaller ones for less, larger ones for more (a recurrent network's are 4,096).
- **Against over-fitting.** Dropout grows with the number of readings: none up to the fifth, then a fiftieth for each, 0.4 at most;
  weight decay is 0.1 before the fifth, 0.3 from there on.
- **Changed text.** None: `data.augment` can hide, leave out, exchange or replace tokens at random, and `data.sampling` read good
  documents more often (`yuyan config explain data.augment`), but a clean text read seven times gains nothing from the former.

Any of these can be set in the config; what was chosen is in the run's `run.yaml`.

The tables say what each choice brings: a row changes one thing in the default recipe, and its cells are **thousandths of a bit
per byte, more (+, worse) or fewer (-, better)** than the default's with the same seed: the mean over seeds, and in brackets
the best and the worst seed. Made by `python bench/recipes.py run` and `python bench/recipes.py page`, from
`bench/results/recipes.jsonl`. The time is that of one core of a Zen 5 (AVX-512 with bfloat16), counted on the process's own
clock, so that the size of the network follows from the budget. WikiText-2 is its published tokens joined to plain text, with
its own validation articles; of tiny-shakespeare and 10,000 Tang poems 5 % is held out. The vocabulary is a byte-level BPE as the
ladder chooses it. Budgets this short favour what helps early; a difference within the spread of the seeds says nothing.
Equal time is granted in steps, from paces that were measured side by side (`bench/results/recipe_paces.jsonl`), so that a line can be made again
to the last digit, and nothing else that the machine does counts. Lines without `steps` are of an earlier bench, in which the clock ended a run;
those of 1,800 seconds are of a network 224 wide, where the recipe takes 256 now.
"""


def differences(results: list[dict[str, Any]], budget: float) -> dict[str, dict[str, list[float]]]:
    """For each variant and text, its bits per byte less the default's of the same seed, a number a seed."""
    score = {(r["variant"], r["text"], r["seed"]): r["bits_per_byte"] for r in results if r["budget"] == budget}
    found: dict[str, dict[str, list[float]]] = {}
    for (variant, text, seed), value in sorted(score.items()):
        if variant != "default" and ("default", text, seed) in score:
            found.setdefault(variant, {}).setdefault(text, []).append(value - score["default", text, seed])
    return found


def cell(values: list[float]) -> str:
    """The mean over seeds with the range, in thousandths of a bit."""
    if not values:
        return ""
    mean = 1000 * statistics.mean(values)
    if len(values) == 1:
        return f"{mean:+.0f}"
    return f"{mean:+.0f} ({1000 * min(values):+.0f} to {1000 * max(values):+.0f})"


def page(results: list[dict[str, Any]]) -> str:
    """docs/recipes.md."""
    parts = [INTRODUCTION]
    for budget in sorted({r["budget"] for r in results if r["variant"] == "default"}):
        part = [r for r in results if r["budget"] == budget]
        texts = [text for text in TEXTS if any(r["text"] == text for r in part)]
        lines = [
            f"## {budget:g} seconds of one core\n",
            "| | " + " | ".join(texts) + " |",
            "|---|" + "---|" * len(texts),
        ]
        cells = []
        for text in texts:
            values = [r["bits_per_byte"] for r in part if r["variant"] == "default" and r["text"] == text]
            cells.append(
                f"**{statistics.mean(values):.4f}** ({len(values)} seed{'s' * (len(values) > 1)})" if values else ""
            )
        lines.append("| the default recipe, bits per byte | " + " | ".join(cells) + " |")
        found = differences(part, budget)
        order = sorted(found, key=lambda name: statistics.mean(v for vs in found[name].values() for v in vs))
        lines += [f"| {VARIANTS[name][0]} | " + " | ".join(cell(found[name].get(text, [])) for text in texts) + " |"
                  for name in order if name in VARIANTS]  # fmt: skip
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["run", "pace", "page"], default="run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--only", default=",".join(TEXTS))
    parser.add_argument("--variants", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    global RESULTS, PACES
    with tempfile.TemporaryDirectory() as temporary:
        options.work = options.work or Path(temporary)
        if options.quick:
            RESULTS, PACES = Path(temporary) / "recipes.jsonl", Path(temporary) / "paces.jsonl"
            options.budget, options.only, options.variants, options.seeds = "5s", "shakespeare", "default,nanogpt", "0"
        try:
            if options.what != "page":
                run(options)
        except FileNotFoundError as error:
            print(f"skipped: {error}; set YUYAN_DATA to the folder of the data sets")
        results = lines_of(RESULTS)
    if options.what == "page":
        PAGE.write_text(page(results), encoding="utf-8")
    summary = []
    for text, budget in sorted({(r["text"], r["budget"]) for r in results}):
        scores = {v: [r["bits_per_byte"] for r in results if (r["text"], r["budget"], r["variant"]) == (text, budget, v)]
                  for v in ("default", "nanogpt")}  # fmt: skip
        if all(scores.values()):
            mine, theirs = statistics.mean(scores["default"]), statistics.mean(scores["nanogpt"])
            summary.append({"name": f"{text}, {budget:g} s", "unit": "bits/byte", "ours": mine, "peer": "nanoGPT's recipe",
                            "peer_value": theirs, "ratio": mine / theirs, "equal_output": False})  # fmt: skip
    print(json.dumps({"bench": "recipes", "rows": summary}))


if __name__ == "__main__":
    main()

"""What each ingredient of a training recipe brings, on three texts, three seeds, equal time of the processor.

    python bench/recipes.py run [--budget 60s] [--only wikitext,tang] [--variants muon,ema] [--seeds 0,1,2] [--minutes 60]
    python bench/recipes.py page
    python bench/recipes.py --quick

`run` trains every variant that is not yet in `bench/results/recipes.jsonl` and adds a line for each; it can be stopped and
run again, on another day too. `page` makes docs/recipes.md of these lines. A variant is the default recipe (the one that
`yuyan ladder` takes for a text and a budget) with one thing changed; `nanogpt` changes all of it at once: the settings of
nanoGPT for a small text in a network of the same width and depth. Time is counted on the process's own processor clock, on
one thread, so that other programs on the machine cost nothing but heat.

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yuyan  # noqa: F401  # isort: skip  (before torch: it chooses how threads wait)

import torch  # isort: skip
from brown import data_folder
from ladders import source

from yuyan.commands.corpus import Corpus
from yuyan.commands.ladder import LadderOrder, prepare_corpus
from yuyan.commands.made import MADE
from yuyan.commands.provenance import provenance
from yuyan.commands.recipe import Measured, measure_machine, rung_run
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import EvaluateConfig, seconds_of
from yuyan.commands.train import run_training
from yuyan.corpus.augment import Augmentation, Delete, Replace, Swap, TokenDropout
from yuyan.models.presets import Custom, Gpt
from yuyan.nn.ffn import Mlp
from yuyan.nn.initialise import Initialisation
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.store import write_json
from yuyan.text import DataConfig, Document, write_documents
from yuyan.train import AdamW, Cosine, Muon, WarmupStableDecay

RESULTS = Path(__file__).parent / "results" / "recipes.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
TEXTS = ("wikitext", "shakespeare", "tang")
Variant = Callable[[RunConfig, Corpus], RunConfig]


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


# ---------------------------------------------------------------- variants


def gpt(**changes: Any) -> Variant:
    """The preset with other sizes or settings."""
    return lambda config, corpus: config.model_copy(update={"model": config.model.model_copy(update=changes)})


def training(**changes: Any) -> Variant:
    """Other settings of the training."""
    return lambda config, corpus: config.model_copy(update={"train": config.train.model_copy(update=changes)})


def optimizer(**changes: Any) -> Variant:
    """Other settings of the optimizer; a function gets the old value."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        old = config.train.optimizer
        new = {key: value(getattr(old, key)) if callable(value) else value for key, value in changes.items()}
        return training(optimizer=old.model_copy(update=new))(config, corpus)

    return change


def stack(initialisation: Initialisation | None = None, **changes: Any) -> Variant:
    """Another seam of the network."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        assert isinstance(config.model, Gpt)
        network = config.model.network(corpus.vocab_size)
        assert network.decoder is not None
        decoder = network.decoder.model_copy(
            update={k: v(network.decoder) if callable(v) else v for k, v in changes.items()}
        )
        return config.model_copy(update={"model": Custom(
            architecture=network.model_copy(update={"decoder": decoder}),
            initialisation=initialisation or config.model.initialisation,
        )})  # fmt: skip

    return change


def rows(factor: float) -> Variant:
    """Another size of the batch."""
    return lambda config, corpus: training(batch_tokens=int(config.train.batch_tokens * factor))(config, corpus)


def width(factor: float) -> Variant:
    """Another width, to a multiple of 32, the rate as the recipe would have it."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        hidden = max(64, round(config.model.hidden_size * factor / 32) * 32)
        scale = (config.model.hidden_size / hidden) ** 0.5
        start = config.model.initialisation.model_copy(update={"std": hidden**-0.5})
        config = gpt(hidden_size=hidden, num_heads=hidden // 32, initialisation=start)(config, corpus)
        return optimizer(lr=lambda old: old * scale)(config, corpus)

    return change


def regularised(factor: float) -> Variant:
    """`factor` times the dropout that the recipe takes for so many readings."""
    return lambda config, corpus: gpt(dropout=factor * config.model.dropout)(config, corpus)


def mlp(activation: str) -> Variant:
    """A feed-forward layer without a gate, as many weights."""
    return stack(
        ffn=lambda old: Mlp(intermediate_size=old.ffn.intermediate_size * 3 // 2, activation=activation, bias=False)
    )


def muon(factor: float) -> Variant:
    """Muon for the matrices, at `factor` times AdamW's rate; the rest as it was."""

    def change(config: RunConfig, corpus: Corpus) -> RunConfig:
        old = config.train.optimizer
        assert isinstance(old, AdamW)
        new = Muon(lr=factor * old.lr, weight_decay=old.weight_decay, rest=old)
        return training(optimizer=new)(config, corpus)

    return change


def both(first: Variant, second: Variant) -> Variant:
    """Two changes."""
    return lambda config, corpus: second(first(config, corpus), corpus)


def nanogpt(config: RunConfig, corpus: Corpus) -> RunConfig:
    """GPT-2's network and nanoGPT's settings for a small text (its `config/train_shakespeare_char.py`)."""
    assert isinstance(config.model, Gpt)
    network = config.model.network(corpus.vocab_size)
    assert network.decoder is not None
    hidden, old = network.hidden_size, network.decoder
    decoder = old.model_copy(update={
        "norm": LayerNorm(), "ffn": Mlp(intermediate_size=4 * hidden, activation="gelu"), "dropout": 0.0,
        "position": Learned(max_position_embeddings=config.train.context),
        "heads": old.heads.model_copy(update={"qk_norm": None}),
    })  # fmt: skip
    embedding = network.embedding.model_copy(update={"dropout": 0.0})
    whole = network.model_copy(update={"decoder": decoder, "embedding": embedding})
    config = config.model_copy(update={"model": Custom(architecture=whole, initialisation=Initialisation(std=0.02))})
    return training(
        optimizer=AdamW(lr=1e-3, beta2=0.99, weight_decay=0.1), schedule=Cosine(warmup=0.02, floor=0.1)
    )(config, corpus)  # fmt: skip


def augment(*changes: Augmentation) -> Variant:
    """Changes at random to what is read in training."""
    return lambda config, corpus: config.model_copy(
        update={"data": config.data.model_copy(update={"augment": changes})}
    )


VARIANTS: dict[str, tuple[str, Variant]] = {
    "default": ("the default recipe", lambda config, corpus: config),
    "nanogpt": ("nanoGPT's recipe, same width and depth", nanogpt),
    "nanogpt-quarter": ("nanoGPT's recipe, a quarter of the batch", both(nanogpt, rows(0.25))),
    "lr-half": ("half the learning rate", optimizer(lr=lambda old: old / 2)),
    "lr-double": ("twice the learning rate", optimizer(lr=lambda old: old * 2)),
    "cosine": ("cosine to a tenth instead of warm-up, level, decay", training(schedule=Cosine(warmup=0.03))),
    "decay-short": ("decay in the last fifth", training(schedule=WarmupStableDecay(warmup=0.03, decay=0.2))),
    "decay-long": ("decay in the last four fifths", training(schedule=WarmupStableDecay(warmup=0.03, decay=0.8))),
    "batch-half": ("half the batch", rows(0.5)),
    "batch-quarter": ("a quarter of the batch", rows(0.25)),
    "batch-double": ("twice the batch", rows(2)),
    "narrow": ("0.7 of the width", width(0.7)),
    "wide": ("1.4 of the width", width(1.4)),
    "relu2": ("squared ReLU instead of SwiGLU", mlp("relu2")),
    "gelu": ("GELU instead of SwiGLU", mlp("gelu")),
    "no-qk-norm": (
        "no norm on queries and keys",
        stack(heads=lambda old: old.heads.model_copy(update={"qk_norm": None})),
    ),
    "layer-norm": ("LayerNorm instead of RMSNorm", stack(norm=LayerNorm())),
    "learned": ("learned instead of rotary positions", stack(position=Learned(max_position_embeddings=256))),
    "start-gpt2": ("GPT-2's first weights", gpt(initialisation=Initialisation())),
    "untied": ("a table of its own for the scores", gpt(tied=False)),
    "decay-weak": ("weight decay 0.01", optimizer(weight_decay=0.01)),
    "decay-strong": ("weight decay 1", optimizer(weight_decay=1.0)),
    "dropout": ("dropout 0.1", gpt(dropout=0.1)),
    "dropout-double": ("twice the dropout", regularised(2.0)),
    "dropout-double-decay": ("twice the dropout, weight decay 1", both(regularised(2.0), optimizer(weight_decay=1.0))),
    "dropout-double-narrow": ("twice the dropout, 0.7 of the width", both(regularised(2.0), width(0.7))),
    "muon": ("Muon for the matrices, same rates", muon(1.0)),
    "muon-half": ("Muon, half the batch", both(muon(1.0), rows(0.5))),
    "muon-quarter": ("Muon, a quarter of the batch", both(muon(1.0), rows(0.25))),
    "muon-eighth": ("Muon, an eighth of the batch", both(muon(1.0), rows(0.125))),
    "muon-double-half": ("Muon, twice the rate for the matrices, half the batch", both(muon(2.0), rows(0.5))),
    "muon-double": ("Muon, twice the rate for the matrices", muon(2.0)),
    "token-dropout": ("token dropout 0.1, by any token", augment(TokenDropout(rate=0.1))),
    "token-dropout-unigram": (
        "token dropout 0.1, by tokens as frequent as in the text",
        augment(TokenDropout(rate=0.1, becomes="unigram")),
    ),
    "token-dropout-weak": (
        "token dropout 0.02, by tokens as frequent as in the text",
        augment(TokenDropout(rate=0.02, becomes="unigram")),
    ),
    "delete": ("a twentieth of the tokens left out", augment(Delete(rate=0.05))),
    "swap": ("an exchange of two tokens for each fifty", augment(Swap(rate=0.02))),
    "replace": (
        "a twentieth of the tokens replaced by equally frequent ones",
        augment(Replace(rate=0.05, by="same_frequency")),
    ),
}


# ---------------------------------------------------------------- running


def done() -> list[dict[str, Any]]:
    """The results there are."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


def train_one(name: str, text: str, seed: int, budget: float, corpus: Corpus, machine: Measured) -> dict[str, Any]:
    """Train a variant and measure it."""
    config = rung_run("gpt", corpus, budget, machine, seed)
    config = VARIANTS[name][1](config, corpus)
    train = config.train.model_copy(
        update={"budget": f"{budget:g}s", "clock": "cpu", "threads": 1, "save_every": "24h"}
    )
    config = config.model_copy(update={"train": train, "evaluate": EvaluateConfig(every=10**9)})
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / MADE, provenance())
        begun = time.process_time()
        result = run_training(config, Path(folder), dataclasses.replace(corpus, test=None))
        spent = time.process_time() - begun
    score = result.validation
    return {
        "variant": name, "text": text, "seed": seed, "budget": budget, "bits_per_byte": score.bits_per_byte,
        "parameters": result.parameters, "tokens": result.tokens, "epochs": round(result.epochs, 3),
        "seconds": round(result.seconds, 1), "all_cpu_seconds": round(spent, 1), "operations": machine.operations,
        "torch": torch.__version__,
    }  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Train what is missing, the seeds one after the other so that each round is whole."""
    budget, started = seconds_of(options.budget), time.monotonic()
    RESULTS.parent.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    machine = Measured(next((line["operations"] for line in done()), None) or measure_machine().operations)
    options.work.mkdir(parents=True, exist_ok=True)
    corpora: dict[str, Corpus] = {}
    for seed in map(int, options.seeds.split(",")):
        for name in options.variants.split(",") if options.variants else VARIANTS:
            for text in options.only.split(","):
                made = {(r["variant"], r["text"], r["seed"], r["budget"]) for r in done()}
                if (name, text, seed, budget) in made:
                    continue
                if time.monotonic() - started > 60 * options.minutes:
                    return
                if text not in corpora:
                    corpora[text] = corpus_of(text, options.work)
                record = train_one(name, text, seed, budget, corpora[text], machine)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{text} {name} seed {seed}: {record['bits_per_byte']:.4f}", flush=True)


def corpus_of(text: str, work: Path) -> Corpus:
    """The prepared text; made once in the work folder."""
    folder = work / text
    folder.mkdir(exist_ok=True)
    return prepare_corpus(order_of(text, folder), folder)


# ---------------------------------------------------------------- telling


INTRODUCTION = """# How a network and its training are chosen

`yuyan train my-texts/ train.budget=10m`, and the networks of `yuyan ladder`, follow one recipe (`yuyan/commands/recipe.py`).
It has one dial, `model.size`, and even that turns itself:

- **Size.** The machine's speed is measured; a network of N weights that reads D tokens costs about 6 N D operations, and D / N
  is held near 5. Small texts are read many times, so a larger network and fewer readings are better than the reverse.
- **Network.** A decoder in the layout of Qwen3: rotary positions, RMSNorm before each part, norms on queries and keys, SwiGLU,
  scores that share the embedding, projections into the residual stream that start at zero, no biases.
- **Training.** AdamW with beta2 = 0.98, a rate of 4e-3 at a width of 128 that falls with the root of the width, 3 % warm-up, a
  level half, a straight way down to zero; bfloat16 with float32 master weights. Batches grow about as the root of the tokens read in
  all: 2,048 tokens in a minute of one core here, 4,096 in ten (a recurrent network's are 4,096).
- **Against over-fitting.** Dropout grows with the number of readings: none up to the third, then a fiftieth for each, a half at most;
  weight decay is 0.1 before the fourth, 0.3 from there on.
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
The clock ends a run, so that a repeated one is not the same: on a busy machine two runs of the default, tiny-shakespeare, 60 s
and one seed were 30 thousandths apart.
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
    for budget in sorted({r["budget"] for r in results}):
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
    parser.add_argument("what", nargs="?", choices=["run", "page"], default="run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--only", default=",".join(TEXTS))
    parser.add_argument("--variants", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    global RESULTS
    with tempfile.TemporaryDirectory() as temporary:
        options.work = options.work or Path(temporary)
        if options.quick:
            RESULTS = Path(temporary) / "recipes.jsonl"
            options.budget, options.only, options.variants, options.seeds = "5s", "shakespeare", "default,nanogpt", "0"
        try:
            if options.what == "run":
                run(options)
        except FileNotFoundError as error:
            print(f"skipped: {error}; set YUYAN_DATA to the folder of the data sets")
        results = done()
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

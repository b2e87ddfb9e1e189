"""`yuyan ladder`: the steps of the field, trained on the same text under the same commands, measured in the same unit.

Every rung reads the same tokens and is scored on the same held-out documents in bits per byte. A rung is a folder like any
other model's: it can be generated from, and the neural ones are runs that `yuyan train` can repeat or continue.

    OUT/
      data/ tokenizer/ shards/      shared by all rungs
      rungs/<name>/model/           the model; for neural rungs the whole run
      rungs/<name>/documents.json   bits and bytes of each held-out document
      rungs/<name>/rung.json        what it reached
      ladder.json  report.html      all of it, for programs and for people
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yuyan.commands.corpus import Corpus, make_corpus
from yuyan.commands.leaving import tidy
from yuyan.commands.made import MADE, noted
from yuyan.commands.provenance import provenance
from yuyan.commands.recipe import SHORTEST_CONTEXT, Measured, measure_machine, rung_run, vocabulary_for
from yuyan.commands.run import RunConfig, open_run
from yuyan.commands.samples import samples
from yuyan.commands.settings import RunData, TrainConfig, seconds_of
from yuyan.commands.train import run_training
from yuyan.commands.validation import measure
from yuyan.config import dump, flatten, to_yaml
from yuyan.console import progress, say, table
from yuyan.errors import InputError, Interrupted
from yuyan.evaluate.likelihood import Likelihood
from yuyan.evaluate.page import ladder_page
from yuyan.evaluate.quantities import interval
from yuyan.evaluate.terminal import ladder_table
from yuyan.evaluate.verdict import compared, verdict
from yuyan.generate import Sampling
from yuyan.metrics import paired_interval
from yuyan.models.ngram import NGram
from yuyan.models.presets import Family, Gpt
from yuyan.store import claim_folder, exclusive, remove_leftovers, write_json, write_text
from yuyan.tasks.language_model import LanguageModel
from yuyan.text import DataConfig
from yuyan.train.device import choose_device

NGRAMS = {"unigram": 1, "bigram": 2, "kn3": 3, "kn5": 5}
NEURAL: dict[str, Family] = {"nplm": "nplm", "rnn": "rnn", "gru": "gru", "lstm": "lstm", "gpt": "gpt"}
RUNGS = ("unigram", "bigram", "kn5", "lstm", "gpt")
SAMPLING = Sampling(temperature=0.8, top_p=0.95, max_tokens=120)
DOCUMENTS = "documents.json"
FOR_REPORT = 0.06  # share of the budget kept for measuring and sampling at the end


@dataclass(frozen=True)
class LadderOrder:
    """What the user asked for."""

    data: DataConfig
    title: str
    budget: float
    rungs: Sequence[str] = RUNGS
    seed: int = 0

    def command(self, out: Path) -> str:
        """What to type to go on with it in `out`."""
        return shlex.join([*self._words(self.budget), "--out", str(out), "--resume"])

    def longer(self, out: Path) -> str:
        """What to type for the same text with more time; for a text of `out` itself, the demo's, that a text of one's own is next."""
        if any(source.is_relative_to(out) for source in self.data.sources):
            return f"yuyan ladder YOUR_FOLDER --budget 10m --out {shlex.quote(str(out.parent / 'mine'))}"
        return shlex.join(self._words(max(600.0, 3 * self.budget)))

    def _words(self, budget: float) -> list[str]:
        words = ["yuyan", "ladder", *map(str, self.data.sources), "--budget", f"{budget:g}s"]
        words += ["--rungs", ",".join(self.rungs)] if tuple(self.rungs) != RUNGS else []
        words += ["--seed", str(self.seed)] if self.seed else []
        usual = flatten(dump(DataConfig()))
        for key, value in flatten(dump(self.data)).items():
            if key != "sources" and value != usual.get(key, ...):
                words += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]
        return words

    def identity(self) -> dict[str, Any]:
        """What must stay the same when it is gone on with; time and rungs may be others."""
        sources = [str(path.absolute()) for path in self.data.sources]
        return flatten({"data": dump(self.data) | {"sources": sources, "processes": None}, "seed": self.seed})


def ladder_command(order: LadderOrder, out: Path, *, resume: bool = False, claimed: bool = False) -> dict[str, Any]:
    """Build the ladder in `out` and return what `ladder.json` says. Raises InputError, StorageError, Interrupted."""
    started = time.monotonic()
    check_rungs(order.rungs)
    going_on = resume and _can_go_on(order, out)
    if not claimed and not going_on:
        claim_folder(out, what="the ladder")
    with exclusive(out), tidy(out, order.command(out), fresh=not going_on):
        if not going_on:
            write_json(out / MADE, provenance() | {"order": order.identity()})
        try:
            corpus = prepare_corpus(order, out)
            check_length(order, corpus)
            rungs = climb(order, corpus, out, started)
        except Interrupted:  # by a run, which knows only how to go on by itself
            raise KeyboardInterrupt from None
        ladder = summary(order, corpus, rungs, time.monotonic() - started, out)
        write_json(out / "ladder.json", ladder)
        write_text(out / "report.html", ladder_page(ladder))
    return ladder


def _can_go_on(order: LadderOrder, out: Path) -> bool:
    """Whether a ladder was begun in `out`. Raises InputError if it was another one, or if there is no such folder."""
    if not out.exists():
        raise InputError(f"{out}: nothing to go on with; leave out --resume to start")
    before, now = noted(out).get("order"), order.identity()
    if before is None:
        return False
    if different := [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]:
        said = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} here" for key in different[:6])
        raise InputError(f"{out}: cannot go on as another ladder: {said}. Use --out for a new one")
    return True


def check_rungs(rungs: Sequence[str]) -> None:
    """Raises InputError for a rung that does not exist, or for none at all."""
    known = [*NGRAMS, *NEURAL]
    for name in rungs:
        if name not in known:
            raise InputError(f"--rungs: there is no rung {name!r}; known: {', '.join(known)}")
    if not rungs:
        raise InputError(f"--rungs: name at least one of {', '.join(known)}")
    if len(set(rungs)) != len(rungs):
        raise InputError("--rungs: each rung can be built once")


def check_length(order: LadderOrder, corpus: Corpus) -> None:
    """Raises InputError if there is a network to train, and less than one row to train it on."""
    tokens = int(corpus.train.tokens) + 2 * len(corpus.train)
    networks = [name for name in order.rungs if name in NEURAL]
    if networks and tokens <= SHORTEST_CONTEXT:
        raise InputError(
            f"{order.data.sources[0]}: {tokens} tokens to train on are too few for {' and '.join(networks)}, which need "
            f"more than {SHORTEST_CONTEXT}; give more text, or name other --rungs"
        )


def prepare_corpus(order: LadderOrder, out: Path) -> Corpus:
    """Clean, split, tokenise: once, for all rungs."""
    return make_corpus(shared_config(order), out, choose_vocabulary=vocabulary_for)


def shared_config(order: LadderOrder) -> RunConfig:
    """The config that all rungs share; its model is not built."""
    data = RunData(**dict(order.data))
    return RunConfig(name="ladder", seed=order.seed, data=data, model=Gpt(), train=TrainConfig(steps=1))


def climb(order: LadderOrder, corpus: Corpus, out: Path, started: float) -> list[dict[str, Any]]:
    """Build every rung, the counted ones first; the neural ones share what is left of the budget."""
    counted = [name for name in order.rungs if name in NGRAMS]
    neural = [name for name in order.rungs if name in NEURAL]
    done = {name: count_rung(name, corpus, out) for name in counted}
    machine = measure_machine(choose_device("auto")) if neural else None
    for index, name in enumerate(neural):
        left = order.budget * (1 - FOR_REPORT) - (time.monotonic() - started)
        share = max(5.0, left / (len(neural) - index))
        done[name] = neural_rung(name, order, corpus, out, share, machine)
    return [done[name] for name in order.rungs]


# ---------------------------------------------------------------- rungs


def count_rung(name: str, corpus: Corpus, out: Path) -> dict[str, Any]:
    """An n-gram model: estimate, save, measure."""
    folder = out / "rungs" / name
    if (stored := _stored(folder)) is not None:
        return stored
    remove_leftovers(folder)
    special, shards = corpus.tokenizer.special, corpus.train
    begun = time.monotonic()
    with progress(f"counting {name}"):
        network = NGram.fit(
            shards.flat, shards.offsets, order=NGRAMS[name], vocab_size=corpus.vocab_size,
            bos=special.bos, eos=special.eos,
        )  # fmt: skip
    seconds = time.monotonic() - begun
    model = LanguageModel(network, corpus.tokenizer, None)
    model.save(folder / "model")
    tokens = int(corpus.train.tokens)
    record = {
        "name": name, "title": title_for(name, corpus), "kind": "ngram", "parameters": network.num_parameters,
        "tokens_seen": tokens, "epochs": 1.0, "seconds": seconds, "tokens_per_second": tokens / max(seconds, 1e-9),
        "validation_curve": [], "training_curve": [], "stopped": "counted",
        "config": {"kind": "ngram", "order": NGRAMS[name], "smoothing": "interpolated modified Kneser-Ney"},
    }  # fmt: skip
    return _finished(record, model, corpus, folder, _whole(model, corpus, "validation"), _whole(model, corpus, "test"))


def neural_rung(
    name: str, order: LadderOrder, corpus: Corpus, out: Path, seconds: float, machine: Measured | None
) -> dict[str, Any]:
    """A network: choose its size for the text and the time, train, measure."""
    folder = out / "rungs" / name
    if (stored := _stored(folder)) is not None:
        return stored
    if not (folder / "run.yaml").exists():
        assert machine is not None
        config = rung_run(NEURAL[name], corpus, seconds, machine, order.seed)
        write_json(folder / MADE, provenance())
        write_text(folder / "run.yaml", to_yaml(config))
    config = open_run(folder)
    result = run_training(config, folder, corpus)
    looks = [record for record in result.log if "validation" in record]
    steps = [record for record in result.log if "loss" in record]
    record = {
        "name": name, "title": title_for(name, corpus), "kind": config.model.kind, "parameters": result.parameters,
        "tokens_seen": result.tokens, "epochs": result.epochs, "seconds": result.seconds,
        "tokens_per_second": result.tokens / max(result.seconds, 1e-9),
        "validation_curve": [
            {"seconds": r["seconds"], "tokens": r["tokens"], "bits_per_byte": r["validation"]["bits_per_byte"]}
            for r in looks
        ],
        "training_curve": [{"seconds": r["seconds"], "tokens": r["tokens"], "loss": r["loss"]} for r in _thin(steps)],
        "config": {"model": dump(config.model), "train": dump(config.train)}, "stopped": "budget",
    }  # fmt: skip
    model = LanguageModel.load(folder)
    assert isinstance(result.validation, Likelihood) and isinstance(result.test, Likelihood | None)
    return _finished(record, model, corpus, folder, result.validation, result.test)


def _whole(model: LanguageModel, corpus: Corpus, split: str) -> Likelihood | None:
    """The likelihood of all documents of a split, or None if it has none."""
    shards = corpus.shards(split)
    return None if shards is None else measure(model.network, corpus.tokenizer, shards, None, model.context)


def _finished(
    record: dict[str, Any], model: LanguageModel, corpus: Corpus, folder: Path,
    validation: Likelihood | None, test: Likelihood | None,
) -> dict[str, Any]:  # fmt: skip
    score = test or validation
    assert score is not None
    record |= {
        "bits_per_byte": score.bits_per_byte, "interval": list(score.interval), "perplexity": score.perplexity,
        "perplexity_unit": "token", "held_out": "test" if test else "validation",
        "validation_bits_per_byte": None if validation is None else validation.bits_per_byte,
        "bytes_on_disk": sum(f.stat().st_size for f in (folder / "model").rglob("*") if f.is_file()),
        "folder": f"rungs/{record['name']}", "samples": samples(model, corpus, SAMPLING),
    }  # fmt: skip
    write_json(folder / DOCUMENTS, score.each)
    write_json(folder / "rung.json", record)
    say(
        f"{record['title']:<28} {score.bits_per_byte:.3f} bits/byte ({interval(score.interval)})   "
        f"{record['seconds']:.1f} s"
    )
    return record


def _stored(folder: Path) -> dict[str, Any] | None:
    file = folder / "rung.json"
    if not file.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None  # damaged: measured again
    return record


def _thin(records: list[dict[str, Any]], most: int = 600) -> list[dict[str, Any]]:
    if len(records) <= most:
        return records
    return [records[i] for i in np.linspace(0, len(records) - 1, most).astype(int)]


# ---------------------------------------------------------------- the story at the end

TITLES = {
    "unigram": ("unigram", "一元"), "bigram": ("bigram", "二元"), "kn3": ("Kneser-Ney 3-gram", "Kneser-Ney 三元"),
    "kn5": ("Kneser-Ney 5-gram", "Kneser-Ney 五元"), "nplm": ("neural n-gram", "神经 n 元"), "rnn": ("RNN", "RNN"),
    "gru": ("GRU", "GRU"), "lstm": ("LSTM", "LSTM"), "gpt": ("GPT", "GPT"),
}  # fmt: skip


def title_for(name: str, corpus: Corpus) -> str:
    """What a rung is called in the language of the text."""
    return TITLES[name][corpus.language == "zh"]


def summary(
    order: LadderOrder, corpus: Corpus, rungs: list[dict[str, Any]], seconds: float, out: Path
) -> dict[str, Any]:
    """What `ladder.json` says."""
    best = min(rungs, key=lambda rung: float(rung["bits_per_byte"]))
    made = provenance()
    ladder = {
        "title": order.title, "created": made["created"], "command": made["command"], "language": corpus.language,
        "corpus": corpus.report,
        "tokenizer": {"kind": corpus.tokenizer_kind, "vocab_size": len(corpus.tokenizer),
                      "bytes_per_token": corpus.train.bytes / max(1, corpus.train.tokens)},
        "budget_seconds": order.budget, "rungs": rungs, "best": best["name"],
        "next": [*next_commands(out, rungs, best["name"]), order.longer(out)],
        "environment": {**made["versions"], **made["hardware"], "threads": torch.get_num_threads(), "seed": order.seed},
        "seconds_total": seconds,
    }  # fmt: skip
    ladder["difference"] = _difference(out, ladder)
    return ladder | {"verdict": verdict(ladder)}


def _difference(out: Path, ladder: dict[str, Any]) -> list[float] | None:
    """The 95 % interval of how many bits per byte the rival of the best rung needs more, document by document; None where
    the rungs did not keep what each document needs.
    """
    pair = compared(ladder)
    files = [] if pair is None else [out / rung["folder"] / DOCUMENTS for rung in pair]
    if not files or not all(file.is_file() for file in files):
        return None
    best, rival = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    found = paired_interval(best, rival)
    return list(found) if found is not None and np.isfinite(found.low) else None


def next_commands(out: Path, rungs: Sequence[dict[str, Any]], best: str) -> list[str]:
    """What to try now, with a beginning that fits the text."""
    prompts = [sample["prompt"] for rung in rungs for sample in rung["samples"]] or ["Once upon a time"]
    prompt = shlex.quote(" ".join(prompts[0].split()))
    return [
        f"yuyan generate {shlex.quote(str(out))}/rungs/{best} {prompt}",
        f"yuyan generate {shlex.quote(str(out))}/rungs/{best} {prompt} --temperature 0",
    ]


WORDS = {
    "en": {
        "sample": "sample {number}, after {prompt}",
        "report": "report: {page}  (open it in a browser)",
        "next": "next:",
    },
    "zh": {
        "sample": "样本 {number}，开头是 {prompt}",
        "report": "报告：{page}  （用浏览器打开）",
        "next": "接下来可以试：",
    },
}


def show(ladder: dict[str, Any], out: Path) -> None:
    """The end of the command: table, samples, where the report is, what to try; in the language of the text."""
    words = WORDS[ladder["language"]]
    columns, rows = ladder_table(ladder)
    table(ladder["title"], columns, rows)
    for sentence in ladder["verdict"]:
        say(sentence)
    for number in range(min(len(rung["samples"]) for rung in ladder["rungs"])):
        say(
            "\n"
            + words["sample"].format(number=number + 1, prompt=repr(ladder["rungs"][0]["samples"][number]["prompt"]))
        )
        for rung in ladder["rungs"]:
            say(f"  {rung['title']:<18} {_one_line(rung['samples'][number]['text'])[:220]}")
    say("\n" + words["report"].format(page=out / "report.html"))
    say(words["next"])
    for command in ladder["next"]:
        say(f"  {command}")


def _one_line(text: str) -> str:
    """A young model may write control characters, which a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def default_ladder_folder(title: str, *, resume: bool = False) -> Path:
    """`ladders/<title>`, or with a number behind it if that is taken; the last one there to `resume`."""
    base = Path("ladders") / title
    number, folder, last = 2, base, base
    while folder.exists():
        folder, number, last = base.with_name(f"{base.name}-{number}"), number + 1, folder
    return last if resume else folder


def parse_budget(text: str) -> float:
    """Seconds; at least ten. Raises InputError."""
    seconds = seconds_of(text)
    if seconds < 10:
        raise InputError(f"--budget {text}: a ladder needs at least 10s")
    return seconds

"""Pre-training, then fine-tuning, against fine-tuning from nothing: `python bench/pretraining.py [--quick] [--seeds 3] [LANGUAGE ...]`.

en   SST-2 and TREC (accuracy) and the chunks of CoNLL-2000 (F1 of spans). Unlabelled: the training part of WikiText-2, Brown, and the
     training sentences of the three without their labels
zh   hotel reviews, good or bad (ChnSentiCorp; of the texts in a fixed shuffled order each fifth is tested, the others are trained
     on). Unlabelled: the training reviews, sentences of MSRA, contexts of CMRC 2018 dev and XQuAD-zh

No text of a test part is among the unlabelled. The encoder of configs/small/encoder.yaml reads them for `--seconds` of the
processor, by masked tokens and, for the same time, by replaced tokens. From each, and from the weights that it started with, every task
is learned with the same settings and the same tokenizer. Beside them what needs no network: TF-IDF with logistic regression, for chunks a
conditional random field.

Epochs and rates are fixed (chosen on SST-2's development part) and test parts are looked at once, at the end. One thread; seconds of processor time. Each
result is a line of bench/results/pretraining.jsonl; what stands there is not run again, and `page` prints the tables of it.
With --quick: some texts and seconds, to see that all of it works; nothing is kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yuyan

# isort: split
import torch
from brown import brown_sentences
from tagging import SETS as TAGGED
from tagging import field
from tasks import ENCODER, encoder, tfidf
from tasks import SETS as LABELLED

from yuyan.commands.run import read_run_config
from yuyan.metrics.classify import score_labels
from yuyan.models.presets import ModernBert
from yuyan.nn.head import ReplacedHead

DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "pretraining.jsonl"
FIFTH = 5
Example = tuple[str, str]
Json = dict[str, Any]


class Task(NamedTuple):
    """Examples with labels, or sentences with tags, and how they are learned."""

    name: str
    train: Sequence[Any]
    test: Sequence[Any]
    epochs: int
    config: str
    context: int = 128
    analyzer: str = "word"

    @property
    def tagged(self) -> bool:
        return "tag" in self.config

    def texts(self, part: Sequence[Any]) -> list[str]:
        return [" ".join(word[0] for word in row) if self.tagged else row[0] for row in part]

    def files(self, folder: Path) -> tuple[Path, Path]:
        return tuple(written(folder / f"{self.name}-{name}.jsonl", [self.record(row) for row in part])
                     for name, part in (("train", self.train), ("test", self.test)))  # type: ignore[return-value]  # fmt: skip

    def record(self, row: Any) -> Json:
        if self.tagged:
            return {"words": [word[0] for word in row], "tags": [word[-1] for word in row]}
        return {"text": row[0], "label": row[1]}


class Language(NamedTuple):
    """A tokenizer, text without labels, and what is learned then."""

    tokenizer: str
    texts: Callable[[], Iterator[str]]
    tasks: Callable[[], list[Task]]
    seconds: int


# ---------------------------------------------------------------- data


def english() -> Iterator[str]:
    with zipfile.ZipFile(DATA / "lm" / "wikitext-2.zip") as archive:
        for line in archive.read("wikitext-2/wiki.train.tokens").decode().splitlines():
            if len(line) > 40:
                yield line.strip()
    held: list[str] = []
    for sentence in brown_sentences():  # some sentences a text, as a paragraph has
        held += sentence
        if len(held) > 80:
            yield " ".join(held)
            held = []


def english_tasks() -> list[Task]:
    sets = {name: LABELLED[name]() for name in ("SST-2", "TREC")}
    chunks = TAGGED["CoNLL-2000"]()
    return [
        *(Task(name, data.train, data.test, 4, "{kind: classify, pool: mean}") for name, data in sets.items()),
        Task("CoNLL-2000", chunks.train, chunks.test, 4, "{kind: tag, too_long: split}"),
    ]


def chinese() -> Iterator[str]:
    for name in ("cmrc2018_dev.json", "xquad.zh.json"):
        articles = json.loads((DATA / "qa" / name).read_text(encoding="utf-8"))["data"]
        yield from dict.fromkeys(part["context"] for article in articles for part in article["paragraphs"])
    for number, sentence in enumerate(TAGGED["MSRA"]().train):
        if number % FIFTH == 0:
            yield "".join(word[0] for word in sentence)


def chinese_tasks() -> list[Task]:
    with (DATA / "classify" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8-sig", newline="") as file:
        every = [(row["review"], row["label"]) for row in csv.DictReader(file) if row["review"].strip()]
    random.Random(0).shuffle(every)
    train, test = [row for i, row in enumerate(every) if i % FIFTH], every[::FIFTH]
    config = "{kind: classify, pool: mean, too_long: truncate}"
    return [Task("ChnSentiCorp", train, test, 3, config, context=256, analyzer="char")]


LANGUAGES = {
    "en": Language("{kind: wordpiece, vocab_size: 8000, lowercase: true, mask: true}", english, english_tasks, 200),
    "zh": Language("{kind: bpe, vocab_size: 8000, mask: true}", chinese, chinese_tasks, 200),
}


def unlabelled(texts: Iterator[str], tasks: Sequence[Task]) -> list[str]:
    """Texts to learn from without labels, none of them one of a test part."""
    asked = {text for task in tasks for text in task.texts(task.test)}
    every = [*texts, *(text for task in tasks for text in task.texts(task.train))]
    return [text for text in dict.fromkeys(every) if text not in asked]


def written(path: Path, rows: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- ours

VOCABULARY, FINE_RATE = 8000, 1e-3
LAYOUT = read_run_config(ENCODER).model
assert isinstance(LAYOUT, ModernBert)
JUDGE = LAYOUT.network(VOCABULARY).model_copy(update={"head": ReplacedHead()})
WAYS: dict[str, tuple[str, ...]] = {
    "nothing": ("train.budget=null", "train.steps=1", "train.optimizer={kind: adamw, lr: 1.0e-12}"),
    "masked tokens": (),
    "replaced tokens": (
        f"model={json.dumps({'kind': 'network', 'architecture': JUDGE.model_dump(mode='json')})}",
        "objective={kind: replaced_token, generator_size: 0.5, discriminator_weight: 50.0}",
    ),
}


class Result(NamedTuple):
    """Of the test part, and seconds of the processor: of reading without labels, and with them."""

    value: float
    low: float
    high: float
    before: float
    seconds: float


def before(way: str, language: Language, texts: Path, seconds: int, out: Path, seed: int) -> tuple[Path, float]:
    """An encoder after so many seconds of text without labels, or as good as none; and the seconds that it took."""
    started = time.process_time()
    length = (f"train.budget={seconds}s", "train.clock=cpu")
    model = encoder(texts, out, f"seed={seed}", f"tokenizer={language.tokenizer}", *length, *WAYS[way])
    return model, 0.0 if way == "nothing" else time.process_time() - started


def learned(model: Path, task: Task, files: tuple[Path, Path], out: Path, seed: int) -> Result:
    """The task from `model`, measured on its test part."""
    config = out.with_suffix(".yaml")
    config.write_text(
        f"name: task\nseed: {seed}\ndata: {{sources: [{files[0]}], validation: [{files[1]}]}}\n"
        f"model: {{kind: pretrained, path: {model}}}\ntask: {task.config}\n"
        f"train: {{epochs: {task.epochs}, context: {task.context}, batch_tokens: {32 * task.context}, threads: 1, save_every: 2h, "
        f"optimizer: {{kind: adamw, lr: {FINE_RATE:.3e}}}, schedule: {{kind: linear, warmup: 0.1}}}}\n"
        "evaluate: {every: 1000000, tokens: 200}\n",
        encoding="utf-8",
    )
    started = time.process_time()
    score = yuyan.train(str(config), out=out).validation
    return Result(score.value, *score.interval, 0.0, time.process_time() - started)


# ---------------------------------------------------------------- peers


def counted(task: Task) -> Result:
    """TF-IDF of one and two words, or one to three characters; for tags a conditional random field."""
    if task.tagged:
        found = field(TAGGED[task.name]()._replace(train=task.train, test=task.test))
        return Result(found.f1, found.low, found.high, 0.0, found.seconds)
    started = time.process_time()
    model = tfidf(task.analyzer, 3 if task.analyzer == "char" else 2)
    model.fit(task.texts(task.train), [label for _, label in task.train])
    shares = model.predict_proba(task.texts(task.test))
    value = score_labels(list(model.classes_), [(label,) for _, label in task.test], shares, 0).values["accuracy"]
    return Result(value.value, *value.interval, 0.0, time.process_time() - started)


# ---------------------------------------------------------------- the whole


def run(
    name: str, seeds: Sequence[int], ways: Sequence[str], quick: bool, seconds: int | None, keep: Callable[[Json], None]
) -> None:
    """Every way, seed and task of a language that `keep` has not seen."""
    language = LANGUAGES[name]
    tasks = [small(task) if quick else task for task in language.tasks()]
    spent = 5 if quick else seconds or language.seconds
    for task in tasks:
        if not any(row["task"] == task.name and row["from"] == "counting" for row in known(quick)):
            keep({"task": task.name, "from": "counting", "seed": 0, "budget": spent, **counted(task)._asdict()})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = unlabelled(language.texts(), tasks)
        source = written(folder / "texts.jsonl", [{"text": text} for text in (texts[:400] if quick else texts)])
        files = {task.name: task.files(folder) for task in tasks}
        for seed, way in ((seed, way) for seed in seeds for way in ways):
            have = {row["task"] for row in known(quick)
                    if (row["from"], row["seed"], row["budget"]) == (way, seed, spent)}  # fmt: skip
            left = [task for task in tasks if task.name not in have]
            if not left:
                continue
            place = folder / f"{way.replace(' ', '-')}-{seed}"
            model, took = before(way, language, source, spent, place, seed)
            for task in left:
                result = learned(model, task, files[task.name], folder / f"{place.name}-{task.name}", seed)
                keep(
                    {
                        "task": task.name,
                        "from": way,
                        "seed": seed,
                        "budget": spent,
                        **result._replace(before=took)._asdict(),
                    }
                )


def small(task: Task) -> Task:
    return task._replace(train=task.train[:120], test=task.test[:60], epochs=1)


def known(quick: bool = False) -> list[Json]:
    lines = [] if quick or not RESULTS.exists() else RESULTS.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def page(rows: Sequence[Json]) -> str:
    """A table: tasks across, ways down, means over seeds with the worst and the best."""
    tasks, ways = list(dict.fromkeys(row["task"] for row in rows)), [*WAYS, "counting"]
    lines = ["| from | " + " | ".join(tasks) + " |", "| --- |" + " --- |" * len(tasks)]
    for way in ways:
        cells = []
        for task in tasks:
            values = [row["value"] for row in rows if (row["task"], row["from"]) == (task, way)]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}" if values else "")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compared(rows: Sequence[Json]) -> list[Json]:
    """Masked tokens beside each other way."""
    found = []
    for task, way in (
        (task, way) for task in dict.fromkeys(row["task"] for row in rows) for way in [*WAYS, "counting"]
    ):
        sides = [
            [row["value"] for row in rows if (row["task"], row["from"]) == (task, who)]
            for who in ("masked tokens", way)
        ]
        if way == "masked tokens" or not all(sides):
            continue
        ours, theirs = map(statistics.mean, sides)
        found.append({"name": task, "unit": "share", "ours": round(ours, 4), "peer": way, "peer_value": round(theirs, 4),
                      "ratio": round(ours / theirs, 3), "equal_output": None})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="en, zh; page only prints")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=int, help="of reading without labels, each way")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (DATA / "classify").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    rows = known(options.quick)

    def keep(row: Json) -> None:
        rows.append(row)
        print(f"{row['task']:14} from {row['from']:16} seed {row['seed']}  {row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f})  "
              f"{row['before']:.0f} + {row['seconds']:.0f} CPU-s", flush=True)  # fmt: skip
        if not options.quick:
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    seeds = [0] if options.quick else [int(seed) for seed in options.seeds.split(",")]
    for name in [] if options.names == ["page"] else options.names or LANGUAGES:
        run(name, seeds, options.ways.split(","), options.quick, options.seconds, keep)
    print(page(rows))
    print(json.dumps({"bench": "pretraining", "rows": compared(rows)}))


if __name__ == "__main__":
    main()

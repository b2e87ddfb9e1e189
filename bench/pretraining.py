"""Pre-training, then fine-tuning, against fine-tuning from nothing: `python bench/pretraining.py [--quick] [--by WHAT] [--seconds 480]`.

Chinese hotel reviews, good or bad (ChnSentiCorp): of the texts in a fixed shuffled order each fifth is tested, the others
are trained on. A small encoder is trained for `--seconds` of the processor on unlabelled text: the training reviews without
their labels, a fifth of the sentences of MSRA, contexts of CMRC 2018 dev and XQuAD-zh (no text of the test part; texts that stand there
are left out), by masked tokens and, with `--replaced`, by replaced tokens for the same time. From each the reviews are learned with
the same settings, as from nothing with the same tokenizer; beside them scikit-learn's TF-IDF of one to three characters
with logistic regression.

Epochs are fixed and test reviews are looked at once, at the end: nothing is chosen by them. One thread; seconds of processor
time. A table in Markdown, then one line of JSON. With --quick: some reviews and seconds, to see that all of it works.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yuyan

# isort: split
import torch

from yuyan.metrics.classify import score_labels

DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
CONTEXT, EPOCHS, FIFTH, TOKENIZER = 256, 3, 5, "{kind: bpe, vocab_size: 8000, mask: true}"
SIZES = "hidden_size: 192, num_layers: 4, num_heads: 4, max_position_embeddings: 256, dropout: 0.1"
Example = tuple[str, str]
Json = dict[str, Any]


class Result(NamedTuple):
    """Accuracy on the test reviews, and seconds of the processor: before, and on the reviews with their labels."""

    accuracy: float
    low: float
    high: float
    before: float
    seconds: float


# ---------------------------------------------------------------- data


def reviews(quick: bool) -> tuple[list[Example], list[Example]]:
    with (DATA / "classify" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8-sig", newline="") as file:
        every = [(row["review"], row["label"]) for row in csv.DictReader(file) if row["review"].strip()]
    random.Random(0).shuffle(every)
    train, test = [row for i, row in enumerate(every) if i % 5], every[::5]
    return (train[:120], test[:60]) if quick else (train, test)


def unlabelled(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Texts to learn from without labels, none of them one of the test part."""
    texts = [text for text, _ in train]
    for name in ("cmrc2018_dev.json", "xquad.zh.json"):
        articles = json.loads((DATA / "qa" / name).read_text(encoding="utf-8"))["data"]
        texts += dict.fromkeys(part["context"] for article in articles for part in article["paragraphs"])
    with zipfile.ZipFile(DATA / "tag" / "dh_msra.zip") as archive:
        held, news = list[str](), list[str]()
        for line in io.TextIOWrapper(archive.open("dh_msra.txt"), encoding="utf-8-sig"):
            if line.strip():
                held.append(line.split()[0])
            elif held:
                news.append("".join(held))
                held = []
    asked = {text for text, _ in test}
    return [text for text in texts + news[::FIFTH] if text not in asked]


def written(path: Path, rows: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- ours


def before(kind: str, objective: str, texts: Path, seconds: int, folder: Path, seed: int) -> Path:
    """An encoder of text without labels, after so many seconds of the processor."""
    config = folder / f"{kind}-{seed}.yaml"
    config.write_text(
        f"name: {kind}\nseed: {seed}\ndata: {{sources: [{texts}]}}\ntokenizer: {TOKENIZER}\nmodel: {{kind: {kind}, {SIZES}}}\n"
        f"objective: {objective}\ntrain: {{budget: {seconds}s, clock: cpu, context: 128, batch_tokens: 2048, threads: 1, "
        "save_every: 2h, optimizer: {kind: adamw, lr: 1.0e-3}, schedule: {kind: linear, warmup: 0.1}}\n",
        encoding="utf-8",
    )
    yuyan.train(str(config), out=folder / f"{kind}-{seed}")
    return folder / f"{kind}-{seed}" / "model"


def learned(model: str, tokenizer: str, files: tuple[Path, Path], plan: Plan, out: Path, seed: int) -> Result:
    """The reviews with their labels, from `model`."""
    config = out.with_suffix(".yaml")
    config.write_text(
        f"name: reviews\nseed: {seed}\ndata: {{sources: [{files[0]}], validation: [{files[1]}]}}\n{tokenizer}"
        f"model: {model}\ntask: {{kind: classify, too_long: truncate, pool: mean}}\n"
        f"train: {{epochs: {plan.epochs}, context: {CONTEXT}, batch_tokens: 4096, threads: 1, save_every: 2h, "
        f"optimizer: {{kind: adamw, lr: {plan.rate:.6f}}}, schedule: {{kind: linear, warmup: 0.1}}}}\n"
        "evaluate: {every: 1000000, tokens: 200}\n",
        encoding="utf-8",
    )
    started = time.process_time()
    scores = yuyan.train(str(config), out=out).validation
    return Result(scores.value, *scores.interval, 0.0, time.process_time() - started)


class Plan(NamedTuple):
    """How the reviews are learned."""

    epochs: int
    rate: float


# ---------------------------------------------------------------- peer


def counted(train: Sequence[Example], test: Sequence[Example]) -> Result:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    started = time.process_time()
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True), LogisticRegression(C=10, max_iter=500)
    )
    model.fit([text for text, _ in train], [label for _, label in train])
    shares = model.predict_proba([text for text, _ in test])
    value = score_labels(list(model.classes_), [(label,) for _, label in test], shares, 0).values["accuracy"]
    return Result(value.value, *value.interval, 0.0, time.process_time() - started)


# ---------------------------------------------------------------- the whole


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=int, default=480, help="of pre-training, of each kind")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="on the reviews")
    parser.add_argument("--by", help="only what begins from this: nothing, masked, replaced, TF")
    parser.add_argument("--replaced", action="store_true", help="replaced tokens too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (DATA / "classify").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    train, test = reviews(options.quick)
    plan = Plan(1 if options.quick else options.epochs, 5e-4)
    seconds = 5 if options.quick else options.seconds
    print(
        "| reviews, from | seed | accuracy (95 %) | CPU s before | CPU s |\n| --- | --- | --- | --- | --- |", flush=True
    )
    found: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = (
            written(folder / "train.jsonl", [{"text": text, "label": label} for text, label in train]),
            written(folder / "test.jsonl", [{"text": text, "label": label} for text, label in test]),
        )
        texts = written(folder / "texts.jsonl", [{"text": text} for text in unlabelled(train, test)])
        ways = ways_of(options.replaced, files, texts, plan, seconds, folder)
        for who, work in {**ways, "TF-IDF + logistic regression": lambda seed: counted(train, test)}.items():
            if options.by and options.by not in who:
                continue
            for seed in range(1 if who.startswith("TF") else options.seeds):
                each = work(seed)
                found.setdefault(who, []).append(each)
                print(f"| {who} | {seed} | {each.accuracy:.4f} ({each.low:.4f} to {each.high:.4f}) | {each.before:.0f} | "
                      f"{each.seconds:.0f} |", flush=True)  # fmt: skip
    mean = {who: sum(each.accuracy for each in results) / len(results) for who, results in found.items()}
    mine = mean.pop("masked tokens", None)
    rows = [
        {"name": "ChnSentiCorp accuracy", "unit": "share", "ours": round(mine, 4), "peer": who, "peer_value": round(value, 4),
         "ratio": round(mine / value, 3), "equal_output": None} for who, value in mean.items() if mine is not None
    ]  # fmt: skip
    print(json.dumps({"bench": "pretraining", "rows": rows}))


def ways_of(
    replaced: bool, files: tuple[Path, Path], texts: Path, plan: Plan, seconds: int, folder: Path
) -> dict[str, Callable[[int], Result]]:
    def nothing(seed: int) -> Result:
        return learned(
            f"{{kind: bert, {SIZES}}}", f"tokenizer: {TOKENIZER}\n", files, plan, folder / f"nothing-{seed}", seed
        )

    def after(kind: str, objective: str) -> Callable[[int], Result]:
        def work(seed: int) -> Result:
            started = time.process_time()
            place = before(kind, objective, texts, seconds, folder, seed)
            spent = time.process_time() - started
            return learned(
                f"{{kind: pretrained, path: {place}}}", "", files, plan, folder / f"after-{kind}-{seed}", seed
            )._replace(before=spent)

        return work

    found: dict[str, Callable[[int], Result]] = {
        "nothing": nothing,
        "masked tokens": after("bert", "{kind: masked_token}"),
    }
    if replaced:
        found["replaced tokens"] = after(
            "electra", "{kind: replaced_token, generator_size: 0.5, discriminator_weight: 50.0}"
        )
    return found


if __name__ == "__main__":
    main()

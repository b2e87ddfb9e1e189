"""What word vectors bring a classifier: `python bench/embedding.py [--quick] [--seeds 0,1,2] [NAMES]`.

A bidirectional LSTM whose embedding begins by chance, as vectors that stay as they are, and as vectors that are trained on;
with all training texts and with a tenth of them. SST-2: words, vectors of the training texts, Brown and WikiText-2 (skip-gram, 100
dimensions). ChnSentiCorp: characters, vectors of its training texts, CMRC's and XQuAD's contexts and MSRA's sentences; a tenth of the
reviews, chosen by a hash of the text, is the test, another validates. No vector has seen a test text. The peer is
scikit-learn's TF-IDF with logistic regression. One thread; accuracy on the test set, mean over seeds. The last line is JSON.
With --quick: one seed, one epoch, few texts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yuyan

# isort: split
from brown import brown_sentences
from tasks import DATA, Example, Set, counted, write

BEGINNINGS = {
    "by chance": "",
    "frozen": ", embedding: {{from: {}, frozen: true}}",
    "tuned": ", embedding: {{from: {}}}",
}
SIZE = 100


class Texts(NamedTuple):
    """A set, and how its texts are cut."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    more: Callable[[], Iterable[str]]
    """Text without labels, a line each."""
    tokenizer: str
    units: str
    counted_by: str
    """What the peer counts, in scikit-learn's words."""
    epochs: tuple[int, int] = (6, 20)
    """Over all training texts, and over a tenth of them."""


def labelled(name: str) -> list[Example]:
    rows = (DATA / "classify" / name).read_text(encoding="utf-8").splitlines()
    return [(row[2:], row[0]) for row in rows if row.strip()]


def english() -> Texts:
    def more() -> Iterable[str]:
        yield from (" ".join(sentence) for sentence in brown_sentences())
        with zipfile.ZipFile(DATA / "lm" / "wikitext-2.zip") as archive:
            name = next(each for each in archive.namelist() if "train" in each)
            yield from archive.read(name).decode("utf-8").splitlines()

    parts = [labelled(f"stsa.binary.{part}") for part in ("train", "dev", "test")]
    return Texts(*parts, more, "{kind: word, lowercase: true}", "words", "word")


def chinese() -> Texts:
    with (DATA / "classify" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["review"].strip(): row["label"] for row in csv.DictReader(file)}  # no text twice
    shuffled = list(rows.items())  # the file has one label after the other
    random.Random(0).shuffle(shuffled)
    parts: tuple[list[Example], ...] = ([], [], [])
    for text, label in shuffled:
        place = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        if text:
            parts[{0: 2, 1: 1}.get(place, 0)].append((text, label))

    def more() -> Iterable[str]:
        for name in ("cmrc2018_dev.json", "xquad.zh.json"):
            articles = json.loads((DATA / "qa" / name).read_text(encoding="utf-8"))["data"]
            yield from (paragraph["context"] for article in articles for paragraph in article["paragraphs"])
        with zipfile.ZipFile(DATA / "tag" / "dh_msra.zip") as archive:
            name = max(archive.namelist(), key=lambda each: archive.getinfo(each).file_size)
            columns = archive.read(name).decode("utf-8").splitlines()
        yield from "".join(line.split()[0] if line.strip() else "\n" for line in columns).split("\n")

    return Texts(*parts, more, "{kind: char}", "characters", "char", (3, 10))


def vectors_of(texts: Texts, folder: Path, quick: bool) -> Path:
    source, out = folder / "text.txt", folder / "vectors"
    lines = [text for text, _ in texts.train]
    source.write_text("\n".join(lines if quick else [*lines, *texts.more()]), encoding="utf-8")
    settings = [
        f"model={{kind: skipgram, epochs: {1 if quick else 5}}}",
        f"dimensions={SIZE}",
        f"units.kind={texts.units}",
        "threads=1",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-m", "yuyan", "vectors", "train", str(source), "--out", str(out), *words], check=True
    )
    return out


def accuracy(
    texts: Texts, train: list[Example], begin: str, vectors: Path, seed: int, folder: Path, epochs: int
) -> float:
    """On the test set, of the weights that did best on the validation set."""
    folder.mkdir()
    files = [write(folder / f"{name}.jsonl", rows) for name, rows in
             (("train", train), ("validation", texts.validation), ("test", texts.test))]  # fmt: skip
    config = folder / "run.yaml"
    config.write_text(
        f"name: bench\nseed: {seed}\ndata: {{sources: [{files[0]}], validation: [{files[1]}], test: [{files[2]}]}}\n"
        f"tokenizer: {texts.tokenizer}\ntask: {{kind: classify, too_long: truncate}}\n"
        f"model: {{kind: bilstm, hidden_size: 256, embedding_size: {SIZE}, dropout: 0.4{BEGINNINGS[begin].format(vectors)}}}\n"
        f"train: {{epochs: {epochs}, context: 256, batch_tokens: 8192, threads: 1, save_every: 2h, "
        "optimizer: {kind: adamw, lr: 2.0e-3}}\nevaluate: {tokens: 30000}\n",
        encoding="utf-8",
    )
    return float(yuyan.train(str(config), out=folder / "run").test.value)


def rows_of(name: str, texts: Texts, seeds: list[int], quick: bool, folder: Path) -> list[dict[str, Any]]:
    if quick:
        texts = texts._replace(train=texts.train[:200], validation=texts.validation[:50], test=texts.test[:50])
    vectors, found = vectors_of(texts, folder, quick), list[dict[str, Any]]()
    for share in (1,) if quick else (1, 10):
        train = texts.train[::share]
        peer = counted(Set(train, texts.test), texts.counted_by)["accuracy"]
        for begin in BEGINNINGS:
            places = [folder / f"{share} {begin} {seed}".replace(" ", "-") for seed in seeds]
            each = [accuracy(texts, train, begin, vectors, seed, place, 1 if quick else texts.epochs[share > 1])
                    for seed, place in zip(seeds, places, strict=True)]  # fmt: skip
            mean = statistics.mean(each)
            print(
                f"{name}, {len(train):,} texts, {begin}: {mean:.3f} ({' '.join(f'{a:.3f}' for a in each)}), TF-IDF {peer:.3f}",
                flush=True,
            )
            found.append({
                "name": f"{name}, {len(train)} texts, {begin}", "unit": "accuracy", "ours": round(mean, 4), "seeds": [round(a, 4) for a in each],
                "peer": "TF-IDF + logistic regression", "peer_value": round(peer, 4), "ratio": round(mean / peer, 3), "equal_output": None,
            })  # fmt: skip
    return found


SETS: dict[str, Callable[[], Texts]] = {"SST-2": english, "ChnSentiCorp": chinese}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(SETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    if not (DATA / "classify").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    seeds = [0] if options.quick else [int(seed) for seed in options.seeds.split(",")]
    rows = []
    for name in options.names or SETS:
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(name, SETS[name](), seeds, options.quick, Path(folder))
    print(json.dumps({"bench": "embedding", "rows": rows}))


if __name__ == "__main__":
    main()

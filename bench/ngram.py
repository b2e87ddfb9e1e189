"""N-gram estimation and lookup on one thread against KenLM and NLTK: `python bench/ngram.py [--quick] [--part growth]`.

Ours and the peer alternate; the figure is the median, in tokens per second of processor time (the peer's own process
included), so that a busy machine disturbs little. KenLM's estimator is `lmplz` on the path or in $LMPLZ; what is not
installed is left out, and the output says so. `--part growth` counts orders 1 to 5 of drawn texts of 100,000 to 100 million tokens, each in
a process of its own: time and peak memory (100,000 words by Zipf's law, one independent of the other, so that nearly all long n-grams
are new: real text repeats itself and needs less). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from brown import TRAIN, brown_sentences, read_brown, read_wikitext

from yuyan.models.arpa import read_arpa, write_arpa
from yuyan.models.ngram import NGram

ORDER = 5
SPECIAL = ["<s>", "</s>", "<unk>"]
BOS, EOS, UNK = 0, 1, 2
Row = dict[str, Any]


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of `work`, child processes included."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime for a, b in zip(after, before, strict=True))


def alternate(repeats: int, *works: Callable[[], object]) -> list[float]:
    """The median processor time of each, run in turns."""
    times = [[processor_seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def row(
    name: str, unit: str, ours: float, peer: str = "", value: float | None = None, equal: bool | None = None
) -> Row:
    """One line of the table; `ratio` is how many times better ours is, for rates."""
    ratio = None if not value else ours / value
    shown = "" if not value or not ratio else f"   {peer}: {value:,.4g}   ratio {ratio:.2f}   equal output: {equal}"
    print(f"{name}: {ours:,.4g} {unit}{shown}", flush=True)
    return {
        "name": name, "unit": unit, "ours": ours, "peer": peer or None, "peer_value": value, "ratio": ratio,
        "equal_output": equal,
    }  # fmt: skip


class Text:
    """Sentences as a text file and as ids of the words of the training part."""

    def __init__(self, folder: Path, name: str, train: Sequence[Sequence[str]], test: Sequence[Sequence[str]]):
        self.name, self.file = name, folder / f"{name}.txt"
        self.file.write_text("".join(" ".join(sentence) + "\n" for sentence in train))
        self.lines = [" ".join(sentence) for sentence in test]
        self.number: dict[str, int] = {}
        self.tokens, self.starts = self.encode(self.file)

    def encode(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read and number the words of a file, a new word getting a new number; the vocabulary grows from nothing."""
        number = {word: i for i, word in enumerate(SPECIAL)}
        lines = file.read_text().splitlines()
        ids = [[number.setdefault(word, len(number)) for word in line.split()] for line in lines]
        self.number = number
        starts = np.cumsum([0, *map(len, ids)])
        return np.fromiter((i for line in ids for i in line), np.int32, int(starts[-1])), starts

    def fit(self, order: int = ORDER) -> NGram:
        sizes = {"order": order, "vocab_size": len(self.number)}
        return NGram.fit(self.tokens, self.starts, bos=BOS, eos=EOS, **sizes)

    def test_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """The test sentences, each with its end mark."""
        ids = [[self.number.get(word, UNK) for word in line.split()] + [EOS] for line in self.lines]
        return np.array([i for line in ids for i in line], np.int32), np.cumsum([0, *map(len, ids)])


def bench_estimate(text: Text, folder: Path, repeats: int) -> list[Row]:
    """From ids in memory, and from a text file to a model file beside lmplz."""
    count = len(text.tokens)
    (seconds,) = alternate(repeats, text.fit)
    rows = [row(f"estimate order {ORDER}, {text.name}, ids to model", "tokens/s", count / seconds)]

    def whole() -> None:
        text.tokens, text.starts = text.encode(text.file)
        text.fit().save(folder / "ours")

    name = f"estimate order {ORDER}, {text.name}, text file to model file"
    lmplz = os.environ.get("LMPLZ") or shutil.which("lmplz")
    if lmplz is None:
        print("lmplz: not on the path and no $LMPLZ; compile KenLM to compare with it")
        return [*rows, row(name, "tokens/s", count / alternate(repeats, whole)[0])]
    out = folder / f"{text.name}.lmplz.arpa"
    command = [
        lmplz,
        "-o",
        str(ORDER),
        "-S",
        "1G",
        "-T",
        str(folder / "tmp"),
        "--text",
        str(text.file),
        "--arpa",
        str(out),
    ]
    run = lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    ours, theirs = alternate(repeats, whole, run)
    equal = same_as_lmplz(text, out)
    return [*rows, row(name, "tokens/s", count / ours, "KenLM lmplz", count / theirs, equal)]


def same_as_lmplz(text: Text, arpa: Path) -> bool:
    """Whether lmplz's model gives the test sentences our probabilities, within 1e-4 in log10 per token."""
    model, names = read_arpa(arpa)
    theirs = {name: i for i, name in enumerate(names)}
    renumber = np.array([theirs[word] for word in text.number])
    ids, starts = text.test_ids()
    ours, other = text.fit().log_probs_documents(ids, starts), model.log_probs_documents(renumber[ids], starts)
    return bool(np.abs(ours - other).max() / np.log(10) < 1e-4)


def bench_query(text: Text, folder: Path, repeats: int) -> list[Row]:
    """Lookup of the test sentences beside KenLM's Python binding (probing, loaded from our ARPA file)."""
    model = text.fit()
    ids, starts = text.test_ids()
    by_ids = lambda: model.log_probs_documents(ids, starts)
    by_words = lambda: model.log_probs_documents(*text.test_ids())
    by_ids()
    names = [f"look up order {ORDER}, {text.name}, {kind}" for kind in ("ids", "words")]
    if find_spec("kenlm") is None:
        print("kenlm: not installed; `pip install kenlm` to compare with it")
        return [
            row(n, "tokens/s", len(ids) / s) for n, s in zip(names, alternate(repeats, by_ids, by_words), strict=True)
        ]
    import kenlm

    arpa = folder / "ours.arpa"
    write_arpa(model, arpa, list(text.number))
    peer = kenlm.Model(str(arpa))
    score = lambda: [peer.score(line, bos=True, eos=True) for line in text.lines]
    ours = np.add.reduceat(by_ids(), starts[:-1]) / np.log(10)
    equal = bool(np.all(np.abs(ours - score()) < 1e-4 * np.diff(starts)))
    seconds = alternate(repeats, by_ids, by_words, score)
    rates = [len(ids) / s for s in seconds]
    rows = [
        row(n, "tokens/s", rate, "KenLM, Python, words", rates[2], equal)
        for n, rate in zip(names, rates[:2], strict=True)
    ]
    grams = sum(model.sizes)
    read, write, load = alternate(
        2, lambda: read_arpa(arpa), lambda: write_arpa(model, folder / "again.arpa", list(text.number)),
        lambda: kenlm.Model(str(arpa)),
    )  # fmt: skip
    rows.append(row(f"read ARPA, {text.name}", "n-grams/s", grams / read, "KenLM", grams / load, equal))
    return [*rows, row(f"write ARPA, {text.name}", "n-grams/s", grams / write)]


def bench_nltk(text: Text, repeats: int) -> list[Row]:
    """NLTK's interpolated Kneser-Ney (one fixed discount: another model, so only the rates compare), 5,000 words."""
    if find_spec("nltk") is None:
        print("nltk: not installed; `pip install nltk` to compare with it")
        return []
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import padded_everygram_pipeline

    sentences = [line.split() for line in text.file.read_text().splitlines()[:250]]
    ids = [[text.number[word] for word in sentence] for sentence in sentences]
    tokens, starts = np.concatenate(ids), np.cumsum([0, *map(len, ids)])
    made: list[Any] = [None]

    def theirs() -> None:
        made[0] = KneserNeyInterpolated(3)
        made[0].fit(*padded_everygram_pipeline(3, sentences))

    ours = lambda: NGram.fit(tokens, starts, order=3, vocab_size=len(text.number), bos=BOS, eos=EOS)
    a, b = alternate(repeats, ours, theirs)
    count, model, peer = len(tokens), ours(), made[0]
    rows = [row("estimate order 3, 250 sentences", "tokens/s", count / a, "NLTK", count / b, None)]
    asked = [(s[i], s[max(0, i - 2) : i]) for s in sentences for i in range(len(s))][:100]
    query = lambda: model.log_probs_documents(tokens, starts)
    a, b = alternate(repeats, query, lambda: [peer.score(word, context) for word, context in asked])
    return [*rows, row("look up order 3, 250 sentences", "tokens/s", count / a, "NLTK", len(asked) / b, None)]


def bench_brown_split(repeats: int) -> list[Row]:
    """Perplexities under the split rule of Bengio et al. 2003, and full distributions as generation needs them."""
    brown, rows = read_brown(), []
    starts = np.array([0, len(brown.train)])
    for order in range(1, ORDER + 1):
        model = NGram.fit(brown.train, starts, order=order, vocab_size=len(brown.vocabulary))
        for part, ids in (("validation", brown.validation), ("test", brown.test)):
            found = float(np.exp(-model.log_probs(ids).mean()))
            rows.append(row(f"Brown, split rule of Bengio 2003, order {order}, {part}", "perplexity", found))
    for batch in (1, 64):
        hidden = model.decode(torch.from_numpy(brown.test[: 64 * 8].reshape(-1, 8)))[:batch, -1:]
        (seconds,) = alternate(repeats, lambda hidden=hidden: [model.score(hidden) for _ in range(256 // len(hidden))])
        name = f"score: distributions over {len(brown.vocabulary):,} words, batch {batch}"
        rows.append(row(name, "contexts/s", 256 / seconds))
    return rows


def bench_growth(quick: bool) -> list[Row]:
    """Over three decades of tokens."""
    rows = list[Row]()
    for tokens in (10_000, 100_000) if quick else (100_000, 1_000_000, 10_000_000, 100_000_000):
        command = [sys.executable, __file__, "--count", str(tokens)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(
            f"{tokens:>11,} tokens: {found['seconds']:8.2f} CPU-s, {found['grams']:>11,} n-grams, peak {found['bytes'] / 2**20:8,.0f} MiB",
            flush=True,
        )
        rows.append(
            row(f"count order {ORDER}, {tokens:,} tokens", "CPU s", found["seconds"])
            | {"mebibytes": found["bytes"] / 2**20}
        )
    return rows


def count_drawn(tokens: int) -> dict[str, float]:
    """Processor time of one estimation, how many n-grams came out, and the peak memory of this process."""
    draw, words = np.random.default_rng(0), 100_000
    bounds = np.cumsum(1 / np.arange(1, words + 1))
    pieces = [
        np.searchsorted(bounds, draw.random(min(1 << 20, tokens - at)) * bounds[-1]).astype(np.int32)
        for at in range(0, tokens, 1 << 20)
    ]
    ids = np.concatenate(pieces) + len(SPECIAL)
    del pieces
    starts = np.append(np.arange(0, tokens, 25), tokens)
    models = list[NGram]()
    seconds = processor_seconds(
        lambda: models.append(NGram.fit(ids, starts, order=ORDER, vocab_size=words + len(SPECIAL), bos=BOS, eos=EOS))
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "grams": sum(models[0].sizes), "bytes": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, Brown only")
    parser.add_argument("--part", choices=["all", "growth"], default="all")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quick = options.quick
    torch.set_num_threads(1)
    if options.count is not None:
        print(json.dumps(count_drawn(options.count)))
        return 0
    if options.part == "growth":
        print(json.dumps({"bench": "ngram", "rows": bench_growth(quick)}))
        return 0
    repeats = 3 if quick else 7
    try:
        sentences = brown_sentences()
        wikitext = None if quick else read_wikitext()
    except FileNotFoundError as error:
        print(f"skipped: no data: {error}; set YUYAN_DATA to the folder of data sets")
        print(json.dumps({"bench": "ngram", "rows": []}))
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut = int(np.searchsorted(np.cumsum([len(s) for s in sentences]), TRAIN))
        texts = [Text(folder, "Brown sentences", sentences[:cut], sentences[cut:])]
        if wikitext is not None:
            lines = [
                [wikitext.vocabulary[i].replace("<unk>", "unk_") for i in line]
                for line in np.split(
                    wikitext.train, np.flatnonzero(wikitext.train == wikitext.vocabulary.index("<eos>")) + 1
                )
            ]
            texts.append(Text(folder, "WikiText-2", lines, lines[:2000]))
        for text in texts:
            rows += bench_estimate(text, folder, repeats)
        rows += bench_query(texts[0], folder, repeats)
        rows += bench_nltk(texts[0], repeats)
    rows += bench_brown_split(repeats)
    if wikitext is not None:
        sizes = {"order": ORDER, "vocab_size": len(wikitext.vocabulary)}
        model = NGram.fit(wikitext.train, np.array([0, len(wikitext.train)]), **sizes)
        for part, ids in (("validation", wikitext.validation), ("test", wikitext.test)):
            found = float(np.exp(-model.log_probs(ids).mean()))
            rows.append(row(f"WikiText-2, one stream, order {ORDER}, {part}", "perplexity", found))
    print(json.dumps({"bench": "ngram", "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

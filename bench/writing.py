"""Tasks that write, from nothing: `python bench/writing.py [--quick] [--budget 1h] [NAMES]`.

multi30k    English to German captions (29,000 pairs), test2016: sacreBLEU, cased and detokenised, beside the source copied
dialogsum   summaries of dialogues, learned from the 500 of the development part, measured on 500 with three references:
            ROUGE beside the first sentences of the dialogue

The configs are those of configs/small, one thread, one seed. `--budget` is the time to train, `--clock cpu` counts that of
the processor. Looks at the validation data are at the loss; the curve is in the run's report. The last line is JSON. With
--quick: some seconds each, to see that all of it works.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yuyan
from yuyan.evaluate.task_score import TaskScore
from yuyan.metrics.written import against_references

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("YUYAN_DATA", ROOT / ".." / "shared" / "data"))
Rows = list[dict[str, Any]]
UNITS = {"bleu": "sacreBLEU", "chrf": "chrF", "ter": "TER, less is better"}


def listed(*names: str) -> str:
    return "[" + ", ".join(str((DATA / name).resolve()) for name in names) + "]"


def train(name: str, out: Path, *changes: str) -> tuple[TaskScore, TaskScore, float]:
    """Scores on validation and test, and seconds of the processor for all of it."""
    started = time.process_time()
    result = yuyan.train(str(ROOT / "configs" / "small" / name), *changes, "train.threads=1", out=out)
    assert isinstance(result.validation, TaskScore) and isinstance(result.test, TaskScore)
    return result.validation, result.test, time.process_time() - started


def row(name: str, unit: str, score: TaskScore, peer: str, value: float, seconds: float) -> dict[str, Any]:
    ours = score.value if score.measure == name.split()[-1] else score.others[name.split()[-1]]
    low, high = score.interval_of(name.split()[-1])
    return {
        "name": name, "unit": unit, "ours": round(ours, 4), "interval": [round(low, 4), round(high, 4)], "peer": peer,
        "peer_value": round(value, 4), "ratio": round(ours / max(value, 1e-9), 2), "equal_output": None,
        "cpu_seconds": round(seconds), "notes": list(score.notes),
    }  # fmt: skip


def multi30k(folder: Path, changes: list[str]) -> Rows:
    place = "translate/multi30k/{}.{}.gz"
    sources = {key: listed(*(place.format(part, code) for code in ("en", "de"))) for key, part in
               (("sources", "train"), ("validation", "val"), ("test", "test_2016_flickr"))}  # fmt: skip
    _, test, seconds = train("translate.yaml", folder, *(f"data.{k}={v}" for k, v in sources.items()), *changes)
    texts = [gzip.decompress((DATA / place.format("test_2016_flickr", code)).read_bytes()).decode().splitlines()
             for code in ("en", "de")]  # fmt: skip
    copied = {
        name: against_references(name, texts[0], [[text] for text in texts[1]], "de", 0)[0].value for name in UNITS
    }
    return [
        row(f"multi30k test2016 {name}", unit, test, "the source copied", copied[name], seconds)
        for name, unit in UNITS.items()
    ]


def dialogsum(folder: Path, changes: list[str]) -> Rows:
    where = [
        f"data.sources={listed('summarize/dialogsum.dev.jsonl')}",
        f"data.test={listed('summarize/dialogsum.test.jsonl')}",
    ]
    _, test, seconds = train("summarise.yaml", folder, *where, *changes)
    names = ("rouge1", "rouge2", "rouge_l")
    best = {name: max((values[name], lead) for lead, values in test.beside.items()) for name in names}
    return [row(f"dialogsum test {n}", "ROUGE F", test, best[n][1], best[n][0], seconds) for n in names]


SETS: dict[str, Callable[[Path, list[str]], Rows]] = {"multi30k": multi30k, "dialogsum": dialogsum}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(SETS), choices=[*SETS, []])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", help="time to train, such as 1h")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--out", type=Path, help="a folder to keep the runs in")
    given = parser.parse_args()
    budget = "5s" if given.quick else given.budget
    changes = [f"train.clock={given.clock}"]
    if budget is not None:
        changes += ["train.epochs=null", "train.steps=null", f"train.budget={budget}"]
    if given.quick:
        changes += ["task.max_tokens=4", "task.beams=1"]
    found: Rows = []
    with tempfile.TemporaryDirectory(prefix="yuyan-") as temporary:
        for name in given.names:
            found += SETS[name]((given.out or Path(temporary)) / name, changes)
    for each in found:
        print(
            f"{each['name']}: {each['ours']} {each['interval']}, {each['peer']} {each['peer_value']}; {each['cpu_seconds']} s of the processor"
        )
        print("\n".join(f"    {note}" for note in each["notes"]))
    print(json.dumps({"bench": "writing", "rows": found}))


if __name__ == "__main__":
    main()

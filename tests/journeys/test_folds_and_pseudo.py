"""Cross-validation and pseudo-labels, by the commands alone: every record tested once, nothing measured that was learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy_tasks
from toy_runs import command

from yuyan.commands import folds as folds_module
from yuyan.commands.folds import dealt
from yuyan.errors import Interrupted
from yuyan.store import read_lines
from yuyan.tasks.labelled_text import Labelled

BERT = "{kind: bert, hidden_size: 32, num_layers: 1, num_heads: 2, dropout: 0.0, initialisation: {std: 0.2}}"
SHORT = ("train.epochs=6", "evaluate.every=24")


def config(folder: Path, rows: list[dict[str, Any]], task: str = "{kind: classify}") -> Path:
    data = toy_tasks.write_jsonl(folder / "rows.jsonl", rows)
    path = toy_tasks.config(folder, data, task, BERT)
    plain = path.read_text(encoding="utf-8").replace(f"validation: [{data}]", "split: {kind: random, validation: 0.2}")
    path.write_text(plain, encoding="utf-8")
    return path


def moods(language: str = "en") -> list[dict[str, Any]]:
    return [{"text": text, "label": mood} for text, mood in toy_tasks.sentences(language)]


def spans(language: str = "en") -> list[dict[str, Any]]:
    """The mood of each text is a span."""
    found = []
    for text, mood in toy_tasks.sentences(language):
        word = text.rstrip(".").split(" ")[-1]
        start = text.index(word)
        found.append({"text": text, "spans": [{"start": start, "end": start + len(word), "label": mood.upper()}]})
    return found


def test_equal_texts_share_a_fold_and_labels_are_dealt_out_evenly() -> None:
    records = [Labelled(f"text {i % 40}", ("ab"[i % 40 < 10],), "") for i in range(60)]
    folds = dealt(records, 5, 3)
    assert {
        fold: len({r.text for r, f in zip(records, folds, strict=True) if f == fold}) for fold in range(5)
    } == dict.fromkeys(range(5), 8)
    for label, count in (("a", 6), ("b", 2)):
        found = [
            len({r.text for r, f in zip(records, folds, strict=True) if f == fold and r.labels == (label,)})
            for fold in range(5)
        ]
        assert found == [count] * 5
    assert all(
        len({f for r, f in zip(records, folds, strict=True) if r.text == text}) == 1
        for text in {r.text for r in records}
    )
    assert folds == dealt(records, 5, 3) != dealt(records, 5, 4)


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_every_record_is_tested_once_and_a_stopped_search_goes_on(
    task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = moods() if task == "classify" else spans()
    path, out = config(tmp_path, rows, f"{{kind: {task}}}"), tmp_path / "folds"
    order = ("folds", str(path), *SHORT, "--folds", "2", "--out", str(out))
    train = folds_module.train_command

    def stops(config: Any, folder: Path, *, resume: bool) -> Any:
        if folder.name == "fold-2":
            raise Interrupted("stopped by SIGINT after step 3, all saved. To go on:\n  yuyan train ...")
        return train(config, folder, resume=resume)

    monkeypatch.setattr(folds_module, "train_command", stops)
    assert command(*order) == 130
    assert "in fold 2. To go on:\n  yuyan folds " in capfd.readouterr().err
    monkeypatch.setattr(folds_module, "train_command", train)
    first = (out / "fold-1" / "report.html").stat().st_mtime_ns
    assert command(*order) == 0
    assert (out / "fold-1" / "report.html").stat().st_mtime_ns == first
    found = json.loads((out / "folds.json").read_text())
    measure = "accuracy" if task == "classify" else "span_f1"
    values = [fold[measure] for fold in found["folds"]]
    assert found["mean"][measure] == pytest.approx(sum(values) / 2) and "spread" in capfd.readouterr().err
    tested = [row for number in (1, 2) for row in read_lines(out / "data" / str(number) / "test.jsonl")]
    assert sorted(row["where"] for row in tested) == sorted(f"rows.jsonl:{i}" for i in range(1, len(rows) + 1))
    for number in (1, 2):
        parts = {
            name: {r["where"] for r in read_lines(out / "data" / str(number) / f"{name}.jsonl")}
            for name in ("train", "validation", "test")
        }
        assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == len(rows) and all(parts.values())
    toy_tasks.write_jsonl(tmp_path / "rows.jsonl", rows[1:])
    assert command(*order) == 2
    assert f"rows.jsonl: not the records that {out} began with" in capfd.readouterr().err


def test_orders_that_cannot_be(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, moods())
    out = ("--out", str(tmp_path / "folds"))
    for words, said in (
        (("--folds", "1"), "--folds: 1; at least 2"), ((f"data.test=[{tmp_path / 'rows.jsonl'}]",), "data.test: with folds every record"),
        (("--folds", "65"), "64 different texts are too few for 65 folds"), (("data.split={kind: ordered}",), "data.split.kind ordered"),
    ):  # fmt: skip
        assert command("folds", str(path), *words, "--out", str(tmp_path / f"folds{len(said)}")) == 2
        assert said in capfd.readouterr().err
    for count in (65, 66):  # what came to nothing does not hold the folder
        assert command("folds", str(path), "--folds", str(count), *out) == 2
        assert f"64 different texts are too few for {count} folds" in capfd.readouterr().err
    (tmp_path / "folds" / "data").mkdir()
    (tmp_path / "folds" / "folds.yaml").write_text("folds: 3\nrun: {}\n")
    assert command("folds", str(path), *out) == 2
    assert "folds with another folds; use --out" in capfd.readouterr().err
    text = tmp_path / "lm.yaml"
    text.write_text(path.read_text().replace("task: {kind: classify}\n", ""))
    assert command("folds", str(text), *out) == 2
    assert "folds are of tasks" in capfd.readouterr().err


# ---------------------------------------------------------------- pseudo-labels


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_confident_answers_are_learned_and_nothing_known_is_taken(
    task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = moods() if task == "classify" else spans()
    run = tmp_path / "run"
    labelled = rows[::2]
    assert (
        command("train", str(config(tmp_path, labelled, f"{{kind: {task}}}")), "train.epochs=40", "--out", str(run))
        == 0
    )
    rest = [{"text": row["text"]} for row in (*rows[1::2], *rows[1:3], *labelled[:4])]
    rest.append({"text": labelled[0]["text"].upper() + "  "})
    texts = toy_tasks.write_jsonl(tmp_path / "texts.jsonl", rest)
    out = tmp_path / "out"
    order = ("pseudo", str(run), str(texts), "--out", str(out), "--threshold", "0.6", "--set", "train.epochs=8")
    capfd.readouterr()
    assert command(*order) == 0
    err = capfd.readouterr().err
    assert (
        f"{len(rest)} texts; 7 of them are known to the run or there twice, and left out" in err
        and "before and after" in err
    )
    taken = list(read_lines(out / "round-1" / "pseudo.jsonl"))
    truth = {row["text"]: row for row in rows}
    assert taken and all(row["probability"] >= 0.6 for row in taken)
    if task == "classify":
        assert sum(truth[row["text"]]["label"] == row["label"] for row in taken) > 0.8 * len(taken)
    else:
        assert all(
            " ".join(row["words"]).replace(" .", ".") in truth and len(row["words"]) == len(row["tags"])
            for row in taken
        )
    before = {name: list(read_lines(run / "data" / f"{name}.jsonl")) for name in ("train", "validation", "test")}
    after = {name: list(read_lines(out / "round-1" / "data" / f"{name}.jsonl")) for name in before}
    assert after["validation"] == before["validation"] and after["test"] == before["test"]
    assert after["train"][: len(before["train"])] == before["train"]
    assert len(after["train"]) == len(before["train"]) + len(taken)
    changed = (out / "round-1" / "run" / "report.html").stat().st_mtime_ns
    assert command(*order) == 0
    assert (out / "round-1" / "run" / "report.html").stat().st_mtime_ns == changed
    assert command(*order[:6], "0.7") == 2
    assert "begun with another order" in capfd.readouterr().err
    for threshold in ("0.9999999", "0.9999998"):
        assert command("pseudo", str(run), str(texts), "--out", str(tmp_path / "none"), "--threshold", threshold) == 2
        assert f"no answer is as sure as {threshold}; the surest is 0." in capfd.readouterr().err
    known = toy_tasks.write_jsonl(tmp_path / "known.jsonl", [{"text": row["text"]} for row in labelled[:3]])
    assert command("pseudo", str(run), str(known), "--out", str(tmp_path / "none2")) == 2
    assert "knows all of its 3 texts already" in capfd.readouterr().err

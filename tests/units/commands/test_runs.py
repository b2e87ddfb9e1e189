"""Runs listed and compared: each state is seen as what it is, and only what is alike is subtracted."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runs import CONFIG, command, refused

from yuyan.commands.compare import compare_runs
from yuyan.commands.runs import find_runs, list_runs, summarise_run
from yuyan.errors import InputError
from yuyan.evaluate.sketch import sketch
from yuyan.metrics import difference_interval
from yuyan.store import publish_folder


def written(
    folder: Path, score: float | None = 2.0, *, text: str = "abc", created: str = "2026-11-22T08:00:00+0000",
    each: list[float] | None = None, measure: str = "bits_per_byte", seed: int = 0, language: str = "en",
    plan: str = "steps: 100", unit: str = "tokens",
) -> Path:  # fmt: skip
    """A run folder as a training leaves it; without a score, as it is on the way."""
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(
        f"name: toy\nseed: {seed}\ndata: {{sources: [{CONFIG.parent / 'stories.txt'}]}}\nmodel: {{kind: gpt}}\ntrain: {{{plan}}}\n"
    )
    made = {
        "created": created,
        "parameters": 1234,
        "text": {"validation": text, "test": text},
        "language": language,
        "unit": unit,
    }
    (folder / "made.json").write_text(json.dumps(made))
    looks = [{measure: 3.0 - s / 100, "interval": [1.0, 4.0]} for s in (10, 20)]
    log = [{"step": s, "tokens": 10 * s, "seconds": s / 2, "loss": 5.0 - s / 100} for s in range(1, 21)]
    log += [
        {"step": s, "tokens": 10 * s, "seconds": s / 2, "validation": v} for s, v in zip((10, 20), looks, strict=True)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    with publish_folder(folder / "model") as model:
        (model / "config.json").write_text("{}")
    if score is not None:
        (folder / "reports").mkdir()
        value = {measure: score, "interval": [score - 0.1, score + 0.1], "perplexity": 9.0, "tokens": 7}
        report = {
            "best_step": 20,
            "validation": value,
            "test": None,
            "parameters": 1234,
            "tokens_seen": 200,
            "epochs": 1.5,
            "seconds": 10.0,
        }
        (folder / "reports" / "00000020.json").write_text(json.dumps(report))
        if each is not None:
            pairs = {"validation": [[n, 10.0] for n in each]}
            (folder / "reports" / "00000020.each.json").write_text(json.dumps(pairs))
    return folder


# ---------------------------------------------------------------- states


def test_each_state_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, stopped = written(tmp_path / "done"), written(tmp_path / "stopped", None)
    running, gone = written(tmp_path / "running", None), written(tmp_path / "gone", None)
    for folder, pid in ((running, os.getppid()), (gone, 2**22 - 7)):
        (folder / "lock").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
    found = {run.folder.name: run.state for run in list_runs([tmp_path])}
    assert found == {"done": "done", "stopped": "stopped", "running": "running", "gone": "stopped"}
    way = summarise_run(stopped)
    assert (way.step, way.tokens, way.value, way.whole) == (20, 200, 2.8, False)
    with publish_folder(stopped / "state" / "00000015") as temporary:
        (temporary / "x").write_text("x")
    assert "stopped, step 20, saved at 15" in repr(list_runs([stopped])), "it was killed between two checkpoints"
    assert way.parameters == 1234 and summarise_run(done).value == 2.0


@pytest.mark.parametrize(
    ("length", "plan"),
    [("steps: 100", "100 steps"), ("epochs: 6", "6 epochs"), ("epochs: 1", "1 epoch"), ("budget: 10m", "10m")],
)
def test_a_plan_is_said_in_what_the_run_is_counted_in(tmp_path: Path, length: str, plan: str) -> None:
    file = written(tmp_path / "run") / "run.yaml"
    file.write_text(file.read_text().replace("steps: 100", length))
    assert summarise_run(file.parent).plan == plan


def cut(folder: Path) -> Path:
    (folder / "model" / "config.json").write_text("")
    return folder / "model" / "config.json"


def garbled(folder: Path) -> Path:
    (folder / "reports" / "00000020.json").write_text("{")
    return folder / "reports" / "00000020.json"


def unknown_key(folder: Path) -> Path:
    (folder / "run.yaml").write_text("nmae: x\n")
    return folder / "run.yaml"


@pytest.mark.parametrize("harm", [cut, garbled, unknown_key])
def test_damage_is_named(harm: Any, tmp_path: Path) -> None:
    file = harm(written(tmp_path / "run"))
    found = list_runs([tmp_path])
    assert found[0].state == "damaged" and str(file) in found[0].why and "\n" not in found[0].why
    assert str(file) in repr(found)


def test_a_flipped_byte_is_found_by_check_alone(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    (folder / "model" / "config.json").write_text("[]")
    assert summarise_run(folder).state == "done"
    assert summarise_run(folder, contents=True).state == "damaged"


def test_the_best_look_is_the_highest_where_more_is_better(tmp_path: Path) -> None:
    low, high = written(tmp_path / "low", 0.5, measure="accuracy"), written(tmp_path / "high", 0.9, measure="accuracy")
    way = summarise_run(written(tmp_path / "way", None, measure="accuracy"))
    assert way.value == 2.9 and summarise_run(written(tmp_path / "bits", None)).value == 2.8
    assert [run.folder for run in list_runs([low, high], sort="score")] == [high, low], "the best first"


def test_a_plan_in_epochs_and_a_run_that_counts_texts(tmp_path: Path) -> None:
    found = repr(list_runs([written(tmp_path / "way", None, plan="epochs: 2.5", unit="texts")]))
    assert "2.5 epochs" in found and "200 texts" in found


def test_order_and_letters_of_texts(tmp_path: Path) -> None:
    written(tmp_path / "a", 2.0, created="2026-11-22T08:00:00+0000")
    written(tmp_path / "b", 1.0, created="2026-11-22T10:00:00+0000", text="other")
    written(tmp_path / "c", 1.5, created="2026-11-22T09:00:00+0000")
    written(tmp_path / "d", None, created="2026-11-22T07:00:00+0000")
    names = {sort: [run.folder.name for run in list_runs([tmp_path], sort=sort)] for sort in ("when", "score", "name")}
    assert names == {"when": ["b", "c", "a", "d"], "score": ["c", "a", "d", "b"], "name": ["a", "b", "c", "d"]}
    columns, rows = list_runs([tmp_path], sort="name").table()
    assert columns[-1] == "text" and [row[-1] for row in rows] == ["A", "B", "A", "A"]
    page = list_runs([tmp_path])._repr_html_()
    assert "<script" not in page and page.count("<tr>") >= 5


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("runs") == 0 and "no runs" in capsys.readouterr().err
    written(tmp_path / "runs" / "one")
    assert command("runs", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(run["folder"], run["state"], run["value"]) for run in found] == [("runs/one", "done", 2.0)]
    refused(capsys, "runs", "nowhere", said="nowhere: no such folder")
    refused(capsys, "runs", "--sort", "luck", said="--sort: expected one of when, .*'luck'")
    (tmp_path / "empty").mkdir()
    refused(capsys, "runs", "empty", said="empty: no run in it")


# ---------------------------------------------------------------- side by side


def test_a_paired_difference_knows_what_two_intervals_do_not() -> None:
    """Documents differ far more than models: paired, a small steady gain is certain; by their own intervals it is not."""
    hard = np.linspace(10, 50, 40)
    sizes = np.full(40, 10.0)
    low, high = difference_interval((hard, sizes), (hard - 0.5, sizes))
    assert low == pytest.approx(-0.05) and high == pytest.approx(-0.05)
    shuffled = difference_interval((hard, sizes), ((hard - 0.5)[::-1].copy(), sizes))
    assert shuffled.low < -0.3 and shuffled.high > 0.3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_no_difference_to_itself(values: list[float]) -> None:
    one = (np.array(values), np.ones(len(values)))
    assert difference_interval(one, one) == (0.0, 0.0)


def test_same_text_is_compared_by_document(tmp_path: Path) -> None:
    a = written(tmp_path / "a", 2.0, each=[20, 10, 30, 20])
    b = written(tmp_path / "b", 1.9, each=[19, 9, 29, 19], plan="steps: 200")
    found = compare_runs([a, b])
    difference = found.differences["validation B"]
    assert difference == pytest.approx((-0.1, -0.1, -0.1))
    assert any("B is better than A (paired over 4 documents)" in note for note in found.notes)
    assert found.settings == (("train.steps", "100", "200"),)
    assert "-0.1000 (-0.1000 to -0.1000)" in repr(found)
    assert found._repr_html_().count("<svg") == 3


def test_what_is_not_alike_is_not_subtracted(tmp_path: Path) -> None:
    a = written(tmp_path / "a", 2.0, each=[20, 20])
    others = {
        "text": written(tmp_path / "b", 1.9, each=[19, 19], text="xyz"),
        "measure": written(tmp_path / "c", 1.9, each=[19, 19], measure="masked_token_loss"),
        "way": written(tmp_path / "d", None),
        "sizes": written(tmp_path / "e", 1.9, each=[19, 19, 1]),
    }
    found = compare_runs([a, *others.values()])
    assert set(found.differences) == {"validation E"} and np.isnan(found.differences["validation E"].low)
    said = "\n".join(found.notes)
    assert re.search("B was measured on another text than A: not compared", said)
    assert re.search("A is measured in bits/byte, C in nats/masked token: not compared", said)
    assert "D is stopped: no final scores yet" in said and "the difference has no interval" in said


@pytest.mark.parametrize(("measure", "higher"), [("masked_token_loss", False), ("accuracy", True), ("rouge1", True)])
def test_more_accuracy_is_better_and_more_loss_is_worse(measure: str, higher: bool, tmp_path: Path) -> None:
    """By the measure that is compared: those who write texts are looked at by their loss on the way."""
    a = written(tmp_path / "a", 0.5, each=[4.0, 5.0, 6.0, 5.0], measure=measure)
    b = written(tmp_path / "b", 0.7, each=[6.0, 7.0, 8.0, 7.0], measure=measure)
    assert compare_runs([a, b]).notes == (
        f"validation: B is {'better' if higher else 'worse'} than A (paired over 4 examples)",
    )


def test_runs_on_chinese_texts_are_compared_in_chinese(tmp_path: Path) -> None:
    a = written(tmp_path / "a", 2.0, each=[20, 10, 30, 20], language="zh")
    b = written(tmp_path / "b", 1.9, each=[19, 9, 29, 19], language="zh", plan="steps: 200")
    found = compare_runs([a, b])
    assert found.notes == ("验证集：B 好于 A（按 4 篇文档 配对）",)
    assert [row[0] for row in found.metrics()[1]][:3] == ["验证集 每字节比特数", "验证集 困惑度", "参数"]
    assert any(row[0] == "用时" and row[1].endswith((" 秒", " 分")) for row in found.metrics()[1])
    assert command("runs", "compare", str(a), str(b)) == 0
    page = (tmp_path / "compare-a-b.html").read_text(encoding="utf-8")
    assert 'lang="zh' in page and "训练对比" in page and "训练损失" in page and "Runs side by side" not in page
    other = written(tmp_path / "c", 1.9)
    assert compare_runs([a, other]).language == "en"


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    a = written(tmp_path / "a", 2.0, each=[20, 20], measure="masked_token_loss")
    b = written(tmp_path / "b", 1.9, each=[19, 19], measure="masked_token_loss", seed=1)
    found = compare_runs([a, b])
    assert not found.differences and any("asked other questions" in note for note in found.notes)


def test_the_page_and_the_sketch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = written(tmp_path / "a", 2.0, each=[20, 20]), written(tmp_path / "b", 1.9, each=[19, 20])
    assert command("runs", "compare", str(a), str(b)) == 0
    page = tmp_path / "compare-a-b.html"
    err = capsys.readouterr().err
    assert str(page) in err.replace("\n", "") and "A" in err
    text = page.read_text(encoding="utf-8")
    assert text.count('<svg class="plot"') == 3 and "train.steps" not in text and not re.search(r"https?:", text)
    assert command("runs", "compare", str(a), str(b), "--json") == 0  # over its own page
    assert json.loads(capsys.readouterr().out)["differences"]["validation B"]["value"] == pytest.approx(-0.1)
    page.write_text("mine")
    refused(capsys, "runs", "compare", str(a), str(b), said="already there, and no page of ours")
    assert page.read_text() == "mine"
    refused(capsys, "runs", "compare", str(a), said="two runs or more")
    refused(capsys, "runs", "compare", str(a), f"{a}/../a", said="named twice")
    cut(b)
    with pytest.raises(InputError, match="damaged"):
        compare_runs([a, b])


def test_a_sketch_shows_where_curves_lie() -> None:
    drawn = sketch(
        {"A a": [(0, 10), (100, 0)], "B b": [(0, 0), (50, float("nan")), (100, 10)]}, "tokens", width=20, height=5
    )
    rows = [line.partition("|")[2] for line in drawn.splitlines()[:5]]
    assert rows[0][0] == "A" and rows[0][19] == "B" and rows[4][0] == "B" and rows[4][19] == "A"
    assert "10 |" in drawn and drawn.endswith("tokens") and sketch({"A": []}, "x") == ""
    assert sketch({"A": [(1, 1)]}, "x", width=4, height=2).count("A") == 1


def test_a_search_is_one_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its trials are listed where it is named; what they share is no run, and none of them goes on by itself."""
    search = tmp_path / "runs" / "x-tune"
    for place in (search / "base", search / "trials" / "0000", tmp_path / "runs" / "alone"):
        written(place, None)
    (search / "tune.yaml").write_text("")
    assert [place.name for place in find_runs([tmp_path / "runs"])] == ["alone"]
    assert [place.name for place in find_runs([search])] == ["0000"]
    capsys.readouterr()
    assert command("runs", str(tmp_path / "runs")) == 0
    assert f"a search; its trials:\n  yuyan runs {search}" in capsys.readouterr().err
    assert command("runs", str(search)) == 0
    assert "to go on" not in capsys.readouterr().err

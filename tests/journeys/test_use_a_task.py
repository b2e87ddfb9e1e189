"""From a file of labelled texts to answers, by the commands alone; the folder opens in transformers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
import toy_tasks
from toy_runs import command

import yuyan
from yuyan.commands import session
from yuyan.commands.run import open_run
from yuyan.errors import InputError

BERT = "{kind: bert, hidden_size: 32, num_layers: 1, num_heads: 2, dropout: 0.0, initialisation: {std: 0.2}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moods")
    config = toy_tasks.config(folder, toy_tasks.moods(folder / "moods.jsonl"), "{kind: classify}", BERT)
    assert command("train", str(config), "--out", str(folder / "run")) == 0
    return folder / "run"


def test_what_was_found_is_in_the_config_and_resuming_takes_it_up(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = open_run(run).task
    assert task is not None
    assert (task.text, task.label, task.labels, task.counts) == ("text", "label", ("bad", "good"), (32, 32))
    assert command("train", str(run.parent / "run.yaml"), "--out", str(run), "--resume") == 0
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Which label was taken for which" in report and "Accuracy" in report
    assert "text-classification" in (run / "model" / "README.md").read_text(encoding="utf-8")


def test_python_command_and_transformers_say_the_same(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    model = yuyan.load(run)
    texts = ["the room was warm", "this film was sour."]
    verdicts = model.predict(texts)
    assert [verdict.labels for verdict in verdicts] == [("good",), ("bad",)]
    assert model.predict(texts[0]).labels == verdicts[0].labels
    capfd.readouterr()
    assert command("predict", str(run), texts[0]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["text"], said["label"]) == (texts[0], "good")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(run / "model")
    tokens = transformers.AutoTokenizer.from_pretrained(run / "model")(texts, return_tensors="pt", padding=True)
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        shares = theirs(**tokens).logits.softmax(-1)
    for row, verdict in zip(shares, verdicts, strict=True):
        for number, label in theirs.config.id2label.items():
            assert float(row[int(number)]) == pytest.approx(verdict.probabilities[label], abs=1e-5)


def test_evaluate_says_what_was_seen_in_training(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": "The  Room was WARM", "label": "good"}, {"text": "the room is warm today", "label": "good"},
        {"text": "the room is cold today", "label": "odd"},
    ]  # fmt: skip
    path = toy_tasks.write_jsonl(run.parent / "new.jsonl", rows)
    assert command("evaluate", str(run), str(path), "--json") == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert "1 of 3 texts (33.3 %) stand in the training data, 1 of them word for word; the first is new.jsonl:1" in err
    assert found["by_label"]["odd"]["recall"] == 0 and found["labels"] == ["bad", "good", "odd"]
    assert command("evaluate", str(run), str(path)) == 0
    assert "not in the training data" in capfd.readouterr().err


def test_predict_reads_files_and_lines_and_writes_tables(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.parent / "in.csv").write_text('review,stars\nthe room was warm,5\n"a meal, or so",1\n')
    out = run.parent / "out.csv"
    assert command("predict", str(run), str(run.parent / "in.csv"), "--format", "csv", "--out", str(out)) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["label"] == "good" and rows[1]["text"] == "a meal, or so"
    assert command("predict", str(run), str(run.parent / "in.csv"), "--out", str(out)) == 2
    assert "exists already" in capfd.readouterr().err
    assert command("predict", str(run), "nothing.csv") == 2
    assert "nothing.csv: no such file" in capfd.readouterr().err


def test_predict_says_which_line_it_cannot_use(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    typed("\ufeffthe room was warm\r\n".encode())
    assert command("predict", str(run), "-") == 0
    assert json.loads(capfd.readouterr().out)["text"] == "the room was warm"
    for content, said in (
        (b"the room was warm\n\n" + b"the room " * 80, "standard input:3: "),
        (b"the room was warm\n\xff\n", "standard input: line 2 is not UTF-8 at byte 1"),
    ):
        typed(content)
        assert command("predict", str(run), "-") == 2
        assert said in capfd.readouterr().err
    assert command("predict", str(run), "") == 2
    assert "the text is empty" in capfd.readouterr().err


def test_a_model_without_a_task_says_so(run: Path) -> None:
    model = yuyan.load(run)
    model.task = None
    with pytest.raises(InputError, match="trained for no task"):
        model.predict("a text")


def test_texts_that_are_too_long(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "the room was warm. " * 20
    assert command("predict", str(run), text) == 2
    err = capfd.readouterr().err
    assert "the model reads 64; 1 of 1 records are too long" in err
    assert "window or truncate, or train with train.context=" in " ".join(err.split())  # no key of predict
    for policy in ("window", "truncate"):
        assert command("predict", str(run), text, "--set", f"task.too_long={policy}") == 0
        assert json.loads(capfd.readouterr().out)["label"] == "good"


def test_texts_that_are_too_long_are_counted_among_all(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"the room was warm {i} " * (20 if i in (3, 290) else 1), "label": "good"} for i in range(300)]
    path = toy_tasks.write_jsonl(run.parent / "many.jsonl", rows)
    assert command("evaluate", str(run), str(path)) == 2
    assert "many.jsonl:4: " in (err := capfd.readouterr().err) and "2 of 300 records are too long" in err
    assert command("evaluate", str(run), str(path), "--set", "task.too_long=truncate", "--json") == 0
    assert json.loads(capfd.readouterr().out)["examples"] == 300


def test_a_recurrent_network_reads_cut_texts_as_it_was_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"{text} {text} and {text}", "label": label} for text, label in toy_tasks.sentences("en")]
    data = toy_tasks.write_jsonl(tmp_path / "long.jsonl", rows)
    config = toy_tasks.config(tmp_path, data, "{kind: classify, too_long: window}", "{kind: bilstm, hidden_size: 8}")
    assert command("train", str(config), "train.context=8", "train.epochs=4", "--out", str(tmp_path / "run")) == 0
    (report,) = (tmp_path / "run" / "reports").glob("????????.json")
    capfd.readouterr()
    assert command("evaluate", str(tmp_path / "run"), str(data), "--json") == 0
    measured, again = json.loads(report.read_text(encoding="utf-8"))["validation"], json.loads(capfd.readouterr().out)
    assert again["calibration_error"] == pytest.approx(measured["calibration_error"], rel=1e-6)


def test_tags_as_transformers_scores_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    rows = [
        {"tokens": text.split(), "tags": ["B-IT", *["I-IT"] * (len(text.split()) - 3), "O", "O"]}
        for text, _ in toy_tasks.sentences("en")
    ]
    data = toy_tasks.write_jsonl(tmp_path / "things.jsonl", rows)
    assert (
        command("train", str(toy_tasks.config(tmp_path, data, "{kind: tag}", BERT)), "--out", str(tmp_path / "run"))
        == 0
    )
    model = yuyan.load(tmp_path / "run")
    tagged = model.predict("the room was warm")
    assert tagged.tags == ("B-IT", "I-IT", "O", "O")
    assert tagged.plain()["spans"] == [{"type": "IT", "start": 0, "end": 2, "text": "the room"}]
    capfd.readouterr()
    assert command("predict", str(tmp_path / "run"), "the  room was warm!") == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["text"], said["spans"][0]["text"]) == ("the  room was warm!", "the  room")
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "run" / "model")
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")(
        "the room was warm", return_tensors="pt"
    )
    with torch.no_grad():
        best = theirs(input_ids=tokens["input_ids"]).logits[0].argmax(-1)
    assert [theirs.config.id2label[int(i)] for i in best[1:5]] == list(tagged.tags)


def test_a_task_learns_from_changed_texts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = toy_tasks.config(tmp_path, toy_tasks.moods(tmp_path / "moods.jsonl"), "{kind: classify}", BERT)
    changes = "data.augment=[{kind: token_dropout, rate: 0.1}, {kind: delete, rate: 0.1}, {kind: swap}]"
    assert command("train", str(config), changes, "--out", str(tmp_path / "run")) == 0
    assert yuyan.load(tmp_path / "run").predict("this film was sour.").labels == ("bad",)
    capfd.readouterr()
    assert command("train", str(config), "data.sampling={kind: by_quality}", "--out", str(tmp_path / "b")) == 2
    assert "data.sampling: draws documents, not the records of a task" in capfd.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_tokens_with_their_labels(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("data", str(run.parent / "moods.jsonl"), "--mask", str(run)) == 0
    first = capfd.readouterr().out.splitlines()[0]
    assert first.startswith("moods.jsonl:1: ") and "the room was warm" in first and first.endswith("=> good")


def test_predicting_a_file_says_how_far_it_is(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUYAN_LINE_SECONDS", "0")
    texts = [f"the room was warm {number}" for number in range(130)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    assert command("predict", str(run), str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "said.jsonl")) == 0
    assert "answering: 49 % after" in capfd.readouterr().err
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["text"] for each in said] == texts


def test_memory_that_is_free_is_given_back_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the state is saved, which may be hours later: batches differ in length, and what is held grows."""
    times = list[int]()
    monkeypatch.setattr(session, "give_back_pages", lambda: times.append(1))
    monkeypatch.setattr(session, "GIVE_BACK_SECONDS", 0.0)
    config = toy_tasks.config(tmp_path, toy_tasks.moods(tmp_path / "moods.jsonl"), "{kind: classify}", BERT)
    yuyan.train(str(config), "train.save_every=2h", "train.epochs=2", out=tmp_path / "run")
    assert len(times) >= 2

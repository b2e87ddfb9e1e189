"""From a file of questions to answers, by the commands alone; the folder opens in transformers with the same scores."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_tasks
from toy_runs import command

import yuyan
from yuyan.commands.run import open_run
from yuyan.errors import InputError
from yuyan.tasks.base import label_scores
from yuyan.tasks.question_text import Question

BERT = "{kind: bert, hidden_size: 32, num_layers: 1, num_heads: 2, dropout: 0.0, initialisation: {std: 0.2}}"
ASKED = {"en": ("what was it?", "who was it?"), "zh": ("怎么样？", "是谁？")}


def squad(path: Path, language: str) -> Path:
    """SQuAD 2.0's form: each text is asked how it was, and who it was, which it does not say."""
    paragraphs = []
    for number, (text, _) in enumerate(toy_tasks.sentences(language)):
        joint = " was " if language == "en" else "很"
        start = text.index(joint) + len(joint)
        answer = {"text": text[start:].rstrip(".。"), "answer_start": start}
        how, who = ASKED[language]
        paragraphs.append({"context": text, "qas": [
            {"id": f"{number}-how", "question": how, "answers": [answer], "is_impossible": False},
            {"id": f"{number}-who", "question": who, "answers": [], "is_impossible": True},
        ]})  # fmt: skip
    path.write_text(
        json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module", params=["en", "zh"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    config = toy_tasks.config(folder, squad(folder / "asked.json", request.param), "{kind: answer, n_best: 3}", BERT)
    text = config.read_text(encoding="utf-8").replace(
        "{kind: word}", "{kind: char}" if request.param == "zh" else "{kind: word}"
    )
    config.write_text(text.replace("epochs: 16", "epochs: 24"), encoding="utf-8")
    assert command("train", str(config), "--out", str(folder / "run")) == 0
    return folder / "run"


def language_of(run: Path) -> str:
    asked = json.loads((run.parent / "asked.json").read_text(encoding="utf-8"))
    return "en" if " was " in asked["data"][0]["paragraphs"][0]["context"] else "zh"


def test_what_was_found_is_in_the_config_and_the_threshold_in_the_model(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = open_run(run).task
    assert task is not None and task.kind == "answer"
    assert (task.form, task.question, task.context, task.answer, task.id) == (
        "squad",
        "question",
        "context",
        "answers",
        "id",
    )
    assert task.unanswerable and task.longest == max(
        len(word) for words in (toy_tasks.GOOD, toy_tasks.BAD) for word in words[language_of(run)]
    )
    assert yuyan.load(run).task.threshold is not None  # type: ignore[union-attr]
    capfd.readouterr()
    assert command("train", str(run.parent / "run.yaml"), "--out", str(run), "--resume") == 0
    assert "'a question' --context 'a text" in capfd.readouterr().err
    assert "question-answering" in (run / "model" / "README.md").read_text(encoding="utf-8")
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "F1 of answers" in report or "答案 F1" in report


def test_evaluate(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", str(run), str(run.parent / "asked.json"), "--json") == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["answer_f1"] > 0.95 and found["no_answer_accuracy"] > 0.9
    assert set(found["by_label"]) == {"answer", "no answer"}
    assert "128 of 128 texts" in err
    assert command("evaluate", str(run), str(run.parent / "asked.json")) == 0
    assert "exact match" in capfd.readouterr().err


def test_the_report_is_of_the_threshold_that_the_model_is_kept_with(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = squad(tmp_path / "asked.json", "en")
    config = toy_tasks.config(tmp_path, data, "{kind: answer}", BERT)
    assert command("train", str(config), "train.epochs=1", "--out", str(tmp_path / "run")) == 0
    (report,) = (tmp_path / "run" / "reports").glob("????????.json")
    measured = json.loads(report.read_text(encoding="utf-8"))["validation"]
    capfd.readouterr()
    assert command("evaluate", str(tmp_path / "run"), str(data), "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert {key: measured[key] for key in ("answer_f1", "no_answer_accuracy")} == {
        key: pytest.approx(found[key]) for key in ("answer_f1", "no_answer_accuracy")
    }


def test_predict_says_what_python_says(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    how, who = ASKED[language_of(run)]
    text, word = ("the room was warm", "warm") if language_of(run) == "en" else ("房间很温暖", "温暖")
    model = yuyan.load(run)
    said, silent = model.predict([{"question": how, "context": text}, {"question": who, "context": text}])
    assert (said.text, silent.text) == (word, None)
    assert model.predict({"question": how, "context": text}).text == word
    capfd.readouterr()
    assert command("predict", str(run), how, "--context", text) == 0
    plain = json.loads(capfd.readouterr().out)
    assert (
        plain == said.plain() | {"id": "0"} and text[plain["start"] : plain["end"]] == word and len(plain["best"]) == 3
    )
    (run.parent / "text.txt").write_text(text, encoding="gb18030")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{how}\n\n{who}\n".encode())))
    assert command("predict", str(run), "-", "--context", str(run.parent / "text.txt")) == 0
    typed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["id"], line["answer"]) for line in typed] == [("1", word), ("3", None)]
    assert command("predict", str(run), str(run.parent / "asked.json")) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["id"] for line in lines][:2] == ["0-how", "0-who"] and len(lines) == 128 and lines[0]["answer"] == word
    rows = toy_tasks.write_jsonl(run.parent / "rows.jsonl", [{"question": how, "context": text}])
    assert command("predict", str(run), str(rows), "--format", "csv") == 0
    assert word in capfd.readouterr().out.splitlines()[1]


def test_what_cannot_be_answered_is_said(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("predict", str(run), "how was it?") == 2
    assert "--context: required" in capfd.readouterr().err
    assert command("predict", str(run), str(run.parent / "asked.json"), "--context", "a") == 2
    assert "whose questions have contexts of their own" in capfd.readouterr().err
    assert command("predict", str(run), "how?", "--context", str(run.parent / "asked.json")) == 2
    assert "is no text; give a file of questions" in capfd.readouterr().err
    rows = toy_tasks.write_jsonl(run.parent / "bad.jsonl", [{"question": "how?", "context": ""}])
    assert command("predict", str(run), str(rows)) == 2
    assert "bad.jsonl:1: 'context' is empty" in capfd.readouterr().err
    assert command("predict", str(run), "how?", "--context", "the room was warm. " * 30) == 2
    assert "choose task.too_long=window" in capfd.readouterr().err
    assert (
        command("predict", str(run), "how?", "--context", "the room was warm. " * 30, "--set", "task.too_long=window")
        == 0
    )
    with pytest.raises(InputError, match="expected a mapping with `question` and `context`"):
        yuyan.load(run).predict("how was it?")


def test_the_tokens_with_their_labels(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("data", str(run.parent / "asked.json"), "--mask", str(run)) == 0
    first, second, *_ = capfd.readouterr().out.splitlines()
    assert first.startswith("asked.json: record 1: question '0-how': ")
    assert ("warm/start/end" if language_of(run) == "en" else "温/start 暖/end") in first
    assert second.endswith("=> no answer here") and "/start/end" in second


def test_transformers_scores_the_same(run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = yuyan.load(run)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(run / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "model")
    how, who = ASKED[language_of(run)]
    texts = [text for text, _ in toy_tasks.sentences(language_of(run))[::9]]
    records = [Question(str(i), (how, who)[i % 2], text, (), f"x:{i}") for i, text in enumerate(texts)]
    task = model.trained_task()
    ours: Any = label_scores(model.network, task.items(records, labelled=False).items)  # type: ignore[arg-type]
    tokens = tokenizer([r.question for r in records], [r.context for r in records], return_tensors="pt", padding=True)
    with torch.no_grad():
        output = theirs(**tokens)
    for i, (item, scores) in enumerate(zip(task.items(records, labelled=False).items, ours, strict=True)):
        count = len(item["input_ids"])
        assert tokens["input_ids"][i, :count].tolist() == item["input_ids"].tolist()
        assert tokens["token_type_ids"][i, :count].tolist() == item["token_type_ids"].tolist()
        assert output.start_logits[i, :count].tolist() == pytest.approx(scores[:, 0].tolist(), abs=2e-5)
        assert output.end_logits[i, :count].tolist() == pytest.approx(scores[:, 1].tolist(), abs=2e-5)


def test_a_published_folder_answers(run: Path, tmp_path: Path) -> None:
    """What transformers wrote has no file of ours: the head alone says that it answers questions."""
    transformers = pytest.importorskip("transformers")
    transformers.AutoModelForQuestionAnswering.from_pretrained(run / "model").save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(run / "model").save_pretrained(tmp_path)
    how, _ = ASKED[language_of(run)]
    asked = {"question": how, "context": toy_tasks.sentences(language_of(run))[0][0]}
    ours, theirs = yuyan.load(run).predict(asked), yuyan.load(tmp_path).predict(asked)
    assert theirs.spans[0].text == ours.spans[0].text and theirs.spans[0].score == pytest.approx(ours.spans[0].score)
    assert not theirs.unanswerable

"""From a file of pairs to answers, by the commands alone, with an encoder and without; the folder opens in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy_tasks
from toy_runs import command

import yuyan
from yuyan.commands.run import open_run
from yuyan.errors import InputError

MODELS = {
    "t5": "{kind: t5, hidden_size: 32, num_layers: 1, num_heads: 2, initialisation: {std: 0.1, embedding_std: 1.0}}",
    "gpt": "{kind: gpt, hidden_size: 32, num_layers: 1, num_heads: 2, initialisation: {std: 0.2}}",
}
TEXTS = ["the room was warm", "this film was sour"]


def train(folder: Path, model: str, task: str, *words: str) -> Path:
    config = toy_tasks.config(folder, toy_tasks.pairs(folder / "pairs.jsonl"), task, MODELS[model])
    command_line = (
        "train",
        str(config),
        "train.epochs=40",
        "train.optimizer.lr=1.0e-2",
        *words,
        "--out",
        str(folder / "run"),
    )
    assert command(*command_line) == 0
    return folder / "run"


@pytest.fixture(scope="module", params=sorted(MODELS))
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return train(tmp_path_factory.mktemp(request.param), request.param, "{kind: translate}")


def test_what_was_found_is_in_the_config_and_resuming_takes_it_up(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = open_run(run).task
    reads = "encoder" if run.parent.name.startswith("t5") else "decoder"
    assert (task.source, task.target, task.reads, task.languages) == ("source", "target", reads, ("en", "en"))  # type: ignore[union-attr]
    assert yuyan.load(run).task == task
    assert (
        command(
            "train",
            str(run.parent / "run.yaml"),
            "train.epochs=40",
            "train.optimizer.lr=1.0e-2",
            "--out",
            str(run),
            "--resume",
        )
        == 0
    )
    assert "BLEU, of 100" in (run / "report.html").read_text(encoding="utf-8")
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: translation" in card and "A model that translates" in card
    looks = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"validation"' in line]
    assert looks and all("translate_loss" in look["validation"] for look in looks)  # on the way only the loss


def test_python_command_and_transformers_write_the_same(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    model = yuyan.load(run)
    answers = model.predict(TEXTS)
    assert model.predict(TEXTS[0]) == answers[0] and answers[0].text == "warm was the room"
    capfd.readouterr()
    assert command("predict", str(run), TEXTS[1]) == 0
    assert json.loads(capfd.readouterr().out) == {"text": TEXTS[1], "answer": answers[1].text, "unfinished": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "model")
    seq2seq = run.parent.name.startswith("t5")
    kind = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    theirs = kind.from_pretrained(run / "model")
    for beams in (1, 3):
        for text in [*TEXTS, "a meal was this", "guide"]:
            inputs = tokenizer(text, return_tensors="pt")
            inputs.pop("token_type_ids", None)
            new = theirs.generate(**inputs, do_sample=False, num_beams=beams, max_new_tokens=12)
            said = tokenizer.decode(new[0][0 if seq2seq else inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            assert model.predict(text, max_tokens=12, beams=beams).text.split() == said.split()


def test_files_in_and_out(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = run.parent / "lines.txt"
    place.write_text("\n".join(TEXTS) + "\n")
    assert command("predict", str(run), str(place), "--out", str(run.parent / f"out-{run.parent.name}.jsonl")) == 0
    rows = [json.loads(line) for line in (run.parent / f"out-{run.parent.name}.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == ["warm was the room", "sour was this film"]
    english, other = run.parent / "new.en", run.parent / "new.xx"  # another format than that of training
    english.write_text("\n".join([*TEXTS, "a room was bright"]) + "\n")
    other.write_text("warm was the room\nsour was this film\nbright was a room\n")
    capfd.readouterr()
    assert command("evaluate", str(run), str(english), str(other), "--json") == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["chrf"] > 60 and found["examples"] == 3 and found["notes"][0].startswith("bleu nrefs:1|case:mixed")
    assert "2 of 3 texts (66.7 %) stand in the training data" in err
    assert command("evaluate", str(run), str(english), str(other)) == 0
    assert "bleu nrefs:1|case:mixed" in capfd.readouterr().err
    other.write_text("warm was the room\n")
    assert command("evaluate", str(run), str(english), str(other)) == 2
    assert "new.en has 3 lines and new.xx 1, so they are not aligned" in capfd.readouterr().err


def test_the_tokens_that_are_learned(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("data", str(run.parent / "pairs.jsonl"), "--mask", str(run)) == 0
    first = capfd.readouterr().out.splitlines()[0]
    between = " => " if run.parent.name.startswith("t5") else " "
    assert first.rstrip() == f"pairs.jsonl:1: <s> the room was warm </s>{between}[warm] [was] [the] [room] [</s>]"


def test_texts_that_are_too_long(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "the room was warm " * 20
    assert command("predict", str(run), text) == 2
    assert "82 tokens, and the model reads 64; 1 of 1 records are too long" in capfd.readouterr().err
    assert command("predict", str(run), text, "--set", "task.too_long=truncate", "--set", "task.max_tokens=5") == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["answer"] and len(answer["answer"].split()) <= 5
    with pytest.raises(InputError, match="text 1: it is empty"):
        yuyan.load(run).predict(["a text", " "])


def test_the_best_model_by_its_answers_and_leads_beside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, "gpt", "{kind: summarise, looks: 5, beams: 2}")
    looks = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"validation"' in line]
    assert all(look["validation"]["examples"] == 5 for look in looks) and looks[-1]["validation"]["rouge1"] > 0.5
    capfd.readouterr()
    assert command("evaluate", str(run), str(tmp_path / "pairs.jsonl")) == 0
    said = capfd.readouterr().err
    assert "ROUGE-L" in said and "lead-1" in said and "lead-3" in said


def test_a_model_that_can_write_goes_on_with_adapters_and_noise(run: Path, tmp_path: Path) -> None:
    config = toy_tasks.config(
        tmp_path, toy_tasks.pairs(tmp_path / "pairs.jsonl"), "{kind: rewrite}", f"{{kind: pretrained, path: {run}}}"
    )
    config.write_text(config.read_text().replace("tokenizer: {kind: word}\n", ""))
    words = ("train.epochs=4", "adapt={kind: lora, rank: 2}", "data.augment=[{kind: token_dropout, rate: 0.1}]")
    assert command("train", str(config), *words, "--out", str(tmp_path / "run")) == 0
    model, before = yuyan.load(tmp_path / "run"), yuyan.load(run)
    assert model.task.kind == "rewrite" and model.start == before.start  # type: ignore[union-attr]
    assert model.predict(TEXTS)[1].text == "sour was this film"
    configs = [json.loads((folder / "model" / "config.json").read_text()) for folder in (run, tmp_path / "run")]
    starts = [each.get("decoder_start_token_id") for each in configs]
    assert starts[0] == starts[1] == model.start


def test_a_network_that_cannot_write_is_told_before_any_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bert = "{kind: bert, hidden_size: 32, num_layers: 1, num_heads: 2}"
    config = toy_tasks.config(tmp_path, toy_tasks.pairs(tmp_path / "pairs.jsonl"), "{kind: rewrite}", bert)
    assert command("train", str(config), "--out", str(tmp_path / "run")) == 2
    assert "this model cannot write: it has an encoder only; choose t5, seq2seq or gpt" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_odd_about_the_data_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "source": f"The weather in town number {i} is fine today.",
            "target": f"第{i}个城市今天的天气很好，我们去公园。",
        }
        for i in range(20)
    ]
    rows += [
        rows[3],
        {"source": "Something that is not like the others.", "target": "Noch ein Satz, der nicht auf Chinesisch ist."},
    ]
    data = toy_tasks.write_jsonl(tmp_path / "pairs.jsonl", rows)
    assert (
        command(
            "train",
            str(toy_tasks.config(tmp_path, data, "{kind: translate}", MODELS["gpt"])),
            "train.epochs=1",
            "--out",
            str(tmp_path / "run"),
        )
        == 0
    )
    said = capfd.readouterr().err
    assert "1 training pairs are there more than once, such as pairs.jsonl:4 and pairs.jsonl:21" in said
    assert "targets in another language than zh: train 1 of 22, validation 1 of 22, such as pairs.jsonl:22 (de)" in said
    assert open_run(tmp_path / "run").task.languages == ("en", "zh")  # type: ignore[union-attr]


def test_what_was_found_is_said_as_the_command_line_takes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, texts in (("a.en", "one\ntwo\n"), ("a.de", "eins\n\n")):  # an empty text: nothing is trained
        (tmp_path / name).write_text(texts, encoding="utf-8")
    config = toy_tasks.config(tmp_path, tmp_path / "a.en", "{kind: translate}", MODELS["gpt"])
    data = f"data.sources=[{tmp_path}/a.en, {tmp_path}/a.de]"
    assert command("train", str(config), "train.epochs=1", data, "--out", str(tmp_path / "run")) == 2
    assert "read with task.lines=parallel, task.languages=['en', 'de']\n" in capfd.readouterr().err


def test_names_of_files_that_are_no_languages(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, side in (("a.src", 0), ("a.tgt", 1)):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in toy_tasks.turned("zh")), encoding="utf-8")
    data = f"data.sources=[{tmp_path}/a.src, {tmp_path}/a.tgt]"
    config = toy_tasks.config(tmp_path, tmp_path / "a.src", "{kind: translate}", MODELS["gpt"])
    words = (
        "train.epochs=1",
        data,
        "data.validation=[]",
        "data.split={kind: random, validation: 0.5, test: 0.0}",
        "tokenizer={kind: char}",
    )
    assert command("train", str(config), *words, "--out", str(tmp_path / "run")) == 0
    assert open_run(tmp_path / "run").task.languages == ("zh", "zh")  # type: ignore[union-attr]
    assert "tok:zh" in next((tmp_path / "run" / "reports").glob("*[0-9].json")).read_text()

"""Questions on contexts from the files people have, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from yuyan.errors import DataError
from yuyan.tasks import FindAnswer
from yuyan.tasks.question_text import NOWHERE, Given, Question
from yuyan.text import DataConfig
from yuyan.text.read import look

CONTEXT = "Anna lived in Denver. In 1990 Anna went to Paris."
DATA = Path(os.environ.get("YUYAN_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")) / "qa"


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def asked(text: str = "Denver", start: int = 14, ident: str = "q1", **more: Any) -> dict[str, Any]:
    return {"id": ident, "question": "Where?", "answers": [{"text": text, "answer_start": start}]} | more


def read(path: Path, task: FindAnswer | None = None, *, labelled: bool = True, **data: Any) -> list[Question]:
    config = DataConfig(sources=(path,), **data)
    files = look([path], config)
    task = task or FindAnswer()
    found = task.found(files, config) if labelled else task.found_texts(files, config)
    return found.read(files, config, labelled=labelled)


def written(folder: Path, value: Any, name: str = "a.json") -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in value), encoding="utf-8")
    else:
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


ROW = {"id": "q1", "question": "Where?", "context": CONTEXT}
WRITTEN: dict[str, Any] = {
    "squad.json": squad(asked()),
    "list.json": squad(asked())["data"],
    "paragraphs.json": squad(asked())["data"][0],
    "cmrc.json": [{"context_id": "1", "context_text": CONTEXT, "qas": [
        {"query_id": "q1", "query_text": "Where?", "answers": ["Denver"]}]}],
    "articles.jsonl": squad(asked())["data"],
    "rows.jsonl": [ROW | {"answers": {"text": ["Denver"], "answer_start": [14]}}],
    "objects.jsonl": [ROW | {"answers": [{"text": "Denver", "answer_start": 14}]}],
    "plain.jsonl": [ROW | {"answer": "Denver", "answer_start": 14}],
    "texts.jsonl": [ROW | {"answers": ["Denver"]}],
    "rows.json": [ROW | {"answer": "Denver", "start": 14}],
    "names.jsonl": [{"编号": "q1", "问题": "Where?", "原文": CONTEXT, "答案": "Denver"}],
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_forms(tmp_path: Path, name: str) -> None:
    (found,) = read(written(tmp_path, WRITTEN[name], name))
    assert found[:4] == ("q1", "Where?", CONTEXT, (Given("Denver", 14),))
    assert found.where.startswith(name) and found.text == CONTEXT


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        f'\ufeffid,question,context,answer,answer_start\r\n1,Where?,"{CONTEXT}",Denver,14\r\n2,When?,"{CONTEXT}",,\r\n'.encode()
    )
    one, two = read(path)
    assert one.answers == (Given("Denver", 14),) and one.where == "a.csv:2"
    assert two.answers == () and two.id == "2"
    pq.write_table(pa.Table.from_pylist(WRITTEN["rows.jsonl"]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0].answers == (Given("Denver", 14),)


def test_no_answer(tmp_path: Path) -> None:
    none = {
        "id": "q2",
        "question": "Why?",
        "answers": [],
        "is_impossible": True,
        "plausible_answers": [{"text": "Paris"}],
    }
    one, two = read(written(tmp_path, squad(asked(is_impossible=False), none)))
    assert one.answers and not two.answers
    config = FindAnswer().with_labels([one, two])
    assert config.unanswerable and config.longest == 6 and config.unsettled
    assert not FindAnswer().with_labels([one]).unsettled


WRONG: dict[str, tuple[Any, str]] = {
    "off by one": (squad(asked(start=13)), r"question 'q1': the answer 'Denver' does not stand at answer_start=13 of its "
                   r"context \(there is ' Denve'\), but at 14; task.misplaced=nearest"),
    "nowhere": (squad(asked("Rome", -1)), r"question 'q1': the answer 'Rome' stands nowhere in its context \(answer_start=-1\)"),
    "beyond the end": (squad(asked("Anna", 400)), r"'Anna' does not stand at answer_start=400 .*but at 30"),
    "twice": (squad(asked(), asked()), r"question 'q1': the id 'q1' is there twice; the other is a.json: record 1: question 'q1'"),
    "empty question": (squad(asked(question=" ")), r"question 'q1': 'question' is empty"),
    "empty context": (squad(asked(), context="\n"), r"question 'q1': 'context' is empty"),
    "number for a text": (squad(asked(question=7)), r"question 'q1': 'question' is a number, not a text"),
    "empty answer": (squad(asked("")), r"an answer is empty: a question without an answer has none"),
    "number for an answer": (squad(asked(7)), r"an answer is a number, not a text"),  # type: ignore[arg-type]
    "place as a fraction": (squad(asked(start=1.5)), r"first character of 'Denver' is 1.5; a whole number"),  # type: ignore[arg-type]
    "impossible with an answer": (squad(asked(is_impossible=True)), r"is_impossible is true, and there is 1 answers"),
    "possible without": (squad(asked(answers=[], is_impossible=False)), r"is_impossible is false, and there is no answer"),
    "no answers": (squad({"id": "q1", "question": "Where?"}), r"question 'q1': no answer here; say which it is with task.answer"),
    "no context": ([{"qas": [asked()]}], r"no context here; say which it is with task.context=NAME; it has: id, question"),
    "no questions": ([{"context": CONTEXT, "qas": []}], r"record 1: paragraphs without a question"),
    "mixed list": ([*squad(asked())["data"], "text"], r"record 2: a text, where an object with named parts was expected"),
    "numbers in the list": ([*squad(asked())["data"], 4], r"a list of records or of texts was expected"),
    "rows among articles": ([*squad(asked())["data"], ROW], r"record 2: a list of paragraphs with `context` and `qas` was "
                            r"expected; it has: id, question, context"),
    "paragraphs of text": ([*squad(asked())["data"], {"paragraphs": ["a"]}], r"record 2: a list of paragraphs .*is a list"),
    "other columns": ([{"query": "Where?", "body": CONTEXT}], r"record 1: no context here; say which .*it has: query, body"),
    "labels for answers": ([{"text": "good", "label": "x"}], r"record 1: no question here"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    value, said = WRONG[name]
    with pytest.raises(DataError, match="a.json.*" + said):
        read(written(tmp_path, value))


def test_lines_of_rows_are_named(tmp_path: Path) -> None:
    rows = [ROW | {"answer": "Denver"}, ROW | {"id": "q2", "answer": "denver", "answer_start": 14}]
    with pytest.raises(DataError, match=r"a.jsonl:2: the answer 'denver' stands nowhere in its context"):
        read(written(tmp_path, rows, "a.jsonl"))
    with pytest.raises(DataError, match=r"a.jsonl:2: the id 'q1' is there twice; the other is a.jsonl:1"):
        read(written(tmp_path, [rows[0], rows[0]], "a.jsonl"))
    (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]) + "\n{broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b.jsonl:2: broken JSON"):
        read(tmp_path / "b.jsonl")
    (tmp_path / "c.json").write_text('{"data": [\n{"paragraphs": [}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"c.json:2: broken JSON"):
        read(tmp_path / "c.json")
    (tmp_path / "d.txt").write_text("Where? In Denver.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"d.txt: plain text; questions with their contexts were expected"):
        read(tmp_path / "d.txt")
    with pytest.raises(DataError, match=r"no 'qestion' here; did you mean 'question'\? \(task.question\)"):
        read(written(tmp_path, rows[:1], "a.jsonl"), FindAnswer(question="qestion"))


def test_misplaced_answers_go_to_the_nearest_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    value = squad(asked("Anna", 29), asked("Rome", -1, "q2"))
    one, two = read(written(tmp_path, value), FindAnswer(misplaced="nearest"))
    assert one.answers == (Given("Anna", 30),) and two.answers == (Given("Rome", NOWHERE),)
    err = capfd.readouterr().err
    assert "question 'q1': 1 answers do not stand where" in err and "question 'q2': 1 answers stand nowhere" in err


def test_answers_without_a_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (one,) = read(written(tmp_path, [ROW | {"answer": "Anna"}], "a.jsonl"))
    assert one.answers == (Given("Anna", 0),)
    assert "a.jsonl:1: 1 answers stand at several places" in capfd.readouterr().err


def test_bad_records_can_be_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, squad(asked(start=13), asked(ident="q2")))
    assert [each.id for each in read(path, skip_bad_records=True)] == ["q2"]
    assert "1 records are passed over; the first: a.json: record 1: question 'q1': the answer" in capfd.readouterr().err


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8-sig", "utf-16", "crlf"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    context = "安娜住在丹佛。一九九〇年她去了巴黎，在那里学习绘画，后来成为一位有名的画家。"
    text = json.dumps(squad(asked("丹佛", 4), context=context), ensure_ascii=False, indent=1)
    path = tmp_path / "a.json"
    path.write_bytes(text.replace("\n", "\r\n").encode() if encoding == "crlf" else text.encode(encoding))
    (found,) = read(path)
    assert found.context == context and found.answers == (Given("丹佛", 4),)


def test_a_file_as_long_as_the_training_data_of_squad(tmp_path: Path) -> None:
    value = squad(asked())
    value["data"][0]["title"] = "x" * 43_000_000
    assert len(read(written(tmp_path, value))) == 1


def test_nothing_to_learn(tmp_path: Path) -> None:
    none = {"id": "q2", "question": "Why?", "answers": []}
    with pytest.raises(DataError, match=r"question 'q2': no answer in 1 questions; there is nothing to learn"):
        FindAnswer().with_labels(read(written(tmp_path, squad(none))))
    lost = read(written(tmp_path, squad(asked("Rome", 0))), FindAnswer(misplaced="nearest"))
    with pytest.raises(DataError, match="no answer in 1 questions"):
        FindAnswer().with_labels(lost)


def test_questions_alone(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path, [{"question": "Where?", "context": CONTEXT}], "a.jsonl"), labelled=False)
    assert found == Question("a.jsonl:1", "Where?", CONTEXT, (), "a.jsonl:1")
    trained = FindAnswer(form="squad", question="question", context="context", answer="answers", longest=9)
    (found,) = read(tmp_path / "a.jsonl", trained, labelled=False)
    assert found.question == "Where?", "a run trained on SQuAD's form reads rows"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data: {DATA} (YUYAN_DATA)")
def test_the_files_of_the_field(capfd: pytest.CaptureFixture[str]) -> None:
    for name, count, odd in (("xquad.en", 1190, 0), ("xquad.zh", 1190, 0), ("cmrc2018_dev", 3219, 193)):
        records = read(DATA / f"{name}.json", FindAnswer(misplaced="nearest"))
        assert len(records) == count
        places = [given for record in records for given in record.answers]
        assert sum(given.start == NOWHERE for given in places) == odd
        assert all(r.context.startswith(g.text, g.start) for r in records for g in r.answers if g.start != NOWHERE)
    with pytest.raises(
        DataError, match=r"question 'TRIAL_210_QUERY_0': the answer '俗名龙尖' does not stand at answer_start=14"
    ):
        read(DATA / "cmrc2018_trial.json")

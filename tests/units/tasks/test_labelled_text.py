"""Labelled texts from the files people have: what is found, and what is said of a row that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from yuyan.errors import DataError
from yuyan.tasks import Classify
from yuyan.text import DataConfig
from yuyan.text.survey import survey

TWO = [("good", "very good food"), ("bad", "a sad evening"), ("good", 'fine, "nice" room'), ("bad", "too loud there")]


def read(
    path: Path, task: Classify | None = None, **data: object
) -> tuple[Classify, list[tuple[str, tuple[str, ...]]]]:
    config = DataConfig(sources=(path,), **data)  # type: ignore[arg-type]
    files = survey([path], config.encoding)
    found = (task or Classify()).found(files, config)
    return found, [(each.text, each.labels) for each in found.read(files, config)]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


FORMATS = {
    "header.csv": "text,category\n" + "".join(f"{quoted(t)},{label}\n" for label, t in TWO),
    "semicolon.csv": "label;review\n" + "".join(f"{label};{quoted(t)}\n" for label, t in TWO),
    "plain.csv": "".join(f"{i},{quoted(t)}\n" for i, (_, t) in enumerate(TWO)).replace("2,", "0,").replace("3,", "1,"),
    "crlf.csv": "\ufefftext,label\r\n" + "".join(f"{quoted(t)},{label}\r\n" for label, t in TWO),
    "table.tsv": "label\tsentence\n" + "".join(f"{label}\t{quoted(t)}\n" for label, t in TWO),
    "first.txt": "".join(f"{label} {t}\n" for label, t in TWO),
    "tab.txt": "".join(f"{t}\t{label}\n" for label, t in TWO),
    "prefix.txt": "".join(f"__label__{label} {t}\n" for label, t in TWO),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name].encode())
    _, rows = read(path)
    assert [text for text, _ in rows] == [text for _, text in TWO]
    labels = [label for _, (label,) in rows]
    assert labels == (["0", "1", "0", "1"] if name == "plain.csv" else [label for label, _ in TWO])


def test_a_label_that_is_the_number_of_a_column_makes_no_header_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("".join(f"{label},{quoted(text)}\n" for label, (_, text) in zip("1212", TWO, strict=True)))
    found, rows = read(path)
    assert (found.text, found.label) == ("2", "1") and rows == [
        (text, (label,)) for label, (_, text) in zip("1212", TWO, strict=True)
    ]


def test_parquet_and_json(tmp_path: Path) -> None:
    table = pa.table({"text": [t for _, t in TWO], "label": [label == "good" for label, _ in TWO]})
    pq.write_table(table, tmp_path / "a.parquet")
    _, rows = read(tmp_path / "a.parquet")
    assert [labels for _, labels in rows] == [("true",), ("false",), ("true",), ("false",)]
    (tmp_path / "a.jsonl").write_text(
        '{"content": "one text", "labels": ["x", "y"]}\n{"content": "two", "labels": []}\n'
    )
    found, rows = read(tmp_path / "a.jsonl")
    assert found.several and rows == [("one text", ("x", "y")), ("two", ())]


def test_chinese_in_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "评论.csv"
    lines = [
        "情感,评论",
        *(f"好,这个酒店的房间很大，服务也不错{i}" for i in range(20)),
        *(f"差,前台的人没有来，房间有点小{i}" for i in range(20)),
    ]
    path.write_bytes("\n".join(lines).encode("gb18030"))
    found, rows = read(path)
    assert (found.text, found.label) == ("评论", "情感")
    assert rows[0] == ("这个酒店的房间很大，服务也不错0", ("好",)) and len(rows) == 40


BAD = {
    "no label column.csv": ("text,colour,size\na text here,red,2\nanother text,blue,3\n", r"which column is the label\? Say it with task\.label=NAME; it has: text, colour, size"),
    "empty text.csv": ("text,label\na text,x\n  ,y\n", r"empty text\.csv:3: 'text' is empty"),
    "no label.csv": ("text,label\na text,x\nanother,\n", r"no label\.csv:3: no label, where one was expected"),
    "ragged.csv": ("text,label\na text,x\nanother, with a comma,y\n", r"ragged\.csv:3: 3 columns, where the header has 2"),
    "open quote.csv": ('text,label\n"a text,x\nanother,y\n', r"open quote\.csv:2: a quotation mark that is opened here is never closed"),
    "header again.csv": ("text,label\na text,x\ntext,label\n", r"header again\.csv:3: the header stands here again"),
    "two of a name.csv": ("text,label,label\na text,x,y\n", r"two of a name\.csv:1: two columns are called 'label'"),
    "nan.jsonl": ('{"text": "a text", "label": "x"}\n{"text": "another", "label": NaN}\n', r"nan\.jsonl:2: the label 'label' is nan"),
    "object.jsonl": ('{"text": "a text", "label": {"a": 1}}\n', r"object\.jsonl:1: the label 'label' is an object"),
    "number.jsonl": ('{"text": "a text", "label": "x"}\n{"text": 3, "label": "x"}\n', r"number\.jsonl:2: 'text' is a number, not text"),
    "missing.jsonl": ('{"text": "a text", "label": "x"}\n{"txt": "b", "label": "x"}\n', r"missing\.jsonl:2: no 'text' in this row.*it has: txt, label"),
    "cut.jsonl": ('{"text": "a text", "label": "x"}\n{"text": "b", "lab', r"cut\.jsonl:2: broken JSON .*ends too early"),
    "no labels.txt": ("one line\nanother line\nthird thing\nfourth thing\nfifth one\n", r"no labels\.txt: its lines do not begin with a label"),
    "label alone.txt": ("a one text\nb two\na three\na four\nb\na x\nb y\na z\n", r"label alone\.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_name_file_and_line(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_a_wrong_column_has_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na text,x\n")
    with pytest.raises(DataError, match=r"no column 'lable'.*did you mean 'label'.*\(task\.label\)"):
        read(tmp_path / "a.csv", Classify(label="lable"))
    with pytest.raises(DataError, match=r"no column 'txt'.*did you mean 'text'.*\(task\.text\)"):
        read(tmp_path / "a.csv", Classify(text="txt"))


def test_bad_rows_can_be_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na text,x\nb,c,d\nanother,y\n")
    _, rows = read(tmp_path / "a.csv", skip_bad_records=True)
    assert [text for text, _ in rows] == ["a text", "another"]


def test_one_label_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na text,x\nanother,x\n")
    config = DataConfig(sources=(tmp_path / "a.csv",))
    files = survey([tmp_path / "a.csv"])
    found = Classify().found(files, config)
    with pytest.raises(DataError, match=r"a\.csv:2: only the label 'x' in 2 texts; there is nothing to tell apart"):
        found.with_labels(found.read(files, config))

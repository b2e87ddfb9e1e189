"""Every format, packed every way, gives the same documents; the text column is found and said."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from yuyan.errors import DataError
from yuyan.text.column import lines
from yuyan.text.document import Document, read_written, write_documents
from yuyan.text.read import Cutting, Reading, choose_cutting, read_documents
from yuyan.text.settings import DataConfig
from yuyan.text.survey import survey

ROWS = [
    'First, with a comma and "quotes".',
    "第二行。\n换行也在里面。",
    "<|endoftext|> and [MASK] are plain text",
    "é\u2028 \x0c x",
]


def jsonl(rows: list[str]) -> bytes:
    return "".join(
        json.dumps({"label": i, "text": row}, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows)
    ).encode()


def json_list(rows: list[str]) -> bytes:
    return json.dumps({"version": 1, "data": [{"text": row} for row in rows]}).encode()


def table(rows: list[str], mark: str) -> bytes:
    lines = [f"label{mark}text"] + [f'{i}{mark}"' + row.replace('"', '""') + '"' for i, row in enumerate(rows)]
    return "\r\n".join(lines).encode()


def parquet(rows: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"label": list(range(len(rows))), "text": rows}), buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "jsonl": jsonl, "json": json_list, "csv": lambda rows: table(rows, ","), "tsv": lambda rows: table(rows, "\t"),
    "parquet": parquet,
}  # fmt: skip


def pack(data: bytes, packing: str, name: str) -> bytes:
    if packing == "gz":
        return gzip.compress(data)
    if packing == "zst":
        return zstandard.ZstdCompressor().compress(data[: len(data) // 2]) + zstandard.ZstdCompressor().compress(
            data[len(data) // 2 :]
        )
    if packing == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"folder/{name}", data)
        return buffer.getvalue()
    return data


def texts(*paths: Path, **settings: object) -> list[str]:
    return [document.text for document in read_documents(list(paths), DataConfig(**settings))]  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", ["", "gz", "zst", "zip"])
@pytest.mark.parametrize("form", FORMATS)
def test_records_in_every_format_and_packing(tmp_path: Path, form: str, packing: str) -> None:
    name = f"rows.{form}"
    file = tmp_path / (f"{name}.{packing}" if packing in ("gz", "zst") else f"rows.{packing}" if packing else name)
    file.write_bytes(pack(FORMATS[form](ROWS), packing, name))
    assert texts(file) == ROWS
    assert texts(tmp_path) == ROWS


@pytest.mark.parametrize("packing", ["", "gz", "zst", "zip"])
def test_plain_text_packed(tmp_path: Path, packing: str) -> None:
    text = "古池や\r\n蛙飛びこむ\n\nwater's sound\n" * 50
    file = tmp_path / ("a.txt" + (f".{packing}" if packing else ""))
    if packing == "zip":
        file = tmp_path / "a.zip"
    file.write_bytes(pack(text.encode(), packing, "a.txt"))
    assert "".join(texts(file)) == text
    assert texts(file, documents="file") == [text]
    assert texts(file, documents="line") == [line.strip("\r") for line in text.split("\n") if line.strip("\r")]


def test_a_folder_is_read_recursively_in_order_and_hidden_files_are_counted(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/10.txt", "a.txt", "c.md", ".hidden.txt", ".git/config.txt", "d.unknown"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text(" \n\u3000\n")
    (tmp_path / "settings.json").write_text('{"a": 1}')
    found = survey([tmp_path])
    names = [each.source.name.split("/", 1)[1] for each in found.sources]
    assert names == ["a.txt", "b/10.txt", "b/2.txt", "c.md", "d.unknown", "settings.json"]
    reasons = sorted((each.name.split("/", 1)[1], each.reason.split(":")[0]) for each in found.skipped)
    assert reasons == [
        (".git", "hidden folder"), (".hidden.txt", "hidden file"), ("blank.txt", "no training text"),
        ("empty.txt", "no training text"), ("photo.png", "not text"),
    ]  # fmt: skip
    reading = Reading(DataConfig())
    documents = list(reading.run(found, choose_cutting(found.sources, DataConfig())))
    assert [d.text for d in documents] == [
        "text of a.txt",
        "text of b/10.txt",
        "text of b/2.txt",
        "text of c.md",
        "text of d.unknown",
    ]
    assert [each.reason for each in reading.skipped] == ["JSON without texts"]


def test_json_of_a_folder_that_cannot_be_read_is_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "broken.json").write_text('["one",\n "two')
    (tmp_path / "settings.json").write_text('{"a": 1}')
    reading = Reading(DataConfig())
    assert len(list(reading.run(survey([tmp_path]), Cutting("file", 0, "files")))) == 1
    assert [each.reason for each in reading.skipped] == ["JSON that cannot be read", "JSON without texts"]
    said = " ".join(capfd.readouterr().err.split())
    assert f"{tmp_path.name}/broken.json:2: broken JSON at column" in said and "the file is passed over" in said
    assert "settings.json" not in said


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    ids = []
    for place in ("here", "there/deeper"):
        folder = tmp_path / place / "corpus"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("some text")
        ids.append([d.id for d in read_documents([folder])] + [d.id for d in read_documents([folder / "a.txt"])])
    assert ids[0] == ids[1] == ["corpus/a.txt", "a.txt"]


def test_two_files_of_one_name_have_different_ids(tmp_path: Path) -> None:
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text("text " + place)
    ids = [d.id for d in read_documents([tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt", tmp_path / "y" / "a.txt"])]
    assert len(set(ids)) == 3
    assert ids[:2] == ["x/a.txt", "y/a.txt"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_last_is_read_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for text in ("the old text", "the new text"):
            archive.writestr("a.txt", text)
    assert [document.text for document in read_documents([tmp_path / "all.zip"])] == ["the new text"]
    (skipped,) = survey([tmp_path / "all.zip"]).skipped
    assert (skipped.name, skipped.reason) == ("all.zip/a.txt", "a later member of the archive has the same name")


def test_a_member_of_a_zip_can_be_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("set/train.txt", "training")
        archive.writestr("set/test.txt", "testing")
    assert texts(tmp_path / "all.zip" / "set" / "test.txt") == ["testing"]
    with pytest.raises(DataError, match=r"all\.zip has no member 'set/no\.txt'"):
        texts(tmp_path / "all.zip" / "set" / "no.txt")


def test_chinese_names_in_a_zip_made_by_windows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x" * 8 + ".txt", "some text")
    data = (tmp_path / "a.zip").read_bytes().replace(b"x" * 8, "唐诗三百".encode("gb18030"))
    (tmp_path / "a.zip").write_bytes(data)
    assert [d.id for d in read_documents([tmp_path / "a.zip"])] == ["a.zip/唐诗三百.txt"]


def test_the_limit_of_a_line_is_that_of_one_line() -> None:
    assert list(lines(["abc", "\nabc\u2028", "\x0c\nabc", "def"], "x", limit=6)) == [
        "abc\n",
        "abc\u2028\x0c\n",
        "abcdef",
    ]
    assert list(lines(["a\r", "\nb\r\n", "c\rd"], "x")) == ["a\r\n", "b\r\n", "c\rd"]
    with pytest.raises(DataError, match="x:2: a record of more than"):
        list(lines(["abc\n", "abc", "def", "g"], "x", limit=6))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_lines_of_old_macs_end_in_returns(tmp_path: Path, name: str) -> None:
    rows = {"a.csv": ["id;text", '1;"one, two"', "2;three"], "a.jsonl": ['{"text": "one, two"}', '{"text": "three"}']}
    (tmp_path / name).write_bytes("\r".join(rows.get(name, ["one, two", "three"])).encode())
    documents = read_documents([tmp_path / name], DataConfig(documents="line"))
    assert [document.text for document in documents] == ["one, two", "three"]


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("keys", "chosen", "how"),
    [
        (["id", "text", "content"], "text", "by its name"), (["title", "content"], "content", "by its name"),
        (["标签", "内容"], "内容", "by its name"), (["label", "Review"], "Review", "by its name"),
        (["no", "blah"], "blah", "by the length"),
    ],
)  # fmt: skip
def test_the_text_column_is_found(tmp_path: Path, keys: list[str], chosen: str, how: str) -> None:
    rows = [{key: f"long words {i} of {key} " * 3 if key == chosen else "short" for key in keys} for i in range(5)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    found = survey([tmp_path / "a.jsonl"])
    reading = Reading(DataConfig())
    documents = list(reading.run(found, choose_cutting(found.sources, DataConfig())))
    assert [d.text for d in documents] == [row[chosen] for row in rows]
    assert reading.columns["a.jsonl"].startswith(f"{chosen} ({how}")


def test_the_user_names_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "not this", "other": "but this"}\n')
    assert texts(tmp_path / "a.jsonl", text_column="other") == ["but this"]
    with pytest.raises(DataError, match=r"no column 'othr'; did you mean 'other'\?.*it has: text, other"):
        texts(tmp_path / "a.jsonl", text_column="othr")


def test_two_columns_of_long_texts_are_a_question_not_a_guess(tmp_path: Path) -> None:
    rows = "".join(f"A man number {i} is walking.,A woman number {i} is walking.,4.{i}\n" for i in range(6))
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(
        DataError, match=r"which column is the text\? Say it with data\.text_column=NAME; it has: 1, 2, 3"
    ):
        texts(tmp_path / "a.csv")
    assert texts(tmp_path / "a.csv", text_column="2")[0] == "A woman number 0 is walking."
    (tmp_path / "b.csv").write_text("2,A man is walking.\n1,A dog is walking.\n")
    assert texts(tmp_path / "b.csv", text_column="2") == ["A man is walking.", "A dog is walking."]


def test_joined_files_have_byte_order_marks_within(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"text": "one"}\n\ufeff{"text": "two"}\n', encoding="utf-8")
    assert [document.text for document in read_documents([tmp_path / "a.jsonl"])] == ["one", "two"]


def test_lines_of_a_poem_in_a_list_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"author": "李白", "paragraphs": ["床前明月光，", "疑是地上霜。"]}]))
    assert texts(tmp_path / "a.json") == ["床前明月光，\n疑是地上霜。"]


def test_a_table_in_gb18030_with_semicolons(tmp_path: Path) -> None:
    rows = "编号;评论\r\n" + "".join(f'{i};"房间很大；但是早餐太差，第{i}次住这里了"\r\n' for i in range(20))
    (tmp_path / "a.csv").write_bytes(rows.encode("gb18030"))
    assert texts(tmp_path / "a.csv")[3] == "房间很大；但是早餐太差，第3次住这里了"


def test_a_ten_megabyte_cell_is_read(tmp_path: Path) -> None:
    cell = "word " * 2_000_000
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{cell}"\n2,short\n')
    found = texts(tmp_path / "a.csv")
    assert "".join(found[:-1]) == cell
    assert found[-1] == "short"


def test_half_characters_from_json_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud83d b \\ud83d\\ude00"}\n')
    found = survey([tmp_path / "a.jsonl"])
    reading = Reading(DataConfig())
    documents = list(reading.run(found, choose_cutting(found.sources, DataConfig())))
    assert documents[0].text == "a\ufffd b 😀"
    assert reading.trouble.surrogates == 1


# ---------------------------------------------------------------- what is a document


def cutting(tmp_path: Path, files: int, characters: int) -> tuple[str, int]:
    folder = tmp_path / f"{files}-{characters}"
    folder.mkdir()
    line = "All the world's a stage,\nAnd all the men and women merely players.\n\n"
    for number in range(files):
        (folder / f"{number}.txt").write_text((line * (characters // len(line) + 1))[:characters])
    found = survey([folder])
    chosen = choose_cutting(found.sources, DataConfig())
    return chosen.kind, chosen.size


def test_few_large_files_are_cut_and_many_are_not(tmp_path: Path) -> None:
    assert cutting(tmp_path, 1, 1_100_000) == ("section", 4000)
    assert cutting(tmp_path, 1, 100_000) == ("section", 500)
    assert cutting(tmp_path, 3, 300_000) == ("section", 4000)
    assert cutting(tmp_path, 25, 2_000)[0] == "file"
    assert cutting(tmp_path, 120, 500)[0] == "file"
    assert cutting(tmp_path, 1, 300)[0] == "file"


def test_sections_of_a_file_are_its_text_in_order(tmp_path: Path) -> None:
    text = "".join(f"Scene {i}.\nSome words are said here, and more.\n\n" for i in range(4000))
    (tmp_path / "play.txt").write_text(text)
    documents = list(read_documents([tmp_path / "play.txt"]))
    assert "".join(d.text for d in documents) == text
    assert [d.id for d in documents] == [f"play.txt#{i}" for i in range(1, len(documents) + 1)]


def test_records_are_cut_only_when_sections_are_asked_for(tmp_path: Path) -> None:
    book = "A sentence of the book. " * 1000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": book}) + "\n")
    assert texts(tmp_path / "a.jsonl") == [book]
    cut = texts(tmp_path / "a.jsonl", documents="section", section_characters=1000)
    assert len(cut) > 10
    assert "".join(cut) == book


def test_written_documents_are_read_back(tmp_path: Path) -> None:
    documents = [Document("a", "x\n\u2028y", {"source": "s", "language": "en"}), Document("b", "", {})]
    assert write_documents(tmp_path / "d.jsonl", documents) == 2
    assert list(read_written(tmp_path / "d.jsonl")) == documents

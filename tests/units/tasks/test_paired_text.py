"""Pairs from the files people have: what is found, and what is said of a pair that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from yuyan.errors import DataError
from yuyan.tasks import Rewrite, Translate
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.pairs import PairConfig
from yuyan.text import DataConfig
from yuyan.text.survey import survey

PAIRS = [("a dog, running", "ein Hund, laufend"), ('she said "yes"', 'sie sagte "ja"'), ("two men", "zwei Männer")]


def read(
    paths: Path | list[Path], task: PairConfig | None = None, *, labelled: bool = True, **data: object
) -> tuple[PairConfig, list[Paired]]:
    listed = paths if isinstance(paths, list) else [paths]
    config = DataConfig(sources=tuple(listed), **data)  # type: ignore[arg-type]
    files = survey(listed, config.encoding)
    found = (task or Rewrite()).found(files, config) if labelled else (task or Rewrite()).found_texts(files, config)
    return found, found.read(files, config, labelled=labelled)


def bare(records: list[Paired]) -> list[tuple[str, str]]:
    return [(each.text, *each.targets) for each in records]  # type: ignore[misc]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def tmx(units: list[str], head: str = '<tmx version="1.4">', source: str = "en") -> str:
    return (
        f'<?xml version="1.0"?>\n{head}\n<header srclang="{source}"/>\n<body>\n'
        + "\n".join(units)
        + "\n</body></tmx>\n"
    )


def unit(**texts: str) -> str:
    return "<tu>" + "".join(f'<tuv xml:lang="{k}"><seg>{v}</seg></tuv>' for k, v in texts.items()) + "</tu>"


ROWS = [f"{quoted(s)},{quoted(t)}\n" for s, t in PAIRS]
FORMATS = {
    "names.csv": "source,target\n" + "".join(ROWS),
    "other_names.csv": "id,summary,text\n" + "".join(f"{i},{quoted(t)},{quoted(s)}\n" for i, (s, t) in enumerate(PAIRS)),
    "bom_crlf.csv": "\ufeff" + "".join(["input,output\n", *ROWS]).replace("\n", "\r\n"),
    "two.tsv": "erste\tzweite\n" + "".join(f"{quoted(s)}\t{quoted(t)}\n" for s, t in PAIRS),
    "tab.txt": "".join(f"{s}\t{t}\n" for s, t in PAIRS),
    "lines.jsonl": "".join(json.dumps({"原文": s, "译文": t}) + "\n" for s, t in PAIRS),
    "nested.jsonl": "".join(json.dumps({"translation": {"en": s, "de": t}}) + "\n" for s, t in PAIRS),
    "whole.json": json.dumps([{"source": s, "target": t} for s, t in PAIRS]),
    "memory.tmx": tmx([unit(en=s, de=t) for s, t in PAIRS]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMATS[name], encoding="utf-8", newline="")
    found, records = read(tmp_path / name)
    assert bare(records) == PAIRS
    assert records[0].where.startswith(f"{name}:")
    again, _ = read(tmp_path / name, found)
    assert again == found  # what was found can be given


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"document": [s for s, _ in PAIRS], "highlights": [t for _, t in PAIRS]}), tmp_path / "a.parquet"
    )
    found, records = read(tmp_path / "a.parquet")
    assert (found.source, found.target) == ("document", "highlights") and bare(records) == PAIRS


def side(path: Path, texts: list[str]) -> Path:
    data = "".join(text + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sides(
    folder: Path, first: list[str], second: list[str], names: tuple[str, str] = ("a.en.gz", "a.de")
) -> list[Path]:
    return [side(folder / names[0], first), side(folder / names[1], second)]


def test_parallel_files_are_told_by_their_names_or_by_their_order(tmp_path: Path) -> None:
    english, german = ([pair[i] for pair in PAIRS] for i in (0, 1))
    files = sides(tmp_path, english, german)
    found, records = read(files)
    assert (found.lines, found.languages) == ("parallel", ("en", "de")) and bare(records) == PAIRS
    assert records[1].where == "a.en.gz:2"
    _, back = read(files, Rewrite(languages=("de", "en")))
    assert bare(back) == [(t, s) for s, t in PAIRS]
    more = sides(tmp_path, ["three"], ["drei"], ("b.en", "b.de"))
    _, both = read([files[0], more[0], files[1], more[1]])
    assert bare(both) == [*PAIRS, ("three", "drei")]
    with pytest.raises(DataError, match=r"a.en.gz: task.languages=\['en', 'fr'\], but the files are of \['en', 'de'\]"):
        read(files, Rewrite(languages=("en", "fr")))
    trained = Rewrite(
        languages=("en", "zh"), reads="encoder"
    )  # by which answers are compared, whatever files are called
    found, records = read(sides(tmp_path, english, german, ("t.src", "t.ref")), trained)
    assert found.languages == ("en", "zh") and bare(records) == PAIRS
    found, plain = read(sides(tmp_path, english, german, ("x.txt", "y.txt")))
    assert bare(plain) == PAIRS and found.languages is None


def test_a_folder_does_not_say_which_side_is_read(tmp_path: Path) -> None:
    sides(tmp_path, ["one line"], ["eine Zeile"])
    with pytest.raises(DataError, match=r"which language is read\? Say it with task.languages="):
        read(tmp_path)
    assert bare(read(tmp_path, Rewrite(languages=("en", "de")))[1]) == [("one line", "eine Zeile")]


@pytest.mark.parametrize("extra", [0, 1])
def test_files_that_are_not_aligned(tmp_path: Path, extra: int) -> None:
    texts = [["one", "two"], ["eins", "zwei"]]
    texts[extra].append("too much")
    with pytest.raises(DataError) as said:
        read(sides(tmp_path, *texts))
    longer = ("a.en.gz", "a.de")[extra]
    assert f"a.en.gz has {len(texts[0])} lines and a.de {len(texts[1])}" in str(said.value)
    assert f"the first line without a partner is {longer}:3 ('too much')" in str(said.value)


def test_blank_lines(tmp_path: Path) -> None:
    """At the end of one file, or on both sides, they are nothing; on one side they are an error."""
    assert bare(read(sides(tmp_path, ["one", "", "two", "", ""], ["eins", "", "zwei"]))[1]) == [
        ("one", "eins"),
        ("two", "zwei"),
    ]
    files = sides(tmp_path, ["one", "", "three"], ["eins", "zwei", "drei"])
    with pytest.raises(DataError, match=r"a.en.gz:2: the line is empty, and a.de:2 is not: 'zwei'; mend it"):
        read(files)
    assert bare(read(files, skip_bad_records=True)[1]) == [("one", "eins"), ("three", "drei")]


def test_line_ends_byte_order_marks_and_chinese_encodings(tmp_path: Path) -> None:
    chinese = ["今天天气很好，我们去公园。", "他们在河边\u2028钓鱼，这是一本书。"]  # U+2028 ends no line
    (tmp_path / "a.en").write_bytes(b"\xef\xbb\xbfThe weather is fine.\r\nThey fish.\r\n")
    (tmp_path / "a.zh").write_bytes(("\n".join(chinese) + "\n").replace("\u2028", "").encode("gb18030"))
    _, records = read([tmp_path / "a.en", tmp_path / "a.zh"])
    assert bare(records)[0] == ("The weather is fine.", chinese[0])
    (tmp_path / "a.zh").write_text("\n".join(chinese), encoding="utf-16")
    assert bare(read([tmp_path / "a.en", tmp_path / "a.zh"])[1])[1] == ("They fish.", chinese[1])
    (tmp_path / "b.csv").write_bytes(f"原文,译文\n{chinese[0]},Fine weather\n".encode("gb18030"))
    assert bare(read(tmp_path / "b.csv")[1]) == [(chinese[0], "Fine weather")]


def test_several_right_answers(tmp_path: Path) -> None:
    rows = [
        {"dialogue": "a: hi", "summary1": "one", "summary2": "two", "summary3": "one"},
        {"dialogue": "b", "summary": ["x", "y"]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, records = read(tmp_path / "a.jsonl")
    assert (found.source, found.target) == ("dialogue", "summary")
    assert [each.targets for each in records] == [("one", "two"), ("x", "y")]


BAD = {
    "neither.csv": ("a,b,c\nx,y,z\n", r"neither.csv: which column is read \(task.source=NAME\)\? It has: a, b, c"),
    "no_target.csv": ("text,stars\nx,1\n", r"which column is to be written \(task.target=NAME\)\? It has: text, stars"),
    "no_header.tsv": ("two big dogs\tzwei grosse Hunde\nx y\tz\n", "looks like a pair: 'two big dogs'; put a line with"),
    "empty.jsonl": ('{"source": "a", "target": "b"}\n{"source": "a", "target": " "}\n', "empty.jsonl:2: 'target' is empty"),
    "number.jsonl": ('{"source": "a", "target": 3}\n', "number.jsonl:1: 'target' is a number, not text"),
    "no_answers.jsonl": ('{"source": "a", "target": []}\n', "no_answers.jsonl:1: 'target' is an empty list"),
    "missing.jsonl": ('{"source": "a", "target": "b"}\n{"source": "a"}\n', "missing.jsonl:2: no 'target' in this row"),
    "tabs.txt": ("a\tb\n" * 201 + "a\tb\tc\n", "tabs.txt:202: 2 tabs, where one was expected between source and target"),
    "side.txt": ("a\tb\n \tb\n", "side.txt:2: the source is empty"),
    "alone.txt": ("one line\nanother\n", r"alone.txt: plain text without pairs: expected two files line by line"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_said_with_file_and_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(BAD[name][0], encoding="utf-8")
    with pytest.raises(DataError, match=BAD[name][1]):
        read(tmp_path / name)


def test_a_named_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("source,summary\na,b\n")
    with pytest.raises(DataError, match=r"a.csv: no column 'sumary'; did you mean 'summary'\? \(task.target\)"):
        read(tmp_path / "a.csv", Rewrite(target="sumary"))
    trained = Rewrite(source="text", target="title", reads="encoder")  # other files may have other names
    assert bare(read(tmp_path / "a.csv", trained)[1]) == [("a", "b")]


def test_texts_to_be_answered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,source\n1,eins\n")
    assert read(tmp_path / "a.csv", labelled=False)[1] == [Paired("eins", (), "a.csv:2")]
    (tmp_path / "a.txt").write_text("eins\n\nzwei\tdrei\n")
    assert [each.text for each in read(tmp_path / "a.txt", labelled=False)[1]] == ["eins", "zwei\tdrei"]


# ---------------------------------------------------------------- translation memories


def memory(folder: Path, text: str) -> Path:
    (folder / "m.tmx").write_text(text, encoding="utf-8")
    return folder / "m.tmx"


def test_a_memory_with_a_namespace_countries_and_codes(tmp_path: Path) -> None:
    units = [
        '<tu><tuv xml:lang="EN-us"><seg>a <bpt i="1">&lt;b></bpt><hi>big</hi><ept i="1">&lt;/b></ept> dog</seg></tuv>'
        '<tuv lang="de-DE"><prop type="x">no</prop><seg>ein\n großer Hund &amp; mehr</seg></tuv></tu>'
    ]
    text = tmx(units, '<tmx xmlns="http://www.lisa.org/tmx14" version="1.4">', "en")
    found, records = read(memory(tmp_path, text))
    assert found.languages == ("EN-us", "de-DE") and bare(records) == [("a big dog", "ein großer Hund & mehr")]
    assert records[0].where == "m.tmx:5"
    _, back = read(memory(tmp_path, text), Translate(languages=("de", "en")))
    assert bare(back) == [("ein großer Hund & mehr", "a big dog")]


def test_a_memory_of_three_languages(tmp_path: Path) -> None:
    text = tmx([unit(en="one", de="eins", zh="一"), unit(en="two", de="zwei"), unit(en="three", de="drei", zh="三")])
    with pytest.raises(DataError, match=r"texts in en, de, zh: say from which to which with task.languages="):
        read(memory(tmp_path, text))
    with pytest.raises(DataError, match=r"m.tmx: no text in 'fr' \(task.languages\); there are: en, de, zh"):
        read(memory(tmp_path, text), Translate(languages=("en", "fr")))
    with pytest.raises(DataError, match=r"m.tmx:6: no text in 'zh'; it has: en, de; mend it"):
        read(memory(tmp_path, text), Translate(languages=("en", "zh")))
    _, kept = read(memory(tmp_path, text), Translate(languages=("en", "zh")), skip_bad_records=True)
    assert bare(kept) == [("one", "一"), ("three", "三")]


BROKEN = {
    "not closed": (tmx([unit(en="a", de="b")]).replace("</body>", ""), "m.tmx:6: not XML: mismatched tag"),
    "an entity": ('<!DOCTYPE tmx [<!ENTITY a "b">]>\n' + tmx([unit(en="&a;", de="b")])[22:], r"m.tmx:1: declares an entity \(a\)"),
    "no language": (tmx(["<tu><tuv><seg>a</seg></tuv></tu>"]), r"m.tmx:5: a <tuv> does not say its language"),
    "nothing": (tmx([]), "m.tmx: no translation unit with texts in it"),
    "an empty text": (tmx([unit(en="a", de="b"), unit(en="a", de=" ")]), "m.tmx:6: an empty text in 'de'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_memories_that_are_broken(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=BROKEN[name][1]):
        read(memory(tmp_path, BROKEN[name][0]))

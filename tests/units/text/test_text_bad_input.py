"""What cannot be read is one line that names file and line and says what to do; archives can do no harm."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from yuyan.errors import DataError
from yuyan.text.read import read_documents
from yuyan.text.settings import DataConfig

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200)


def failure(*paths: Path, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        list(read_documents(list(paths), DataConfig(**settings)))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"", "no training text: the file is empty"),
        ("a.txt", b" \n\t\r\n", "nothing but white space"),
        ("a.txt", "\u3000\u3000\n".encode(), "nothing but white space"),
        ("a.txt", b"\xef\xbb\xbf", "nothing but white space"),
        ("a.txt", b"\xff\xfe", "nothing but white space"),
        ("a.txt", b"\x00" * 5000, "not text: its bytes are binary"),
        ("a.txt", PNG, "not text: it is a PNG image"),
        ("a.pdf", b"%PDF-1.7 ...", "a PDF document; export it as text first"),
        ("a.docx", b"PK\x03\x04" + bytes(50), "an office document"),
        ("a.bin", os.urandom(1 << 16), "not text: its bytes are binary"),
        ("a.parquet", b"PAR1 and then nothing", "a damaged parquet file"),
        ("a.parquet", b"name,text\n", "not a parquet file"),
        ("a.gz", b"not gzip at all", "a damaged gzip file"),
        ("a.txt.gz", gzip.compress(b"text " * 1000, mtime=0)[:-20], "the gzip file is cut off; copy it again"),
        ("a.txt.zst", zstandard.ZstdCompressor().compress(b"text " * 1000)[:-6], "the zstd file is cut off; copy it again"),
        ("a.txt.zst", b"not zstd", "a damaged zstd file"),
        ("a.zip", b"PK\x03\x04 not a zip", "a damaged zip archive"),
        ("a.tar.gz", gzip.compress(b"x", mtime=0), "an archive of a kind that is not read; unpack it and give the folder"),
    ],
)  # fmt: skip
def test_files_that_are_no_text(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    message = failure(file)
    assert said in message
    assert name in message


@pytest.mark.parametrize("text", ["ID3 is an algorithm.\n", "RIFF-RAFF!\n", "GIF89a, PAR10, OggS\n", "Rar! %PDF\n"])
def test_texts_that_begin_as_other_files_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert [document.text for document in read_documents([tmp_path / "a.txt"])] == [text]


def test_files_of_letters_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ID3\x04\x00 and words for the rest of it " + b"x" * 999)
    assert "not text: it is an audio file" in failure(tmp_path / "a.txt")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert "no-such.txt: no such file or folder" in failure(tmp_path / "no-such.txt")
    assert "the folder is empty; readable are .txt" in failure(tmp_path)
    assert "no data given" in failure()
    assert "not a possible path" in failure(Path("a\0b"))
    assert "cannot be read: File name too long" in failure(tmp_path / ("x" * 10_000))
    assert len(failure(tmp_path / ("x" * 10_000))) < 300
    (tmp_path / "photo.png").write_bytes(PNG)
    (tmp_path / ".hidden").write_text("x")
    assert "no training text in it: 1 x " in failure(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file; save the text to a file first" in failure(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": "y"\n', r"a\.jsonl:2: broken JSON at column 13: it ends too early"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y"', r"a\.jsonl:2: broken JSON at column 13: it ends too early"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y",}\n', r"a\.jsonl:2: broken JSON at column 1[34]: "),
        ("a.jsonl", '{"text": "x"}\n\n{"test": "y"}\n', r"a\.jsonl:3: no 'text' in this record; it has: test"),
        ("a.jsonl", '{"text": "x"}\n["y"]\n', r"a\.jsonl:2: a list, where an object with 'text' was expected"),
        ("a.jsonl", '{"text": "x"}\n{"text": 5}\n', r"a\.jsonl:2: 'text' is a number, not text"),
        ("a.jsonl", '{"text": "x"}\n{"text": ' + "[" * 100_000 + "\n", r"a\.jsonl:2: JSON nested too deeply"),
        ("a.jsonl", '{"text": "x"}\n{"n": ' + "1" * 100_000 + "}\n", r"a\.jsonl:2: broken JSON: Exceeds the limit"),
        ("a.jsonl", '[\n{"text": "x"}\n]\n', r"a\.jsonl:1: one JSON list over many lines.*name it \.json"),
        ("a.jsonl", "plain words\nmore words\n", r"a\.jsonl: no line of it is a JSON object"),
        ("a.jsonl", "{'text': 'x'}\n", r"no line of it is a JSON object.*a\.jsonl:1: broken JSON at column 2: .* double quotes"),
        ("a.jsonl", '{"text": "x", "text": "y"}\n', r"a\.jsonl:1: broken JSON: the key 'text' is there twice"),
        ("a.json", '[{"text": "x"},\n {"text": y}]', r"a\.json:2: broken JSON at column 11"),
        ("a.json", '{"text": "x"}\n{"text": "y"}', r"a\.json:2: .*if it has one object a line, name it \.jsonl"),
        ("a.json", '{"a": {"b": 1}}', r"a\.json: a list of records or of texts was expected"),
        ("a.csv", "id,text\n1,fine words\n2,ragged, line\n", r"a\.csv:3: 3 columns, where the header has 2: .* in quotation marks"),
        ("a.csv", 'id,text\n1,fine words\n2,"never closed\n3,x\n', r"a\.csv:3: a quotation mark that is opened here is never closed"),
        ("a.csv", 'id,text\n1,"a\nb"\n2,"c" d\n', r"a\.csv:4: something follows the quotation mark .* is written twice"),
        ("a.tsv", 'text\tid\n"Yes he said\t1\nor "no"\t2\n', r"a\.tsv:2: something follows the quotation mark"),
        ("a.tsv", 'text\tid\n"Yes he said\t1\nor no"\t2\n', r"a\.tsv:2: a cell holds several lines of the table"),
        ("a.csv", "id,name\n1,x\n", r"a\.csv: which column is the text\?.*it has: id, name"),
    ],
)  # fmt: skip
def test_broken_records_name_file_line_and_remedy(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        list(read_documents([tmp_path / name]))


def test_broken_records_can_be_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": \n{"no": 1}\n{"text": "y"}\n{"te')
    (tmp_path / "b.csv").write_text('id,text\n1,one\n2,too,many\n3,three\n4,"four" x\n5,five\n')
    config = DataConfig(skip_bad_records=True)
    assert [d.text for d in read_documents([tmp_path / "a.jsonl"], config)] == ["x", "y"]
    assert [d.text for d in read_documents([tmp_path / "b.csv"], config)] == ["one", "three", "five"]


def test_a_damaged_page_inside_a_parquet_file(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {i} " * 50 for i in range(3000)]}), file, compression="gzip")
    data = bytearray(file.read_bytes())
    data[2000:2400] = os.urandom(400)
    file.write_bytes(data)
    assert "a.parquet: a damaged parquet file" in failure(file)


# ---------------------------------------------------------------- archives


def archive(path: Path, *members: tuple[str, bytes], attributes: int = 0, flags: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("fine.txt", "fine text")
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, data)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "C:\\evil.txt", "a\\..\\..\\evil.txt"]
)
def test_members_that_point_outside_are_refused_by_name(tmp_path: Path, name: str) -> None:
    message = failure(archive(tmp_path / "a.zip", (name, b"x")))
    assert "a.zip: member" in message
    assert "evil.txt" in message
    assert "nothing was read" in message
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zip"]


def test_links_and_devices_in_an_archive_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
        message = failure(archive(tmp_path / "a.zip", ("link.txt", b"/etc/passwd"), attributes=kind | 0o777))
        assert "member 'link.txt' is a link or a device" in message


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = archive(tmp_path / "a.zip").read_bytes()
    at = data.index(b"PK\x01\x02") + 8
    (tmp_path / "a.zip").write_bytes(data[:at] + b"\x01\x00" + data[at + 2 :])
    assert "member 'fine.txt' is encrypted" in failure(tmp_path / "a.zip")


def test_bombs_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuyan.text.source.BOMB_BYTES", 10 << 20)
    zeros = b" " * (12 << 20)
    assert "member 'bomb.txt' would grow to 12,582,912 bytes" in failure(
        archive(tmp_path / "a.zip", ("bomb.txt", zeros))
    )
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(zeros, 1))
    assert "a.txt.gz: grew to more than 200 times its size and was stopped" in failure(tmp_path / "a.txt.gz")
    (tmp_path / "a.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(zeros))
    assert "a.txt.zst: grew to more than 200 times its size and was stopped" in failure(tmp_path / "a.txt.zst")


def test_a_million_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuyan.text.source.MEMBERS", 3)
    message = failure(archive(tmp_path / "a.zip", *((f"{i}.txt", b"x") for i in range(4))))
    assert "a.zip: 5 members; at most 3 are read" in message


def test_an_archive_in_an_archive_and_hidden_members_are_passed_over(tmp_path: Path) -> None:
    made = archive(tmp_path / "a.zip", ("in.zip", b"PK"), ("__MACOSX/._fine.txt", b"x"), ("p.png", PNG))
    assert [d.id for d in read_documents([made])] == ["a.zip/fine.txt"]


# ---------------------------------------------------------------- memory

_MEASURE = """
import json, re, sys
from pathlib import Path
from yuyan.text import DataConfig, read_documents
config = DataConfig(**json.loads(sys.argv[2]))
count = length = 0
for document in read_documents([Path(sys.argv[1])], config):
    count += 1
    length += len(document.text)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([count, length, int(peak[1]) // 1024]))
"""


def measured(path: Path, **settings: object) -> tuple[int, int, int]:
    """Documents, characters, and peak memory in MiB of a process of its own that reads `path`."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path), json.dumps(settings)], capture_output=True, text=True, check=True
    )  # fmt: skip
    count, length, peak = json.loads(run.stdout)
    return count, length, peak


@pytest.mark.parametrize("megabytes", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_one_long_line_does_not_fill_the_memory(tmp_path: Path, megabytes: int) -> None:
    file = tmp_path / "line.txt"
    with file.open("wb") as out:
        for _ in range(megabytes):
            out.write("字母 ".encode() * ((1 << 20) // 7))
    count, length, peak = measured(file)
    assert length == megabytes * ((1 << 20) // 7) * 3
    assert count > 50 * megabytes
    assert peak < 150
    count, length, peak = measured(file, documents="file")
    assert count >= length // 6_000_000  # pieces of the greatest length
    assert peak < 250


def test_a_record_without_an_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "line.jsonl"
    with file.open("wb") as out:
        out.write(b'{"text": "')
        for _ in range(100):
            out.write(b"a" * (1 << 20))
    message = failure(file)
    assert "line.jsonl:1: a record of more than 32 million characters" in message

"""What people give by mistake: each is one clear line and an exit code, leaves nothing half-written, and the next good
command works. 2 is for what the user can mend in the input, 1 for failures of the system."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toy_runs import STORIES, TRAIN, command, outcome, refused, remains

LADDER = ("--rungs", "unigram", "--budget", "10s")
GOOD = "".join(f"The {a} cat saw a {b} dog by the river.\n" for a in ("old", "new") for b in ("red", "big", "shy"))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10

# ---------------------------------------------------------------- text


def zipped(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, GOOD)

    return make


def folder_with(**files: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in files.items():
            (path / name.replace("_", ".")).write_bytes(content)

    return make


def content(data: bytes | str) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(data.encode() if isinstance(data, str) else data))


def void(_: object) -> None:
    return None


TEXTS: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "missing": ("no.txt", None, r"no\.txt: no such file or folder"),
    "empty path": ("", None, "the path is empty"),
    "blank path": ("  ", None, "the path is empty"),
    "empty folder": ("empty", folder_with(), "empty: no training text: the folder is empty; readable are .txt"),
    "folder of images": ("images", folder_with(a_png=PNG), "images: no training text in it: 1 x not text: it is a PNG image"),
    "empty file": ("a.txt", content(""), r"a\.txt: no training text: the file is empty"),
    "white space": ("a.txt", content(" \n\t\n"), r"a\.txt: no training text: nothing but white space"),
    "only a mark": ("a.txt", content(b"\xef\xbb\xbf"), r"a\.txt: no training text"),
    "one byte": ("a.txt", content("a"), r"a\.txt: cannot split: only one document is left"),
    "one document": ("a.txt", content("One line that is short."), r"a\.txt: cannot split: only one document is left, and 3"),
    "two documents": ("a.jsonl", content('{"text": "One."}\n{"text": "Two."}\n'), r"a\.jsonl: cannot split: only 2 documents"),
    "all the same": ("a.jsonl", content('{"text": "All say the same here."}\n' * 50), r"a\.jsonl: all 50 documents are the same"),
    "binary": ("a.txt", content(bytes(range(256)) * 20), r"a\.txt: not text: its bytes are binary"),
    "image": ("a.txt", content(PNG), r"a\.txt: not text: it is a PNG image"),
    "broken records": ("a.jsonl", content('{"text": "x"}\n{"text": \n'), r"a\.jsonl:2: broken JSON"),
    "cut gzip": ("a.txt.gz", content(gzip.compress(os.urandom(2000).hex().encode())[:-300]), r"a\.txt\.gz: the gzip file is cut"),
    "outside the archive": ("a.zip", zipped("../../evil.txt"), r"a\.zip: member '\.\./\.\./evil\.txt' points outside"),
    "absolute in the archive": ("a.zip", zipped("/etc/evil.txt"), r"a\.zip: member '/etc/evil\.txt' has an absolute name"),
    "long name": ("x" * 5000, None, "File name too long"),
    "a loop of links": ("loop", lambda path: path.symlink_to(path), "loop: cannot be read: Too many levels"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["data", "ladder", "train"])
@pytest.mark.parametrize("case", TEXTS)
def test_text(case: str, verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, said = TEXTS[case]
    if make is not None:
        make(here / name)
    words = {
        "data": ("data", name, "--out", "out"),
        "ladder": ("ladder", name, *LADDER, "--out", "out"),
        "train": (*TRAIN, "--out", "out", f"data.sources=[{json.dumps(name)}]", "data.documents=auto"),
    }[verb]
    refused(capsys, *words, said=said, place=None if case == "a loop of links" else here)
    assert not (here / "out").exists()


@pytest.mark.parametrize("verb", ["data", "ladder"])
def test_bytes_that_are_no_characters(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.txt").write_bytes(GOOD.encode() * 4 + b"\xff\xfe\xfa" + GOOD.encode() * 4)
    words = (verb, "a.txt", "--set", "encoding=utf-8", "--set", "documents=line", *(LADDER if verb == "ladder" else ()))
    refused(
        capsys,
        *words,
        "--out",
        "out",
        said=rf"a\.txt: not utf-8 at byte {len(GOOD) * 4:,} \(the bytes ff fe fa",
        place=here,
    )
    assert command(*words, "--out", "out", "--set", "undecodable=replace") == 0


def test_odd_characters_are_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NUL would make a file binary; everything else that is odd passes: CR, U+2028, marks inside, emoji, right to left."""
    odd = "one\rtwo\u2028three\ufeff four \U0001f469\u200d\U0001f4bb שלום " + "e" + "\u0301" * 1000
    (here / "a.txt").write_text("".join(f"{i} {odd}\n" for i in range(12)), encoding="utf-8")
    assert command("ladder", "a.txt", *LADDER, "--out", "out", "--set", "clean=null", "--set", "documents=line") == 0
    assert command("generate", "out/rungs/unigram", odd, "--max-tokens", "3") == 0


def test_fewer_tokens_than_one_window(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "few.txt").write_text("One two.\nThree.\nFour five.\n")
    few = ("data.sources=[few.txt]", "data.documents=line", "data.section_characters=null")
    refused(capsys, *TRAIN, "--out", "out", *few, "train.context=500", "train.batch_tokens=500", said=r"train\.context: .* tokens, and one row of length 500",
            place=here)  # fmt: skip
    refused(capsys, "ladder", "few.txt", "--set", "documents=line", "--rungs", "unigram,gpt", "--budget", "10s", "--out", "out",
            said=r"few\.txt: \d+ tokens to train on are too few for gpt", place=here)  # fmt: skip
    assert command(*TRAIN, "--out", "out", *few, "train.context=4", "train.steps=2") == 0


@pytest.mark.slow
def test_one_line_of_200_megabytes(here: Path) -> None:
    """In bounded memory, in one pass (row D3)."""
    sentences = STORIES.read_text(encoding="utf-8").replace("\n", " ").split(". ")
    with (here / "line.txt").open("w", encoding="utf-8") as file:
        number = 0
        while file.tell() < 200_000_000:
            file.write(" ".join(f"{sentence} {number * n}." for n, sentence in enumerate(sentences, 1)))
            number += 1
    code = (
        "import re, sys, runpy; from pathlib import Path\n"
        "sys.argv = ['yuyan', 'data', 'line.txt', '--set', 'processes=1', '--set', 'clean.near_duplicates=null']\n"
        "try: runpy.run_module('yuyan', run_name='__main__')\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 500 * 1024, "kB"


# ---------------------------------------------------------------- places to write


@pytest.mark.parametrize(
    ("out", "code", "said"),
    [
        ("", 2, "'--out' / '-o': the path is empty"),
        ("file", 2, "file: already there; choose another place for the run with --out"),
        ("full", 2, "full: already there"),
        ("file/run", 1, "file/run: cannot be written: a part of this path is a file"),
        ("/proc/run", 1, "/proc/run: cannot be written"),
        ("x" * 300, 1, "cannot be written: the name is too long; choose a shorter one with --out"),
        ("a/" * 3000, 1, "cannot be written: the name is too long"),
    ],
)
def test_places_that_cannot_be_written(
    out: str, code: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text(GOOD)
    refused(capsys, *TRAIN, "--out", out, code=code, said=said, place=here)
    refused(capsys, "ladder", "full", *LADDER, "--set", "documents=line", "--out", out, code=code,
            said=said.replace("the run", "the ladder"), place=here)  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "locked").mkdir(mode=0o500)
    refused(
        capsys, *TRAIN, "--out", "locked/run", code=1, said="locked/run: cannot be written: no permission", place=here
    )


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that refuses, as a full one does, what makes a file larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1_000, 20_000, 50_000])
def test_a_full_disk_before_training(size: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While writing the config, the data, the shards: everything is taken away again."""
    refusal = {"code": 1, "said": "cannot be written: the file would be larger"}
    with files_of_at_most(size):
        refused(capsys, *TRAIN, "--out", "run", place=here, **refusal)  # type: ignore[arg-type]
        refused(capsys, "ladder", str(STORIES), *LADDER, "--out", "ladder", place=here, **refusal)  # type: ignore[arg-type]
        refused(capsys, "data", str(STORIES), "--out", "data", place=here, **refusal)  # type: ignore[arg-type]


def test_a_full_disk_while_training(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training goes on with a warning; what cannot be written at the end is an error that names the way on (row T8)."""
    model = (run / "model" / "model.safetensors").stat().st_size
    with files_of_at_most(model + 5_000):  # room for the model, not for the optimizer
        assert command(*TRAIN, "--out", "run") == 1
    said = capsys.readouterr().err
    assert said.count("warning: run/state/000000") == 5
    assert "training goes on, what was saved before is whole" in said
    assert f"To go on:\n  yuyan train {Path('run/run.yaml')} --out run --resume" in said
    assert remains(here) == []
    assert command("generate", "run", "Anna", "--max-tokens", "2") == 0
    assert command("train", "run/run.yaml", "--out", "run", "--resume") == 0
    assert outcome(here / "run") == outcome(run)

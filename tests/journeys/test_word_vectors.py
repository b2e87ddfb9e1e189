"""`yuyan vectors` as a person uses it: train, ask, measure, draw, convert; and every mistake in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_runs import STORIES, command, refused

SETTINGS = ("--set", "threads=1", "--set", "dimensions=12", "--set", "min_count=2", "--set", "model.epochs=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "v"
    assert command("vectors", "train", str(STORIES), "--out", str(folder), *SETTINGS, "--set", "model.subwords={}") == 0
    return folder


def test_from_text_to_answers(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {"vectors.bin", "counts.npy", "subwords.safetensors", "config.yaml", "report.json", "manifest.json"}
    assert command("vectors", "nearest", str(trained), "the", "thezz", "--json", "-n", "3") == 0
    answers = json.loads(capsys.readouterr().out)
    assert set(answers) == {"the", "thezz"} and all(len(near) == 3 for near in answers.values())
    words = [word for word, _ in answers["the"]]
    assert command("vectors", "analogy", str(trained), *words, "--json") == 0
    assert not set(words) & {word for word, _ in json.loads(capsys.readouterr().out)}
    Path("s.tsv").write_text("".join(f"the\t{word}\t{i}\n" for i, word in enumerate(words)))
    assert command("vectors", "evaluate", str(trained), "s.tsv", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["answered"] == 3
    assert command("vectors", "plot", str(trained), "--out", "space.html") == 0
    assert '<svg class="space"' in Path("space.html").read_text(encoding="utf-8")
    assert command("vectors", "convert", str(trained), "v.txt") == 0
    assert command("vectors", "nearest", "v.txt", "the", "--json", "-n", "3") == 0
    assert [word for word, _ in json.loads(capsys.readouterr().out)["the"]] == words


@pytest.mark.parametrize(
    "model",
    [
        "kind: skipgram",
        "kind: cbow",
        "kind: skipgram, output: {kind: tree}",
        "kind: cbow, output: {kind: tree}",
        "kind: glove",
    ],
)
def test_one_thread_writes_the_same_files(model: str, here: Path) -> None:
    few = (*SETTINGS[:-2], "--set", f"model={{{model}, epochs: 1}}")
    for name in ("a", "b"):
        assert command("vectors", "train", str(STORIES), "--out", name, *few) == 0
    assert Path("a/vectors.bin").read_bytes() == Path("b/vectors.bin").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["a", "b"]


def test_a_config_file_and_cleaned_text(here: Path) -> None:
    Path("in").mkdir()
    Path("in/t.txt").write_text("春 眠 不 觉 晓\n\n处 处 闻 啼 鸟\n" * 5, encoding="utf-8")
    Path("in/v.yaml").write_text(
        "data: {sources: [t.txt], clean: {exact_duplicates: null, near_duplicates: null, quality: null}}\n"
        "units: {kind: characters}\nmin_count: 1\ndimensions: 4\nthreads: 1\nmodel: {kind: cbow, epochs: 1}\n"
    )
    assert command("vectors", "train", "--config", "in/v.yaml", "--out", "v") == 0
    assert "units:\n  kind: characters" in Path("v/config.yaml").read_text()


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no text": (("train", "--out", "v"), "data.sources: no text; name files or folders"),
    "typo": (("train", "t.txt", "--out", "v", "--set", "model.windoe=3"), r"model\.windoe: unknown key; did you mean 'window'"),
    "kind": (("train", "t.txt", "--out", "v", "--set", "model.kind=skipgrma"), "did you mean 'skipgram'"),
    "key of another kind": (("train", "t.txt", "--out", "v", "--set", "model.kind=glove", "--set", "model.output.kind=tree"), "model.output: unknown key"),
    "key of another output": (("train", "t.txt", "--out", "v", "--set", "model.output={kind: tree, count: 5}"), "model.output.count: unknown key"),
    "negatives in the wrong place": (("train", "t.txt", "--out", "v", "--set", "model.negatives=3"), "model.negatives: unknown key; known: .*output"),
    "output without a kind": (("train", "t.txt", "--out", "v", "--set", "model.output.counts=3"), "model.output.counts: unknown key of kind negatives, the default; did you mean 'count'"),
    "unknown output": (("train", "t.txt", "--out", "v", "--set", "model.output.kind=tre"), "did you mean 'tree'"),
    "missing file": (("train", "nowhere.txt", "--out", "v"), "nowhere.txt"),
    "empty file": (("train", "empty.txt", "--out", "v"), "empty.txt|there is no word"),
    "one word": (("train", "one.txt", "--out", "v", "--set", "min_count=1"), "the only word in the text is 'aaa'"),
    "all too rare": (("train", "t.txt", "--out", "v", "--set", "min_count=99"), "no word is left of .*set min_count lower"),
    "there already": (("train", "t.txt", "--out", "full"), "full: already there"),
    "unknown word": (("nearest", "g.txt", "aplpe"), "'aplpe': not among the 3 words; did you mean 'apple'"),
    "unknown word drawn": (("plot", "g.txt", "pear", "x", "y", "--out", "p.html"), "'x': not among the 3 words"),
    "two words drawn": (("plot", "g.txt", "pear", "apple", "--out", "p.html"), "three words or more; got 2"),
    "picture there": (("plot", "g.txt", "--out", "t.txt"), "t.txt: already there"),
    "no vectors": (("nearest", "full", "a"), r"no vectors in it: there is no vectors\.bin"),
    "no file": (("nearest", "nowhere", "a"), "nowhere: no such file"),
    "truncated": (("nearest", "cut.txt", "a"), "cut.txt: ends after 1 words; its first line says 3"),
    "other dimension": (("nearest", "wide.txt", "a"), "wide.txt:2: 3 numbers after 'a'; expected 2"),
    "damaged": (("nearest", "bad.bin", "a"), "bad.bin: .*(incomplete|damaged)"),
    "strange name": (("convert", "g.txt", "g.npy"), r"\.bin is binary"),
    "no questions": (("evaluate", "g.txt", "empty.txt"), "empty.txt: no questions in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.txt").write_text("one two three\ntwo three four\n" * 3)
    Path("one.txt").write_text("aaa aaa\n" * 9)
    Path("empty.txt").write_text("")
    Path("full").mkdir()
    Path("full/x").write_text("x")
    Path("g.txt").write_text("apple 1 2\npear 1 3\nplum 0 1\n")
    Path("cut.txt").write_text("3 2\na 1 2\n")
    Path("wide.txt").write_text("1 2\na 1 2 3\n")
    Path("bad.bin").write_bytes(b"3 2\n" + b"a " + np.ones(2, "<f4").tobytes() + b"\nb \x80\x80")
    words, said = MISTAKES[case]
    refused(capsys, "vectors", *words, said=said, place=here)


def test_other_commands_do_not_wait_for_the_compiler() -> None:
    code = "import sys, yuyan.cli, yuyan.vectors, yuyan.commands.vectors; print('numba' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_compiled_code_is_kept_where_only_the_user_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yuyan.compile import cache_folder

    package = Path(__file__).parent
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder.cache_clear()
    try:
        folder = cache_folder(package)
        assert folder is not None and folder.stat().st_mode & 0o777 == 0o700
        (tmp_path / "yuyan").chmod(0o777)
        cache_folder.cache_clear()
        assert cache_folder(package) is None
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        (tmp_path / "file").write_text("")
        cache_folder.cache_clear()
        assert cache_folder(package) is None
    finally:
        cache_folder.cache_clear()

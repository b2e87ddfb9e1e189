"""Configs, options, runs that cannot go on: one clear line, an exit code, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy_runs import CONFIG, STORIES, TRAIN, command, outcome, refused

LADDER = ("--rungs", "unigram", "--budget", "10s")

# ---------------------------------------------------------------- configs and options


OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown key": (("train.stepz=3",), r"command line: train\.stepz: unknown key; did you mean 'steps'"),
    "unknown section": (("trian.steps=3",), r"trian: unknown key; did you mean 'train'"),
    "wrong type": (("train.steps=abc",), r"train\.steps: input should be a valid integer; got 'abc'"),
    "fraction for a number": (("train.steps=2.5",), r"train\.steps: input should be a valid integer"),
    "value for a section": (("train.optimizer=3",), r"train\.optimizer: input should be an object; got 3"),
    "out of range": (("train.optimizer.lr=-1",), r"train\.optimizer\.lr: input should be greater than 0"),
    "unknown kind": (("model.kind=gtp",), r"model\.kind: expected one of gpt, lstm.*got 'gtp'; did you mean 'gpt'"),
    "two lengths": (("train.budget=10m",), r"give exactly one of train\.steps, train\.epochs and train\.budget"),
    "no time": (("train.save_every=soon",), r"'soon' is not a time; write 90s, 10m or 1\.5h"),
    "no equals sign": (("steps",), "'steps': an override is written key.sub=value"),
    "empty source": (("data.sources=['']",), r"data\.sources\.0: the path is empty"),
    "NUL in a path": ((r'data.sources=["a\0b"]',), "no path has a NUL"),
    "name that climbs": (("name=../../x",), "name: string should match pattern"),
    "name of a drive": (("name=C:\\x",), "name: string should match pattern"),
    "long name": (("name=" + "x" * 10_000,), "name: string should have at most 60 characters"),
    "huge seed": (("seed=" + "9" * 30,), "seed: input should be less than"),
    "negative seed": (("seed=-1",), "seed: input should be greater than or equal to 0"),
    "no heads fit": (("model.hidden_size=33",), r"model: hidden_size 33 cannot be divided among 2 heads"),
    "vocabulary too small": (("tokenizer.vocab_size=100",), "vocab_size: 100 has no room for the 256 bytes"),
    "resume of nothing": (("--resume",), "nothing to go on with; leave out --resume to start"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_of_a_run(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = OPTIONS[case]
    refused(capsys, *TRAIN, *words, "--out", "run", said=said, place=here)


FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "a.yaml: no such config file"),
    "not YAML": (b"a: [1\n", r"a\.yaml:2: not YAML"),
    "not UTF-8": (b"name: \xff\n", r"a\.yaml: not UTF-8 at byte 6"),
    "a list": (b"- a\n", r"a\.yaml:1: a config is a mapping of keys to values, not a list"),
    "a key twice": (b"seed: 1\nseed: 2\n", r"a\.yaml:2: seed: written twice \(first in line 1\)"),
    "typo with its line": (CONFIG.read_bytes().replace(b"vocab_size", b"vocab_sise"), r"a\.yaml:\d+: tokenizer\.vocab_sise: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_config_files(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = FILES[case]
    if text is not None:
        (here / "a.yaml").write_bytes(text)
    refused(capsys, "train", "a.yaml", "--out", "run", said=said, place=here)
    refused(capsys, "config", "show", "a.yaml", said=said, place=here)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(
            (("--budget", text), "is not a time; write 90s")
            for text in ("nonsense", "-5m", "0", "10x", "", "1e400h", "nan")
        ),
        (("--budget", "3s"), "--budget 3s: a ladder needs at least 10s"),
        (("--rungs", "gtp"), "--rungs: there is no rung 'gtp'; known: unigram"),
        (("--rungs", " , "), "--rungs: name at least one of"),
        (("--rungs", "kn5,kn5"), "--rungs: each rung can be built once"),
        (("--seed", "-1"), "'--seed'"),
        (("--seed", "9" * 25), "'--seed'"),
        (("--set", "clean.nears=null"), "clean.nears: unknown key"),
        (("--nonsense",), "No such option"),
        (("--resume",), "nothing to go on with; leave out --resume to start"),
    ],
)
def test_options_of_a_ladder(words: tuple[str, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "ladder", str(STORIES), "--rungs", "unigram", *words, "--out", "ladder", said=said, place=here)


# ---------------------------------------------------------------- going on


def test_going_on_as_another_run(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, here / "run")
    refused(capsys, *TRAIN, "--out", "run", said="run: already there; choose another place for the run", place=here)
    refused(capsys, *TRAIN, "train.steps=20", "model.dropout=0", "--out", "run", "--resume", place=here,
            said=r"cannot go on as another run: model\.dropout: 0\.2 there, 0.* here; train\.steps: 16 there, 20 here")  # fmt: skip


def test_other_threads_warn(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, here / "run")
    shutil.rmtree(here / "run" / "state" / "00000016")
    assert command(*TRAIN, "train.threads=2", "--out", "run", "--resume") == 0
    said = capsys.readouterr().err
    assert "warning: train.threads is 2, and so far the run was computed with 1" in said
    assert said.count("warning") == 1
    assert "threads: 2" in (here / "run" / "run.yaml").read_text()


def test_going_on_with_an_edited_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = STORIES.read_text(encoding="utf-8")
    (here / "a.txt").write_text(text, encoding="utf-8")
    mine = ("data.sources=[a.txt]", "--out", "run")
    assert command(*TRAIN, *mine, "train.steps=3") == 0
    assert command("ladder", "a.txt", *LADDER, "--out", "ladder") == 0
    for edited in (text + "One more.\n", text[:-200], text.replace("Anna", "Anne"), ""):
        (here / "a.txt").write_text(edited, encoding="utf-8")
        said = r"a\.txt: not the text that .* began with" if edited else r"a\.txt: no training text"
        refused(capsys, *TRAIN, *mine, "train.steps=3", "--resume", said=said, place=here)
        refused(capsys, "ladder", "a.txt", *LADDER, "--out", "ladder", "--resume", said=said, place=here)
    (here / "a.txt").write_text(text, encoding="utf-8")
    (here / "b.txt").write_text(text, encoding="utf-8")
    refused(
        capsys,
        "ladder",
        "b.txt",
        *LADDER,
        "--out",
        "ladder",
        "--resume",
        said="cannot go on as another ladder: data.sources",
    )
    assert command(*TRAIN, *mine, "train.steps=3", "--resume") == 0
    assert command("ladder", "a.txt", *LADDER, "--out", "ladder", "--resume") == 0


def test_no_checkpoint_is_whole(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, here / "run")
    for weights in (here / "run" / "state").glob("*/weights.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    said = (
        r"run/state: damaged: expected a whole checkpoint, found .*00000016.*00000015.*Remove run/state to train from"
    )
    refused(capsys, *TRAIN, "--out", "run", "--resume", code=1, said=said, place=here)
    shutil.rmtree(here / "run" / "state")
    assert command(*TRAIN, "--out", "run", "--resume") == 0
    assert outcome(here / "run") == outcome(run)


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("shards/train/tokens.bin", 1, r"tokens\.bin: damaged"),
        ("tokenizer/tokenizer.json", 2, r"tokenizer\.json: not a tokenizer"),
        ("run.yaml", 2, r"run\.yaml:2: not YAML"),
    ],
)
def test_other_damage(
    file: str, code: int, said: str, here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, here / "run")
    (here / "run" / file).write_bytes(b"{" + (here / "run" / file).read_bytes()[1:-3])
    refused(capsys, *TRAIN, "--out", "run", "--resume", code=code, said=said, place=here)


def test_a_diverging_run_says_what_to_change(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TRAIN, "train.optimizer.lr=1e30", "train.clip=null", "--out", "run") == 1
    said = capsys.readouterr().err
    assert "10 losses or gradients in a row were not finite; start a new run with a lower train.optimizer.lr" in said
    assert "Traceback" not in said


def test_without_a_command_the_help_is_all_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 2
    said = capsys.readouterr()
    assert "ladder" in said.out and said.err == ""
    assert command("--version") == 0
    assert "yuyan" in capsys.readouterr().out

"""The whole way: the same result however it is computed, used again only if nothing changed, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from yuyan.config import build
from yuyan.errors import DataError, InputError, StorageError, YuyanError
from yuyan.text import CleanConfig, DataConfig, Prepared, open_prepared, prepare
from yuyan.text import pipeline as pipeline_module
from yuyan.text.describe import describe
from yuyan.text.parallel import _Workers

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "pu", "ra", "so") for b in ("ba", "de", "fi", "go", "hu", "l")]
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰馀成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光"


def english(seed: int, count: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count)) + "."


def chinese(seed: int, count: int = 200) -> str:
    return "".join(random.Random(seed).choices(HAN, k=count)) + "。"


def corpus(folder: Path, count: int = 120) -> Path:
    """English and Chinese, with equal and nearly equal documents, dirt, and empty records, in several formats."""
    folder.mkdir()
    rows = [{"text": english(i)} for i in range(count)] + [{"text": chinese(i)} for i in range(count)]
    rows += [{"text": english(3).upper()}, {"text": english(4) + " And more."}, {"text": "..."}, {"text": ""}]
    rows += [{"text": "Bro\u00e2\u20ac\u2122ken\r\n\x00 text " + english(9001)}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.csv").write_bytes(
        ("id,内容\n" + "".join(f'{i},"{chinese(500 + i)}"\n' for i in range(count))).encode("gb18030")
    )
    (folder / "c.txt").write_text("Home | About | Contact | Login\n" + english(7000, 40) + "\n\n" + english(7001, 40))
    return folder


def contents(prepared: Prepared) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(prepared.folder.iterdir())}


def config(**settings: Any) -> DataConfig:
    return build(DataConfig, settings)


# ---------------------------------------------------------------- what comes out


def test_the_whole_way(tmp_path: Path) -> None:
    prepared = prepare([corpus(tmp_path / "corpus")], config(), tmp_path / "out")
    report = prepared.report
    assert prepared.splits == ("train", "validation", "test")
    documents = [d for split in prepared.splits for d in prepared.documents(split)]
    assert len(documents) == report.documents_kept == len({d.id for d in documents})
    assert (
        sum(len(d.text) for d in documents)
        == report.characters_kept
        == sum(s.characters for s in report.splits.values())
    )
    assert (
        sum(len(d.text.encode()) for d in documents)
        == report.bytes_kept
        == sum(s.bytes for s in report.splits.values())
    )
    steps = {step.name: step for step in report.steps}
    assert steps["unicode"].changed == 1
    assert steps["lines"].reasons == {"navigation": 1}
    assert steps["quality"].reasons == {"no words": 1}
    assert steps["exact_duplicates"].dropped == 1
    assert "equal to corpus/a.jsonl:4" in steps["exact_duplicates"].samples[0].reason
    assert steps["near_duplicates"].dropped == 1
    assert "like corpus/a.jsonl:5" in steps["near_duplicates"].samples[0].reason
    assert report.records_empty == 1
    assert report.documents_read == 244 + 120 + 1
    for before, after in zip(report.steps, report.steps[1:], strict=False):
        assert before.documents_out == after.documents_in
    assert report.steps[-1].documents_out == report.documents_kept
    assert report.languages["zh"].documents == 240
    assert {s.name: (s.format, s.encoding, s.text_column) for s in report.sources} == {
        "corpus/a.jsonl": ("jsonl", "utf-8", "text (by its name)"),
        "corpus/b.csv": ("csv", "gb18030", "内容 (by its name)"),
        "corpus/c.txt": ("text", "utf-8", None),
    }
    assert any("Bro’ken\n text" in d.text for d in documents)
    assert {d.meta["language"] for d in documents} >= {"zh"}


def test_the_manifest_has_hashes_of_what_went_in_and_came_out(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus")
    prepare([folder], config(), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for each in manifest["inputs"]:
        data = (tmp_path / each["name"]).read_bytes()
        assert (each["bytes"], each["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert [each["documents"] for each in manifest["inputs"]] == [244, 120, 1]
    for name, entry in manifest["files"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        if name.endswith(".jsonl"):
            assert entry["documents"] == data.count(b"\n")
    assert str(tmp_path) not in json.dumps(manifest) + (tmp_path / "out" / "report.json").read_text()


def test_the_result_does_not_depend_on_processes_place_or_file_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(tmp_path / "corpus")
    in_one_batch = contents(prepare([folder], config(), tmp_path / "out0"))
    monkeypatch.setattr("yuyan.text.build.SMALL", 0)
    monkeypatch.setattr("yuyan.text.build.BATCH", 5000)
    results = [contents(prepare([folder], config(processes=n), tmp_path / f"out{n}")) for n in (1, 2, 3)]
    assert in_one_batch == results[0] == results[1] == results[2]
    (tmp_path / "else").mkdir()
    moved = folder.rename(tmp_path / "else" / "corpus")
    os.utime(moved / "a.jsonl", (1, 1))
    assert contents(prepare([moved], config(), tmp_path / "out4")) == results[0]


def test_a_random_split_is_the_same_when_the_files_are_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    for number in range(40):
        (tmp_path / "x" / f"{number:02}.txt").write_text(english(number))
        (tmp_path / "y" / f"{39 - number:02}.txt").write_text(english(number))
    parts = []
    for name in ("x", "y"):
        prepared = prepare([tmp_path / name], config(), tmp_path / f"out-{name}")
        parts.append({split: sorted(d.text for d in prepared.documents(split)) for split in prepared.splits})
    assert parts[0] == parts[1]


def test_texts_of_their_own_for_validation_and_test(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": english(i)}) + "\n" for i in range(50)))
    (tmp_path / "valid.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in (english(900), "...", english(900)))
    )
    (tmp_path / "test.txt").write_text(english(1) + "\r\n" + english(901))
    prepared = prepare(
        [tmp_path / "train.jsonl"],
        config(validation=[str(tmp_path / "valid.jsonl")], test=[str(tmp_path / "test.txt")]), tmp_path / "out",
    )  # fmt: skip
    assert [d.text for d in prepared.documents("validation")] == [english(900), "...", english(900)]
    assert "\n".join(d.text for d in prepared.documents("test")) == english(1) + "\n" + english(901)
    assert len(list(prepared.documents("train"))) == 50
    assert prepared.report.overlap["validation"].touched == 0
    assert prepared.report.overlap["test"].share > 0.4
    assert any("stands in the training text too" in text for text in prepared.report.warnings)


def test_without_a_split_everything_trains(tmp_path: Path) -> None:
    prepared = prepare([corpus(tmp_path / "corpus")], config(split={"kind": "none"}), tmp_path / "out")
    assert prepared.splits == ("train",)
    with pytest.raises(DataError, match="no part 'test'; there is train"):
        prepared.documents("test")


def test_only_parts_that_are_scored_have_rough_scores(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": english(i)[:60]}) + "\n" for i in range(9)))
    warnings = prepare([tmp_path / "a.jsonl"], config(), tmp_path / "out").report.warnings
    assert [text.split()[1] for text in warnings if "rough" in text] == ["validation", "test"]


def test_languages_can_be_chosen(tmp_path: Path) -> None:
    clean = {"language": {"keep": ["zh"], "keep_unknown": False}}
    prepared = prepare([corpus(tmp_path / "corpus")], config(clean=clean), tmp_path / "out")
    assert set(prepared.report.languages) == {"zh"}
    assert {step.name: step for step in prepared.report.steps}["language"].dropped > 100


def test_control_tokens_in_the_text_are_text(tmp_path: Path) -> None:
    texts = [f"<|endoftext|> {english(i)} <s> [MASK] </s> <pad><|im_start|>user" for i in range(10)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prepared = prepare([tmp_path / "a.jsonl"], config(), tmp_path / "out")
    assert sorted(d.text for name in prepared.splits for d in prepared.documents(name)) == sorted(texts)


def test_the_description_has_every_part(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus")
    (folder / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    tables = describe(prepare([folder], config(), tmp_path / "out").report)
    assert [table.title for table in tables] == [
        "found", "not read", "cleaning", "examples of what was dropped or changed", "kept", "languages", "parts",
    ]  # fmt: skip
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    skipped = tables[1].rows
    assert len(skipped) == 1 and skipped[0][0].endswith("p.png") and skipped[0][1] == "not text: it is a PNG image"


# ---------------------------------------------------------------- used again, or not


def test_used_again_only_when_nothing_changed(tmp_path: Path) -> None:
    folder, out = corpus(tmp_path / "corpus", 30), tmp_path / "out"
    first = prepare([folder], config(), out)
    assert not first.reused
    again = prepare([folder], config(processes=1), out)
    assert again.reused
    assert again.report == first.report
    assert not prepare([folder], config(split={"kind": "random", "seed": 1}), out).reused
    assert prepare([folder], config(split={"kind": "random", "seed": 1}), out).reused
    data = (folder / "c.txt").read_text()
    (folder / "c.txt").write_text(data.replace("the", "teh", 1))
    assert not prepare([folder], config(), out).reused
    (folder / "d.txt").write_text(english(1))
    assert not prepare([folder], config(), out).reused
    (folder / "d.txt").rename(folder / "e.txt")
    assert not prepare([folder], config(), out).reused
    assert prepare([folder], config(), out).reused


def test_another_version_or_a_damaged_folder_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = corpus(tmp_path / "corpus", 30), tmp_path / "out"
    good = contents(prepare([folder], config(), out))
    for damage in ("train.jsonl", "report.json", "manifest.json"):
        data = bytearray((out / damage).read_bytes())
        data[len(data) // 2] ^= 1
        (out / damage).write_bytes(data)
        assert not prepare([folder], config(), out).reused
        assert contents(prepare([folder], config(), out)) == good
    monkeypatch.setattr(pipeline_module, "VERSION", 999)
    assert not prepare([folder], config(), out).reused


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", 30)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"mine: holds other files; choose a new or empty folder .* --out"):
        prepare([folder], config(), tmp_path / "mine")
    with pytest.raises(InputError, match="is a file; choose a folder"):
        prepare([folder], config(), tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    prepare([folder], config(), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        prepare([folder], config(split={"kind": "none"}), tmp_path / "out")


def test_open_prepared(tmp_path: Path) -> None:
    prepared = prepare([corpus(tmp_path / "corpus", 30)], config(), tmp_path / "out")
    opened = open_prepared(tmp_path / "out")
    assert opened is not None
    assert opened.report == prepared.report
    assert open_prepared(tmp_path) is None


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["only one document"], r"cannot split: only one document is left.*data\.documents=section.*data\.split\.kind=ordered"),
        (["one", "two"], r"cannot split: only 2 documents are left, and 3 are needed"),
        (["the same"] * 50, r"all 50 documents are the same text.*data\.clean\.exact_duplicates=null"),
        (["...", "——"], r"nothing is left after cleaning: dropped were 2 by quality.*data\.clean\.quality=null"),
        (["", " "], r"a\.jsonl: no training text: every record is empty"),
    ],
)  # fmt: skip
def test_corpora_that_cannot_be_used(tmp_path: Path, rows: list[str], said: str) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    with pytest.raises(DataError, match=said):
        prepare([tmp_path / "a.jsonl"], config(), tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jsonl"]


def test_a_million_times_the_same_letter(tmp_path: Path) -> None:
    for letter in "a^_ \n字":
        (tmp_path / "a.txt").write_text(letter * 1_000_000)
        with pytest.raises(DataError):
            prepare([tmp_path / "a.txt"], config(), tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.txt"]


def test_an_error_in_the_last_line_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": english(i)}) + "\n" for i in range(200)) + '{"text": '
    )
    with pytest.raises(DataError, match=r"a\.jsonl:201: broken JSON"):
        prepare([tmp_path / "a.jsonl"], config(), tmp_path / "new" / "out")
    assert not (tmp_path / "new" / "out").exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = corpus(tmp_path / "corpus", 30), tmp_path / "out"
    good = contents(prepare([folder], config(), out))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yuyan.text.spill.Spill.add", full)
    with pytest.raises(StorageError, match="the disk is full"):
        prepare([folder], config(split={"kind": "none"}), out)
    monkeypatch.undo()
    assert contents(prepare([folder], config(), out)) == good
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["corpus", "out"]


def test_a_cleaning_process_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuyan.text.build.SMALL", 0)
    monkeypatch.setattr("yuyan.text.build.BATCH", 5000)
    monkeypatch.setattr("yuyan.text.parallel.send", lambda pipe, pieces: (pipe.write(b"\xff" * 64), pipe.flush()))
    with pytest.raises(YuyanError, match=r"a cleaning process ended early .* try data\.processes=1"):
        prepare([corpus(tmp_path / "corpus")], config(processes=2), tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["corpus"]


def test_ctrl_c_does_not_reach_the_cleaning_processes() -> None:
    with _Workers(CleanConfig(), seed=0, drop=True, processes=1) as workers:
        assert os.getsid(workers.processes[0].pid) == workers.processes[0].pid


_PREPARE = """
import sys
from pathlib import Path
import yuyan.text.build
from yuyan.text import DataConfig, prepare
yuyan.text.build.SMALL = 0
prepare([Path(sys.argv[1])], DataConfig(processes=2), Path(sys.argv[2]))
"""


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({"text": english(number, 60)}) + "\n")
    (tmp_path / "out").mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", _PREPARE, str(tmp_path / "a.jsonl"), str(tmp_path / "out" / "data")],
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list((tmp_path / "out").glob("data.tmp-*/scratch/train/lines")):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    error = run.communicate(timeout=30)[1].decode()  # comes back when the cleaning processes are gone too
    assert error.count("KeyboardInterrupt") == error.count("Traceback") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_script_without_a_guard_can_use_several_processes(tmp_path: Path) -> None:
    """The caller's main module is not run again in the cleaning processes."""
    folder = corpus(tmp_path / "corpus")
    script = tmp_path / "script.py"
    script.write_text(_PREPARE + "print('done', flush=True)\n")
    run = subprocess.run(
        [sys.executable, str(script), str(folder), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert run.stdout == "done\n"
    assert "Warning" not in run.stderr


def test_clean_config_that_does_nothing() -> None:
    assert all(getattr(CleanConfig.nothing(), name) is None for name in CleanConfig.model_fields)

"""`yuyan data`: tables for people, JSON for programs, and nothing left behind unless asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuyan.commands.data import data_command, data_config
from yuyan.text import DataConfig


def corpus(tmp_path: Path) -> Path:
    rows = [{"text": f"第{i}篇文章，说的是天气和路上的人，{'好' * (i % 7)}。"} for i in range(40)] + [{"text": "..."}]
    (tmp_path / "文章.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "文章.jsonl"


def test_json_on_standard_output_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_command([corpus(tmp_path)], DataConfig(), None, True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["documents_read"] == 41
    assert report["documents_kept"] == 40
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["文章.jsonl"]


def test_tables_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert data_command([corpus(tmp_path)], DataConfig(), tmp_path / "out", False) == 0
    out, err = capfd.readouterr()
    assert out == ""
    for words in ("文章.jsonl", "no words 1", "zh", "validation", "train.jsonl"):
        assert words in err
    assert data_command([corpus(tmp_path)], DataConfig(), tmp_path / "out", False) == 0
    assert "used again" in capfd.readouterr().err


def test_a_key_may_be_written_as_messages_name_it(tmp_path: Path) -> None:
    config = data_config([tmp_path], ["data.encoding=gb18030", "documents=line", "data.clean.quality=null"])
    assert (config.encoding, config.documents, config.sources) == ("gb18030", "line", (tmp_path,))
    assert config.clean is not None and config.clean.quality is None

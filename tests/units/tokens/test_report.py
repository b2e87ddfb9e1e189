"""The report counts what it says it counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuyan.commands.tokenizer import (
    REPORT_FILE,
    tokenizer_and_data,
    tokenizer_report_command,
    tokenizer_train_command,
)
from yuyan.errors import ConfigError, DataError, InputError
from yuyan.text import DataConfig
from yuyan.tokens import train_tokenizer
from yuyan.tokens.report import longest_tokens, report_on
from yuyan.tokens.train import BytePairConfig, CharConfig, TokenizerConfig

TEXTS = [("en", "the cat sat"), ("zh", "床前明月光"), ("en", "on the mat?"), ("zh", "疑是地上霜龘")]


def test_sums_by_language() -> None:
    tokenizer = train_tokenizer([text for _, text in TEXTS[:3]], CharConfig())
    report = report_on(tokenizer, TEXTS)
    assert list(report.languages) == ["zh", "en"]  # 33 bytes and 22
    english, chinese, total = report.languages["en"], report.languages["zh"], report.total
    assert (english.texts, english.characters, english.bytes, english.tokens, english.unknown) == (2, 22, 22, 22, 0)
    assert (chinese.texts, chinese.characters, chinese.bytes, chinese.tokens, chinese.unknown) == (2, 11, 33, 11, 6)
    assert (english.exact, chinese.exact) == (2, 1)
    assert (total.bytes, total.tokens, total.unknown, total.exact) == (55, 33, 6, 3)
    assert english.bytes_per_token == 1 and chinese.bytes_per_token == 3 and chinese.unknown_rate == 6 / 11
    used = len(set("the cat saton the mat?床前明月光")) + 1
    assert report.used == used and report.vocab_size == used + 3
    assert json.loads(json.dumps(report.plain()))["total"]["bytes_per_token"] == 55 / 33


def test_an_empty_report() -> None:
    report = report_on(train_tokenizer(["a"], CharConfig()), [])
    assert report.total.bytes_per_token == 0 and report.languages == {}


def test_longest_tokens_are_texts() -> None:
    tokenizer = train_tokenizer(["internationalisation " * 30], BytePairConfig(vocab_size=300))
    assert longest_tokens(tokenizer, 1) == [" internationalisation"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat, and the dog sat on the log.\n" * 30, encoding="utf-8")
    (tmp_path / "b.txt").write_text("床前明月光，疑是地上霜。举头望明月，低头思故乡。\n" * 30, encoding="utf-8")
    out = tmp_path / "tokenizer"
    tokenizer = tokenizer_train_command([tmp_path / "a.txt", tmp_path / "b.txt"], BytePairConfig(vocab_size=330), out)
    shown = capsys.readouterr().err
    assert "bytes/token" in shown and "330" in shown and "longest tokens" in shown
    stored = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
    assert stored["training"]["vocab_size"] == 330 and stored["config"]["kind"] == "bpe"
    assert set(stored["report"]["languages"]) == {"en", "zh"}
    report = tokenizer_report_command(out, [tmp_path / "a.txt"], as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report.plain()))
    assert report.fingerprint == tokenizer.fingerprint
    with pytest.raises(InputError, match="already there"):
        tokenizer_train_command([tmp_path / "a.txt"], BytePairConfig(), out)
    with pytest.raises(ConfigError):
        tokenizer_train_command([tmp_path / "a.txt"], BytePairConfig(vocab_size=9), tmp_path / "failed")
    assert not (tmp_path / "failed").exists()


def test_the_text_can_be_read_as_its_messages_say(tmp_path: Path) -> None:
    file = tmp_path / "mixed.txt"
    file.write_bytes("天气很好。\n".encode() * 20 + "天气很好。\n".encode("gb18030") * 20)
    with pytest.raises(DataError, match=r"data\.encoding="):
        tokenizer_train_command([file], *_order([file], []))
    settings = ["kind=char", "data.encoding=utf-8", "data.undecodable=replace"]
    assert tokenizer_train_command([file], *_order([file], settings)).kind == "char"


def _order(paths: list[Path], settings: list[str]) -> tuple[TokenizerConfig, Path, DataConfig]:
    config, data = tokenizer_and_data(paths, settings)
    return config, paths[0].parent / "out", data

"""What training promises beyond what every tokenizer does: sizes, reports, errors, determinism across processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from yuyan.config import build, load_config
from yuyan.errors import ConfigError, DataError
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import (
    BytePairConfig,
    CharConfig,
    UnigramConfig,
    WordConfig,
    WordPieceConfig,
    train_with_report,
)

ENGLISH = [f"the cat number {i} sat on the mat and the dog sat on the log" for i in range(40)]
CHINESE = ["床前明月光疑是地上霜举头望明月低头思故乡", "白日依山尽黄河入海流欲穷千里目更上一层楼"] * 20


@pytest.mark.parametrize("size", [1, 2, 255, 258])
def test_bpe_needs_room_for_the_bytes(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"vocab_size: {size} .*256 bytes and 3 control tokens; give at least 259"):
        train_tokenizer(ENGLISH, BytePairConfig(vocab_size=size))


def test_the_least_bpe_is_bytes_alone() -> None:
    tokenizer = train_tokenizer(ENGLISH, BytePairConfig(vocab_size=259))
    assert len(tokenizer) == 259
    assert tokenizer.encode("é") == tokenizer.encode("\u00e9") and len(tokenizer.encode("é")) == 2


@pytest.mark.parametrize("config", [WordPieceConfig(vocab_size=20), UnigramConfig(vocab_size=20)])
def test_a_vocabulary_smaller_than_the_alphabet_names_the_least_size(config: WordPieceConfig | UnigramConfig) -> None:
    with pytest.raises(ConfigError, match="give at least") as caught:
        train_tokenizer(ENGLISH, config)
    least = int(str(caught.value).split("give at least ")[1].split(",")[0])
    assert len(train_tokenizer(ENGLISH, config.model_copy(update={"vocab_size": least}))) == least
    with pytest.raises(ConfigError):
        train_tokenizer(ENGLISH, config.model_copy(update={"vocab_size": least - 1}))


@pytest.mark.parametrize("config", [WordConfig(vocab_size=3), CharConfig(vocab_size=4), UnigramConfig(vocab_size=1)])
def test_control_tokens_need_room(config: WordConfig | CharConfig | UnigramConfig) -> None:
    with pytest.raises(ConfigError, match="no room for 4 control tokens and a token; give at least 5"):
        train_tokenizer(ENGLISH, config)


@pytest.mark.parametrize("config", [
    BytePairConfig(vocab_size=50_000), WordPieceConfig(vocab_size=50_000), UnigramConfig(vocab_size=50_000),
    WordConfig(vocab_size=50_000), CharConfig(vocab_size=50_000),
])  # fmt: skip
def test_a_vocabulary_too_large_for_the_text_stops_and_says_so(
    config: BytePairConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train_with_report(ENGLISH, config)
    assert trained.report.vocab_size == len(trained.tokenizer) < 50_000
    assert trained.report.wanted == 50_000
    assert any(f"only {len(trained.tokenizer):,} tokens; 50,000 were wanted" in note for note in trained.report.notes)
    train_tokenizer(ENGLISH, config)
    assert "50,000 were wanted" in capsys.readouterr().err


@pytest.mark.parametrize("texts", [[], [""], ["  \n", "\t", "\ufeff".strip("\ufeff")]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(texts, BytePairConfig(vocab_size=300))


def test_one_byte_of_text_is_enough_for_bpe() -> None:
    assert len(train_tokenizer(["a"], BytePairConfig(vocab_size=300))) == 259


def test_a_surrogate_names_the_document() -> None:
    with pytest.raises(DataError, match="document 2: a lone surrogate"):
        train_tokenizer(["good", "a\udc80"], BytePairConfig(vocab_size=300))


def test_digits_go_in_groups_of_at_most_two() -> None:
    tokenizer = train_tokenizer(["123456789 " * 50], BytePairConfig(vocab_size=500))
    longest = max(len(text) for text in (tokenizer.decode([i]) for i in tokenizer.encode("123456789")))
    assert longest == 2


def test_no_token_crosses_a_word_or_a_line_of_chinese() -> None:
    tokenizer = train_tokenizer(
        ["the cat" * 20, *CHINESE, "前a" * 99], BytePairConfig(vocab_size=2000, min_frequency=1)
    )
    for text in (tokenizer.decode([i]) for i in range(len(tokenizer))):
        assert " " not in text[1:].rstrip("\n ")
        assert not ("前" in text and "a" in text)
        assert len(text) <= 12 or text.isascii()


def test_frequent_chinese_words_become_tokens() -> None:
    tokenizer = train_tokenizer(CHINESE, BytePairConfig(vocab_size=400))
    assert len(tokenizer.encode("明月")) == 1


def test_rare_characters_beyond_the_coverage_are_unk_and_said() -> None:
    texts = [*ENGLISH * 20, "龘"]
    for config in (UnigramConfig(vocab_size=100, coverage=0.999), WordPieceConfig(vocab_size=100, coverage=0.999)):
        tokenizer, report = train_with_report(texts, config)
        assert tokenizer.unknown(tokenizer.encode("龘")) == 1
        assert any("rare characters" in note for note in report.notes)
        full = train_with_report(texts, config.model_copy(update={"coverage": 1.0}))
        assert full.tokenizer.unknown(full.tokenizer.encode("龘")) == 0 and not any(
            "rare" in note for note in full.report.notes
        )


def test_characters_without_room_are_said() -> None:
    tokenizer, report = train_with_report(["aaaabbbc"], CharConfig(vocab_size=6))
    assert [tokenizer.decode([i]) for i in tokenizer.encode("abc")] == ["a", "b", "<unk>"]
    assert "1 rare characters, 12.500 % of the text" in report.notes[0]


def test_words_are_counted_by_frequency() -> None:
    tokenizer = train_tokenizer(["b b b a a c"], WordConfig(vocab_size=6))
    assert tokenizer.decode(tokenizer.encode("a b c")) == "a b <unk>"


def test_lowercase() -> None:
    tokenizer = train_tokenizer(["The THE the"], WordConfig(vocab_size=100, lowercase=True))
    assert len(set(tokenizer.encode("The tHe THE"))) == 1


def test_words_are_tidied_in_decoding() -> None:
    texts = ["Hello, world! (Yes.) It's 5%. 你好，世界。"]
    tokenizer = train_tokenizer(texts, WordConfig(vocab_size=100))
    assert tokenizer.decode(tokenizer.encode(texts[0])) == "Hello, world! ( Yes.) It's 5%.你好，世界。"


def test_the_sample_is_recorded_and_bounded() -> None:
    report = train_with_report(ENGLISH * 100, BytePairConfig(vocab_size=300, sample_bytes=10_000)).report
    assert report.documents == 4000
    assert report.bytes_seen == sum(map(len, ENGLISH)) * 100
    assert 9_000 < report.bytes_used <= 10_000
    assert report.plain()["seed"] == 0


SCRIPT = """
import sys
from yuyan.tokens.train import *
texts = ["the cat sat on the mat %d, 床前明月光 %d" % (i, i * i) for i in range(300)]
configs = [BytePairConfig(vocab_size=400), UnigramConfig(vocab_size=300), WordPieceConfig(vocab_size=300),
           WordConfig(vocab_size=100), CharConfig()]
for config in configs:
    config = config.model_copy(update={"sample_bytes": 6000})
    print(train_with_report(iter(texts), config).tokenizer.fingerprint)
"""


def test_training_does_not_depend_on_process_folder_hash_seed_or_threads(tmp_path: Path) -> None:
    outputs = set()
    for number, parallel in enumerate(("true", "false", "true")):
        environment = os.environ | {"PYTHONHASHSEED": str(number), "TOKENIZERS_PARALLELISM": parallel}
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1 and len(set(outputs.pop().split())) == 5


def test_a_config_names_its_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab_sise: unknown key; did you mean 'vocab_size'"):
        build(BytePairConfig, {"vocab_sise": 300})
    with pytest.raises(ConfigError, match="sample_bytes"):
        load_config(BytePairConfig, None, ["sample_bytes=3"])

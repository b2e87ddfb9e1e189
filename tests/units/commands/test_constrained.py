"""Schemas, expressions and grammars on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from units.generate.test_grammar import PERSON, SUM, model

from yuyan.cli import app
from yuyan.errors import InputError

pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("model") / "llama"
    model("llama").save(place)
    return str(place)


def written(*words: str) -> str:
    result = CliRunner().invoke(app, ["generate", *words, "--no-echo", "--seed", "3"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.rstrip("\n")


def test_what_the_options_ask_for_is_written(folder: str, tmp_path: Path) -> None:
    schema, grammar = tmp_path / "person.json", tmp_path / "sum.lark"
    schema.write_text(json.dumps(PERSON), encoding="utf-8")
    grammar.write_text(SUM, encoding="utf-8")
    for source in (str(schema), json.dumps(PERSON)):
        assert {"name", "age"} <= set(
            json.loads(written(folder, "the", "--json-schema", source, "--max-tokens", "900"))
        )
    assert written(folder, "the", "--regex", "狐{3}") == "狐狐狐"
    text = written(
        folder, "the", "--grammar", str(grammar), "--max-tokens", "5", "--set", "logit_bias={1: -9}", "--json"
    )
    assert json.loads(text)[0]["valid"] is True


def test_what_an_encoder_reads_is_no_beginning(tmp_path: Path) -> None:
    model("t5").save(tmp_path / "t5")
    for more in ([], ["-n", "2"]):
        words = ["generate", str(tmp_path / "t5"), "the", "--regex", "fox", *more]
        printed = CliRunner().invoke(app, words, catch_exceptions=False).stdout
        assert printed.endswith("the\nfox\n")


def test_a_text_that_ended_too_early_is_an_error(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--json"], ["-n", "2"]):
        with pytest.raises(InputError, match="before it obeyed its constraint; allow more"):
            written(folder, "the", "--regex", "a{9}", "--max-tokens", "2", *more)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json-schema", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--grammar", "nowhere.lark"], "nowhere.lark: cannot be read"),
        (["--regex", "a", "--json-schema", "{}"], "give only one"),
        (["--regex", "a", "--stop", "b"], "stop: "),
        (["--json-schema", '{"not": {}}'], '"not"'),
        (["--json-schema", "true-person.json"], "true-person.json: cannot be read"),
        (["--regex", ""], "regex: it is empty"),
        (["--max-tokens", "3", "--set", "max_tokens=4"], "--set max_tokens: given as an option too"),
    ],
)
def test_mistakes(folder: str, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        written(folder, "the", *words)

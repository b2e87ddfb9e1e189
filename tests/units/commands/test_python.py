"""`yuyan.train` from Python: every way to say a config says the same one, and the result shows itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_runs import CONFIG, STORIES

import yuyan
from yuyan.commands.given import config_of
from yuyan.commands.run import read_run_config
from yuyan.config import dump, read_yaml
from yuyan.console import LINE_SECONDS, line_seconds
from yuyan.errors import ConfigError
from yuyan.models.presets import Gpt


def test_every_way_to_say_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    expected = dump(
        read_run_config(CONFIG, ["train.steps=7", "model.dropout=0.25", "train.optimizer.lr=1e-05", "name=x"])
    )
    nested = {"train": {"steps": 7, "optimizer": {"lr": 1e-5}}, "model.dropout": 0.25}
    plain = read_yaml(CONFIG)[0]
    ways: list[Any] = [
        config_of(CONFIG, ["train.steps=7", "model.dropout=0.25"], {"train__optimizer__lr": 1e-5, "name": "x"}),
        config_of(str(CONFIG), [nested, "name=x"]),
        config_of(plain, [nested], {"name": "x"}),
        config_of(config_of(CONFIG, ["name=y"]), [nested], {"name": "x"}),
    ]
    assert [dump(way) for way in ways] == [expected] * len(ways)
    assert plain == read_yaml(CONFIG)[0], "what was given is left as it was"


def test_objects_and_paths_are_taken_and_choice_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(CONFIG, [], {"model": Gpt(hidden_size=48), "data__sources": [STORIES]})
    assert config.model.hidden_size == 48 and config.data.sources == (STORIES,)  # type: ignore[union-attr]
    about_text = config_of(STORIES, [], {"train__steps": 3})
    assert about_text.model.kind == "auto" and about_text.train.steps == 3 and about_text.train.budget is None
    again = config_of(about_text)
    assert (
        "tokenizer" not in again.model_fields_set and again.train.model_fields_set == about_text.train.model_fields_set
    )


def test_mistakes_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"train\.stpes: unknown key; did you mean 'steps'"):
        config_of(CONFIG, [], {"train__stpes": 3})
    with pytest.raises(ConfigError, match=r"train\.steps: expected what a YAML file can say; got set"):
        config_of(CONFIG, [{"train.steps": {3}}])


def test_train_stays_a_function() -> None:
    """There is a package of that name, which Python puts in its place when it is imported."""
    program = "import yuyan, yuyan.train.state; from yuyan.train import Plan; assert callable(yuyan.train); yuyan.train; assert callable(yuyan.train)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_result_shows_itself(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train__steps": 4, "train__context": 32, "train__batch_tokens": 128, "train__threads": 1}
    result = yuyan.train(CONFIG, {"model.hidden_size": 32}, "evaluate.every=2", out=tmp_path / "run", **keys)
    assert len([r for r in result.log if "validation" in r]) == 2
    text, page = repr(result), result._repr_html_()
    assert f"{result.validation.value:.4f}" in text and "bits/byte" in text and len(text) < 600
    assert f"{result.validation.value:.4f}" in page and page.count("<polyline") == 1 and "<script" not in page
    assert len(result.validation.each) == result.validation.documents  # type: ignore[union-attr]
    listed = yuyan.runs(tmp_path)
    assert listed[0].state == "done" and listed[0].value == pytest.approx(result.validation.value)
    assert listed[0].parameters == result.parameters
    stored = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "yuyan generate" in stored and "tensorboard --logdir" in stored


def test_time_between_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LINE_SECONDS, raising=False)
    assert line_seconds() == 5.0
    monkeypatch.setenv(LINE_SECONDS, "30")
    assert line_seconds() == 30.0
    for wrong in ("soon", "-1", "nan"):
        monkeypatch.setenv(LINE_SECONDS, wrong)
        with pytest.raises(ConfigError, match="YUYAN_LINE_SECONDS: expected a number of seconds"):
            line_seconds()


@pytest.mark.parametrize(
    ("given", "keys", "said"),
    [
        (3, {}, r"^config: expected a YAML file, a text, a mapping or a RunConfig; got int$"),
        (STORIES, {"steps": 10}, r"^steps: unknown key; did you mean train__steps\?$"),
        (STORIES, {"train__stepz": 10}, r"^train\.stepz: unknown key; did you mean 'steps'\?$"),
    ],
)
def test_mistakes_are_said_as_python_has_them(given: Any, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(given, (), keys)

"""Every shipped config builds, its filled form builds itself, and every key says what it means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from yuyan.commands.config import explanations, models_in
from yuyan.commands.pretrained import Pretrained
from yuyan.commands.run import RunConfig, read_run_config
from yuyan.commands.settings import From
from yuyan.config import build, dump, flatten, load_config
from yuyan.objectives.fit import check_network, check_tokenizer
from yuyan.train import Muon

ROOT = Path(__file__).parents[2] / "configs"
FILES = sorted(ROOT.rglob("*.yaml"))
MOST_FILLED, MOST_OF_A_TASK, MOST_OF_MUON = 120, 11, 6  # lines that a user has to look through
MOST_KEYS = 165  # Muon alone has 22, with the AdamW that it holds, and a task 13, half of which are found


def test_there_are_configs_of_every_size() -> None:
    assert {file.parent.name for file in FILES} == {"tiny", "small", "full"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_it_builds_and_its_filled_form_builds_itself(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    elsewhere = "../../runs/" in text  # a model that another command makes first, which the file names
    config = load_config(RunConfig, file).config if elsewhere else read_run_config(file)
    assert build(RunConfig, dump(config)) == config
    assert not elsewhere or "yuyan train configs/tiny/gpt.yaml --out runs/tiny-gpt" in text
    if isinstance(config.model, Pretrained):
        return
    network = config.model.network(getattr(config.tokenizer, "vocab_size", None) or 512)
    assert network.hidden_size > 0
    if config.task is not None:
        return
    check_network(config.objective, network)
    if not isinstance(config.tokenizer, From):
        check_tokenizer(config.objective, config.tokenizer)


def test_every_key_says_what_it_means() -> None:
    silent = [each.key for each in explanations(RunConfig) if not each.meaning]
    assert not silent


def most_keys(model: type[BaseModel]) -> int:
    """How many keys one file can hold: where there is a choice of kinds, the kind with the most."""
    total = 0
    for name, field in model.model_fields.items():
        children = [most_keys(child) for child in models_in(field.annotation) if name != "architecture"]
        total += max(children) if children else name != "kind"
    return total


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_filled_file_does_not_hold_too_many_keys(file: Path) -> None:
    """A network that is spelled out in parts has as many keys as parts; all else is counted."""
    config = load_config(RunConfig, file).config
    counted = sum(not key.startswith("model.architecture.") for key in flatten(dump(config)))
    more = (MOST_OF_A_TASK if config.task is not None else 0) + (
        MOST_OF_MUON if isinstance(config.train.optimizer, Muon) else 0
    )
    assert counted <= MOST_FILLED + more, counted


def test_all_choices_at_once_do_not_hold_too_many_keys() -> None:
    assert 60 < most_keys(RunConfig) <= MOST_KEYS, most_keys(RunConfig)


def test_the_bundled_text_is_what_its_script_makes(capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    runpy.run_path(str(ROOT / "tiny" / "make_stories.py"), run_name="__main__")
    assert capsys.readouterr().out == (ROOT / "tiny" / "stories.txt").read_text(encoding="utf-8")
    runpy.run_path(str(ROOT / "tiny" / "make_records.py"), run_name="__main__")
    assert capsys.readouterr().out == (ROOT / "tiny" / "answers.jsonl").read_text(encoding="utf-8")


def test_what_kinds_say_differently_is_told_apart() -> None:
    found = {(each.key, each.of): each.default for each in explanations(RunConfig)}
    assert found["train.optimizer.lr", "adamw"] != found["train.optimizer.lr", "muon"]
    assert found["objective.temperature", "contrastive"] != found["objective.temperature", "distil"]
    assert found["objective.unit", "masked_token, replaced_token"] == "token"


def test_what_is_explained_can_be_written_into_a_file() -> None:
    """Types, defaults and names as YAML has them: null instead of None, a list instead of a tuple, `from` as its key."""
    found = {each.key: each for each in explanations(RunConfig)}
    assert (found["data.encoding"].default, found["data.skip_bad_records"].default) == ("null", "false")
    assert (found["data.augment"].default, found["adapt.targets"].default) == ("[]", "[attention]")
    assert found["data.augment"].type == "list[token_dropout | delete | swap | replace]"
    assert found["train.average"].type == "ema | polynomial | null"
    assert "model.embedding.from" in found
    python = re.compile(r"\b(None|True|False|tuple)\b")
    assert not [each.key for each in found.values() if any(python.search(text) for text in each[2:])]

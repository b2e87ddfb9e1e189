"""A text and a length are enough: the network and its training are chosen, written down, and found again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy_runs import STORIES, command, refused

from yuyan.commands.recipe import Measured, _size, fill, measure_machine
from yuyan.commands.run import create_run, open_run, read_run_config
from yuyan.commands.train import settle, train_command
from yuyan.config import to_yaml
from yuyan.errors import ConfigError, InputError
from yuyan.models.classic import Lstm
from yuyan.models.presets import Auto, Gpt

SHORT = ("train.steps=4", "train.threads=1", "train.context=16", "train.batch_tokens=64")


def test_a_text_is_enough_and_what_was_chosen_is_written_down(tmp_path: Path) -> None:
    config = read_run_config(STORIES, SHORT)
    assert isinstance(config.model, Auto)
    train_command(config, tmp_path / "run", resume=False)
    stored = open_run(tmp_path / "run")
    assert isinstance(stored.model, Gpt) and stored.train.context == 16  # chosen, and given
    assert stored.train.optimizer != config.train.optimizer and stored.tokenizer != config.tokenizer
    assert (tmp_path / "run" / "report.html").exists()


def test_the_same_words_go_on_with_the_run(tmp_path: Path) -> None:
    config = read_run_config(STORIES, SHORT)
    first = train_command(config, tmp_path / "run", resume=False)
    again = train_command(config, tmp_path / "run", resume=True)
    assert again.validation == first.validation
    with pytest.raises(InputError, match=r"model\.size: 'auto' there, 'tiny' here"):
        train_command(read_run_config(STORIES, (*SHORT, "model.size=tiny")), tmp_path / "run", resume=True)


def test_a_run_that_was_killed_before_the_choice_makes_it_when_it_goes_on(tmp_path: Path) -> None:
    config = read_run_config(STORIES, SHORT)
    expected = train_command(config, tmp_path / "whole", resume=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text(to_yaml(config, only_given=True))
    found = train_command(open_run(tmp_path / "run"), tmp_path / "run", resume=True)
    assert found.validation == expected.validation


def test_the_dial_and_the_family(tmp_path: Path) -> None:
    config = read_run_config(STORIES, ("train.steps=4",))
    _, corpus = settle(config, create_run(config, tmp_path / "run"))
    machine = Measured(1e11)
    shapes, updates = {}, {}
    for budget in ("5s", "30h"):
        filled = fill(read_run_config(STORIES, (f"train.budget={budget}",)), corpus, machine)
        assert isinstance(filled.model, Gpt)
        shapes[budget] = filled.model.hidden_size * filled.model.num_layers
        updates[budget] = filled.train.batch_tokens
    assert shapes["5s"] < shapes["30h"] and updates["5s"] < updates["30h"]
    asked = read_run_config(STORIES, ("train.budget=1m", "train.batch_tokens=320"))
    assert fill(asked, corpus, machine).train.batch_tokens == 320
    medium = fill(read_run_config(STORIES, ("model.size=medium",)), corpus, machine).model
    assert isinstance(medium, Gpt) and (medium.num_layers, medium.hidden_size) == (8, 512)
    assert isinstance(fill(read_run_config(STORIES, ("model.family=lstm",)), corpus, machine).model, Lstm)


def test_a_small_network_is_not_promised_the_speed_of_all_threads() -> None:
    """What a second thread brings: a tenth for 0.8 M weights, most of itself for 30 M."""
    machine = Measured(2e11, alone=1e11, threads=2)
    speeds = [machine.speed(weights) for weights in (1e4, 8e5, 3e6, 3e7)]
    assert speeds == sorted(speeds)
    assert speeds == pytest.approx([1e11, 1.1e11, 1.6e11, 2e11], rel=0.02)
    assert Measured(2e11).speed(1e4) == 2e11
    before = torch.get_num_threads()
    assert measure_machine(threads=1).alone is None
    assert measure_machine(threads=2).threads == 2
    assert torch.get_num_threads() == before


def test_five_tokens_are_read_for_each_weight() -> None:
    """Of all families, whatever the vocabulary; its scores cost a Transformer time, and so leave it a smaller network."""

    def size(kind: str, vocabulary: int) -> tuple[float, float]:
        text = SimpleNamespace(tokens=10**6, vocab_size=vocabulary)
        found = _size(kind, text, 600.0, Measured(5e11), None)  # type: ignore[arg-type]
        assert found.epochs == pytest.approx(found.tokens / 1e6)
        return found.weights, found.tokens / found.weights

    sizes = {(kind, vocabulary): size(kind, vocabulary) for kind in ("gpt", "lstm") for vocabulary in (500, 8000)}
    assert [ratio for _, ratio in sizes.values()] == pytest.approx([5.0] * 4)
    assert sizes["gpt", 8000][0] < 0.9 * sizes["gpt", 500][0]


def test_dropout_begins_at_the_fifth_reading(tmp_path: Path) -> None:
    config = read_run_config(STORIES, ("train.steps=4",))
    _, corpus = settle(config, create_run(config, tmp_path / "run"))

    def dropout(readings: float) -> float:
        steps = round(readings * corpus.train.tokens / 320)
        run = read_run_config(STORIES, (f"train.steps={steps}", "train.batch_tokens=320"))
        model = fill(run, corpus, Measured(1e11)).model
        assert isinstance(model, Gpt)
        return model.dropout

    assert [dropout(readings) for readings in (1, 5, 7, 13, 31)] == pytest.approx([0, 0, 0.04, 0.16, 0.4], abs=0.011)


def test_without_a_text_only_a_named_size_can_be_built() -> None:
    assert Auto(size="tiny").build(100, 0).config.hidden_size == 128
    with pytest.raises(ConfigError, match=r"model\.size"):
        Auto().network(100)


def test_a_text_of_a_few_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows as short as the text; and what so little is measured by says nothing."""
    lines = tmp_path / "lines.txt"
    lines.write_text("one line here\ntwo lines here\nthree\nand another one\n")
    settings = ("train.steps=2", "train.threads=1", "data.documents=line")
    assert command("train", str(lines), *settings, "--out", str(tmp_path / "run")) == 0
    assert "warning: the validation text has only" in capsys.readouterr().err


def test_the_optimizer_that_is_chosen_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        "train",
        str(STORIES),
        "train.optimizer.lr=3e-4",
        said="say which this is for: train.optimizer.kind=muon",
    )


def test_a_run_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("name: x\n")
    assert command("train", str(tmp_path / "run")) == 2
    assert "is a run, not a text; to go on:\n  yuyan train " in capsys.readouterr().err

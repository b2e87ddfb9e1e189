"""A mixture of two models: its probabilities, its weight, and the command that makes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yuyan.cli import app
from yuyan.commands.mixture import mixture_command
from yuyan.errors import InputError
from yuyan.evaluate.likelihood import token_log_probs
from yuyan.evaluate.mixture import best_weight, mixed
from yuyan.models.classic import Nplm
from yuyan.models.ngram import NGram
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig

TEXTS = ["the cat sat on the mat\n", "a dog ran to the cat\n", "on the mat a dog sat\n"] * 4


def log_probs(seed: int, size: int = 400) -> np.ndarray:
    return -np.random.default_rng(seed).gamma(2.0, 2.0, size)


def test_the_formula_written_out() -> None:
    a, b = log_probs(0), log_probs(1)
    np.testing.assert_allclose(np.exp(mixed(a, b, 0.3)), 0.3 * np.exp(a) + 0.7 * np.exp(b))


def test_the_weight_is_the_best_of_all() -> None:
    a, b = log_probs(0), log_probs(1)
    found = best_weight(a, b)
    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmax([mixed(a, b, float(weight)).sum() for weight in grid])]
    assert abs(found - best) < 1e-3
    assert best_weight(a, a - 3) > 0.999 and best_weight(a - 3, a) < 0.001


def test_a_probability_of_zero_in_one_model_does_not_spoil_the_other() -> None:
    a, b = log_probs(0), log_probs(1)
    a[3], b[8] = -np.inf, -np.inf
    weight = best_weight(a, b)
    assert 0 < weight < 1 and np.isfinite(mixed(a, b, weight)).all()


def saved(folder: Path, tokenizer: Tokenizer) -> tuple[Path, Path]:
    """A counted model and a neural one of the same tokens."""
    ids = [np.array(tokenizer.encode(text)) for text in TEXTS]
    special, starts = tokenizer.special, np.cumsum([0, *map(len, ids)])
    counted = NGram.fit(
        np.concatenate(ids), starts, order=3, vocab_size=len(tokenizer), bos=special.bos, eos=special.eos
    )
    LanguageModel(counted, tokenizer, None).save(folder / "counted")
    neural = Nplm(order=3, embedding_size=4, hidden_size=8).build(len(tokenizer), 0)
    LanguageModel(neural, tokenizer, None).save(folder / "neural")
    return folder / "counted", folder / "neural"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_tokenizer(iter(TEXTS), CharConfig(vocab_size=60))
    counted, neural = saved(tmp_path, tokenizer)
    for name, text in (("valid", "the dog sat on a cat\n"), ("test", "a cat ran to the dog\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    test, valid = tmp_path / "test.txt", tmp_path / "valid.txt"
    app(
        ["evaluate", str(neural), str(test), "--mix", str(counted), "--mix-on", str(valid), "--json"],
        standalone_mode=False,
    )
    said = json.loads(capsys.readouterr().out)
    parts = [LanguageModel.load(folder) for folder in (neural, counted)]
    scores = []
    for text in (valid, test):
        ids = [np.array(tokenizer.encode(text.read_text()))]
        special = tokenizer.special
        assert special.bos is not None and special.eos is not None
        scores.append(
            [token_log_probs(m.network, ids, bos=special.bos, eos=special.eos, context=None)[0] for m in parts]
        )
    weight = best_weight(*scores[0])
    assert said["weight"] == pytest.approx(weight)
    assert said["both"]["nats"] == pytest.approx(-mixed(*scores[1], weight).sum())
    with pytest.raises(InputError, match="other text"):
        mixture_command(neural, counted, [test], test, [], as_json=False)


def test_models_of_other_tokens_are_refused(tmp_path: Path) -> None:
    counted, _ = saved(tmp_path, train_tokenizer(iter(TEXTS), CharConfig(vocab_size=60)))
    _, neural = saved(tmp_path / "other", train_tokenizer(iter(["abcxyz"]), CharConfig(vocab_size=60)))
    for name in ("valid", "test"):
        (tmp_path / f"{name}.txt").write_text("the cat\n")
    with pytest.raises(InputError, match="same tokens"):
        mixture_command(counted, neural, [tmp_path / "test.txt"], tmp_path / "valid.txt", [], as_json=False)

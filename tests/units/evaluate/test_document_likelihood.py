"""Every token of a document is scored once, with the past that it should have; the begin mark is given, not predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import CONFIG

from yuyan.commands.corpus import make_corpus
from yuyan.commands.evaluate import evaluate_command
from yuyan.commands.run import read_run_config
from yuyan.evaluate.likelihood import score_documents, summarise
from yuyan.models.classic import Lstm
from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.models.presets import Gpt
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig

BOS, EOS, VOCAB = 0, 1, 20


def documents() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, VOCAB, size) for size in (3, 40, 17, 8, 64)]


def marked(ids: np.ndarray) -> torch.Tensor:
    return torch.tensor([[BOS, *ids.tolist(), EOS]])


def naive(model: NetworkModule, ids: np.ndarray) -> float:
    row = marked(ids)
    with torch.no_grad():
        log_probs = model.score(model.decode(row[:, :-1])).log_softmax(-1).double()
    return float(-log_probs.gather(-1, row[:, 1:, None]).sum())


def naive_windows(model: NetworkModule, ids: np.ndarray, context: int) -> float:
    """Each label by itself: with at most `context` tokens before it, as many as its window gives."""
    row, total, half = marked(ids)[0], 0.0, context // 2
    for label in range(1, len(row)):
        stop = context if label <= context else context + -(-(label - context) // half) * half
        stop = min(stop, len(row) - 1)
        inputs = row[max(0, stop - context) : label][None]
        with torch.no_grad():
            total -= float(model.score(model.decode(inputs))[0, -1].log_softmax(-1).double()[row[label]])
    return total


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_a_document_that_fits_is_scored_at_once(kind: str) -> None:
    preset = Gpt(hidden_size=16, num_layers=2, num_heads=2) if kind == "gpt" else Lstm(hidden_size=16)
    model = preset.build(VOCAB, 0).eval()
    scores = score_documents(model, documents(), [1] * 5, bos=BOS, eos=EOS, context=100 if kind == "gpt" else None)
    np.testing.assert_allclose(scores.nats, [naive(model, ids) for ids in documents()], rtol=1e-5)
    assert scores.tokens.tolist() == [len(ids) + 1 for ids in documents()]


def test_a_long_document_is_scored_in_windows_that_overlap_by_half() -> None:
    model = Gpt(hidden_size=16, num_layers=2, num_heads=2).build(VOCAB, 0).eval()
    scores = score_documents(model, documents(), [1] * 5, bos=BOS, eos=EOS, context=16)
    np.testing.assert_allclose(scores.nats, [naive_windows(model, ids, 16) for ids in documents()], rtol=1e-5)


def test_an_ngram_model_is_scored_without_its_begin_mark() -> None:
    texts = documents()
    starts = np.cumsum([0, *map(len, texts)])
    model = NGram.fit(np.concatenate(texts), starts, order=3, vocab_size=VOCAB, bos=BOS, eos=EOS)
    scores = score_documents(model, texts, [1] * 5, bos=BOS, eos=EOS, context=None)
    for ids, nats in zip(texts, scores.nats, strict=True):
        log_probs = model.score(model.decode(marked(ids)[:, :-1])).double()
        assert nats == pytest.approx(float(-log_probs.gather(-1, marked(ids)[:, 1:, None]).sum()), rel=1e-5)
        assert np.isfinite(nats)


def test_the_order_of_documents_does_not_matter_and_the_network_stays_as_it_was() -> None:
    model = Gpt(hidden_size=16, num_layers=2, num_heads=2, dropout=0.5).build(VOCAB, 0).train()
    once = score_documents(model, documents(), [3] * 5, bos=BOS, eos=EOS, context=16)
    again = score_documents(model, documents()[::-1], [3] * 5, bos=BOS, eos=EOS, context=16)
    np.testing.assert_allclose(once.nats, again.nats[::-1], rtol=1e-6)
    assert model.training
    assert summarise(once).bits_per_byte == pytest.approx(once.nats.sum() / np.log(2) / 15)


@pytest.mark.parametrize("context", [None, 8])
def test_every_token_is_told_once(context: int | None) -> None:
    gpt = Gpt(hidden_size=8, num_layers=1, num_heads=2)
    model = (Lstm(hidden_size=8) if context is None else gpt).build(VOCAB, 0)
    heard: list[int] = []
    texts = documents()
    score_documents(model, texts, [1] * len(texts), bos=BOS, eos=EOS, context=context, told=heard.append)
    assert sum(heard) == sum(len(ids) + 1 for ids in texts)


def test_what_tokens_lose_is_said_beside_the_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_tokenizer(["abc " * 30], CharConfig())
    bos, eos = tokenizer.special.bos, tokenizer.special.eos
    counted = NGram.fit(np.arange(1, 5), np.array([0, 4]), order=2, vocab_size=len(tokenizer), bos=bos, eos=eos)
    LanguageModel(counted, tokenizer, None).save(tmp_path / "model")
    (tmp_path / "known.txt").write_text("cab bac")
    (tmp_path / "unknown.txt").write_text("cab xyz!")
    evaluate_command(tmp_path / "model", [tmp_path / "known.txt"], [], as_json=False)
    said = capsys.readouterr().err
    assert "compare models of other tokenizers by bits per byte" in said and "come back" not in said
    evaluate_command(tmp_path / "model", [tmp_path / "unknown.txt"], [], as_json=False)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 documents do not come back from their tokens as they were (50.0% of the tokens are unknown)" in said
    assert "other tokenizers" not in said


def test_unknown_tokens_of_the_validation_text_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size, many in (("20", True), ("null", False)):
        config = read_run_config(CONFIG, ["tokenizer.kind=char", f"tokenizer.vocab_size={size}"])
        make_corpus(config, tmp_path / size)
        assert ("of the validation tokens are unknown" in capsys.readouterr().err) == many

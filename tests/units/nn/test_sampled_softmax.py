"""Sampled softmax: right on average, equal to its formula, and to the full softmax where every word is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yuyan.config import build
from yuyan.errors import ConfigError
from yuyan.models.classic import Nplm
from yuyan.nn.linear_cross_entropy import IGNORE, naive_linear_cross_entropy
from yuyan.nn.sampled_softmax import Drawn, SampledSoftmax, draw, loss_of_draws, proposal, sampled_cross_entropy
from yuyan.objectives import NextToken

WORDS = 30


def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, WORDS, (9,))
    labels[4] = IGNORE
    return torch.randn(9, 6), torch.randn(WORDS, 6), torch.randn(WORDS), labels


def test_the_formula_written_out() -> None:
    """-s_y + log(exp s_y + sum over draws w != y of times exp(s_w) / (S q(w))) (Bengio & Senecal 2008, section III)."""
    hidden, weight, bias, labels = tensors()
    config = SampledSoftmax(negatives=12)
    drawn = draw(config, WORDS, hidden.device)
    q = [math.log((w + 2) / (w + 1)) / math.log(WORDS + 1) for w in range(WORDS)]
    assert sum(q) == pytest.approx(1)
    times = (drawn.log_weight.double().exp() * 12 * proposal(config, drawn.ids, WORDS)).round().long().tolist()
    assert sum(times) == 12
    scores = (hidden.double() @ weight.double().T + bias.double()).tolist()
    expected = []
    for row, y in zip(scores, labels.tolist(), strict=True):
        others = zip(drawn.ids.tolist(), times, strict=True)
        rest = sum(n * math.exp(row[w]) / (12 * q[w]) for w, n in others if w != y)
        expected.append(0.0 if y == IGNORE else math.log(math.exp(row[y]) + rest) - row[y])
    found = loss_of_draws(hidden, weight, bias, labels, drawn)
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), atol=1e-5, rtol=1e-5)


def test_with_every_word_drawn_once_it_is_the_full_softmax_and_so_is_its_gradient() -> None:
    hidden, weight, bias, labels = tensors()
    every = Drawn(torch.arange(WORDS), torch.zeros(WORDS))
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    sampled = loss_of_draws(hidden, weight, bias, labels, every)
    full = naive_linear_cross_entropy(hidden, weight, bias, labels)
    torch.testing.assert_close(sampled, full)
    for ours, theirs in zip(
        torch.autograd.grad(sampled.sum(), inputs), torch.autograd.grad(full.sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["log_uniform", "uniform"])
def test_the_sum_is_right_on_average(kind: str) -> None:
    config = SampledSoftmax(negatives=8, proposal=kind)  # type: ignore[arg-type]
    torch.manual_seed(1)
    values, total = torch.rand(WORDS), 0.0
    for _ in range(4000):
        drawn = draw(config, WORDS, torch.device("cpu"))
        total += float((values[drawn.ids] * drawn.log_weight.exp()).sum())
    assert total / 4000 == pytest.approx(float(values.sum()), rel=0.02)


def test_an_objective_trains_with_it_and_is_measured_without() -> None:
    model = Nplm(order=3, embedding_size=4, hidden_size=8).build(WORDS, 0)
    ids = torch.randint(0, WORDS, (2, 7))
    batch = {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}
    full, few = NextToken(), build(NextToken, {"softmax": {"kind": "sampled", "negatives": 5}})
    torch.manual_seed(3)
    first, second = few.loss(model, batch).total, few.loss(model, batch).total
    assert not torch.equal(first, second), "other words are drawn each time"
    assert torch.equal(few.marks(model, batch)["loss"].total, full.loss(model, batch).total)
    first.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_ignored_labels_count_nothing() -> None:
    hidden, weight, bias, labels = tensors()
    assert float(sampled_cross_entropy(hidden, weight, bias, labels, SampledSoftmax(negatives=6))[4]) == 0.0


def test_what_the_full_softmax_adds_has_no_place_here() -> None:
    with pytest.raises(ConfigError, match="softmax"):
        build(NextToken, {"softmax": {"kind": "sampled"}, "cross_entropy": {"z_loss": 1e-4}})

"""Losses of whole texts, and of teachers, against their formulas, written out in float64 with loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_objectives import (
    Letters,
    close,
    cycle,
    decoder,
    dice,
    encoder,
    log_probs,
    rows,
    strong,
)

from yuyan.errors import InputError
from yuyan.models.network import NetworkModule
from yuyan.models.pair import Pair, with_reference, with_teacher
from yuyan.nn.head import pool
from yuyan.objectives import (
    Contrastive,
    Ctc,
    Distil,
    Preference,
    PrefixLM,
    ReplacedToken,
    collate,
)
from yuyan.objectives.ctc import CtcObjective, too_long
from yuyan.tokens.special import Special

IGNORE = -100


# ---------------------------------------------------------------- contrastive


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce(symmetric: bool) -> None:
    objective = Contrastive(temperature=0.3, symmetric=symmetric).build(Letters())
    model = strong(encoder())
    items = [
        {"query": [i, i + 1], "positive": [i + 5] * (i + 2), "negatives": [[9 + i + n, 3] for n in range(i)]}
        for i in range(3)
    ]
    special = Letters().special
    batch = collate([objective.example(item, dice()) for item in items])

    def embed(ids: Sequence[int]) -> list[float]:
        hidden = model.encode(torch.tensor([[special.bos, *ids, special.eos]]))[0].mean(0).double().tolist()
        length = math.sqrt(math.fsum(x * x for x in hidden))
        return [x / length for x in hidden]

    def dot(a: Sequence[float], b: Sequence[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    queries = [embed(item["query"]) for item in items]
    positives = [embed(item["positive"]) for item in items]
    negatives = [embed(ids) for item in items for ids in item["negatives"]]
    assert len(negatives) == 3
    wanted = []
    for i, query in enumerate(queries):
        others = math.fsum(math.exp(dot(query, d) / 0.3) for d in positives + negatives)
        forth = -math.log(math.exp(dot(query, positives[i]) / 0.3) / others)
        back = -math.log(
            math.exp(dot(query, positives[i]) / 0.3) / math.fsum(math.exp(dot(q, positives[i]) / 0.3) for q in queries)
        )
        wanted.append((forth + back) / 2 if symmetric else forth)
    loss = objective.loss(model, batch)
    close(loss.total, wanted)
    assert loss.count.tolist() == [1, 1, 1]


@pytest.mark.parametrize("how", ["first", "last", "mean"])
def test_what_stands_for_a_text(how: Any) -> None:
    hidden, mask = torch.arange(24.0).view(2, 4, 3), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    wanted = {"first": hidden[1, 0], "last": hidden[1, 1], "mean": hidden[1, :2].mean(0)}[how]
    assert torch.equal(pool(hidden, mask, how)[1], wanted)


def test_crops_are_parts_of_the_row() -> None:
    objective = Contrastive(crop=(0.2, 0.5)).build(Letters())
    row = np.arange(20)
    for seed in range(50):
        example = objective.example(row, dice(seed))
        for crop in (example["query_input_ids"], example["document_input_ids"][0]):
            inner = crop[1:-1]
            assert 4 <= len(inner) <= 10 and (np.diff(inner) == 1).all()
    for none in ((0.5, 0.1), (0.0, 0.5), (0.5, 5.0)):
        with pytest.raises(ValueError, match="the shortest and the longest share of a row"):
            Contrastive(crop=none)


# ---------------------------------------------------------------- ctc


class Frames(nn.Module):
    """A model whose scores are given."""

    def __init__(self, scores: Tensor):
        super().__init__()
        self.scores = scores

    def encode(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.scores

    def score(self, hidden: Tensor) -> Tensor:
        return hidden


def collapse(path: Sequence[int], blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


@pytest.mark.parametrize("labels", [[], [1], [1, 2], [2, 2], [1, 2, 1], [2, 2, 1]])
@pytest.mark.parametrize("frames", [4, 5])
def test_ctc_is_the_sum_over_all_paths(labels: list[int], frames: int) -> None:
    scores = torch.randn(1, frames, 3, generator=torch.Generator().manual_seed(frames)) * 2
    each = log_probs(scores)[0]
    probability = math.fsum(
        math.exp(math.fsum(each[t][symbol] for t, symbol in enumerate(path)))
        for path in itertools.product(range(3), repeat=frames)
        if collapse(path, 0) == tuple(labels)
    )
    objective = CtcObjective(blank=0)
    batch = collate([objective.example({"inputs": np.arange(frames), "labels": labels}, dice())])
    loss = objective.loss(Frames(scores), batch)
    close(loss.total, [-math.log(probability)])
    assert loss.count.tolist() == [1]


def test_ctc_skips_what_cannot_fit() -> None:
    objective = Ctc().build(Letters())
    labels = ([1, 2, 3], [1, 1], [1, 1], [1], [2, 2, 2])
    frames = (2, 2, 3, 1, 4)
    items = [{"inputs": np.arange(t), "labels": ls} for t, ls in zip(frames, labels, strict=True)]
    batch = collate([objective.example(item, dice()) for item in items])
    assert too_long(batch["labels"], batch["attention_mask"].sum(1)).tolist() == [True, True, False, False, True]
    model = encoder().build()
    loss = objective.loss(model, batch)
    assert loss.count.tolist() == [0, 0, 1, 1, 0]
    assert (loss.total[loss.count == 0] == 0).all() and (loss.total[loss.count == 1] > 0).all()
    loss.total.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_ctc_takes_frames_of_features() -> None:
    objective = Ctc().build(Letters())
    items = [{"inputs": np.ones((t, 3)), "labels": [1]} for t in (4, 2)]
    batch = collate([objective.example(item, dice()) for item in items])
    assert batch["input_features"].shape == (2, 4, 3) and batch["input_features"].dtype == torch.float32
    assert batch["attention_mask"].tolist() == [[True] * 4, [True, True, False, False]]
    with pytest.raises(InputError, match="is the blank"):
        objective.example({"inputs": [1], "labels": [objective.blank]}, dice())


# ---------------------------------------------------------------- distillation


@pytest.mark.parametrize(("temperature", "soft"), [(1.0, 1.0), (2.0, 0.5), (3.0, 0.2), (2.0, 0.0)])
def test_distillation(temperature: float, soft: float) -> None:
    pair = with_teacher(strong(decoder()), strong(decoder(), 1))
    objective = Distil(temperature=temperature, soft_weight=soft, base=PrefixLM()).build(Letters())
    asked = [objective.example(row, dice(i)) for i, row in enumerate(rows())]
    batch = collate(asked)
    student, teacher = (m.score(m.decode(batch["input_ids"])).double() for m in (pair.model, pair.companion))
    hard = log_probs(student)
    log_p, log_q = log_probs(teacher / temperature), log_probs(student / temperature)
    wanted = []
    for b, example in enumerate(asked):
        total = 0.0
        for t, label in enumerate(example["labels"]):
            if label != IGNORE:
                kl = math.fsum(math.exp(p) * (p - q) for p, q in zip(log_p[b][t], log_q[b][t], strict=True))
                total += soft * temperature**2 * kl - (1 - soft) * hard[b][t][label]
        wanted.append(total)
    close(objective.loss(pair, batch).total, wanted)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn() -> None:
    pair = with_reference(strong(decoder()))
    objective = Distil(soft_weight=1.0).build(Letters())
    loss = objective.loss(pair, collate([objective.example(cycle(0, 9), dice())]))
    assert loss.total.item() == pytest.approx(0, abs=1e-5)


# ---------------------------------------------------------------- preference


@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.7, 0.0), (0.3, 0.2)])
def test_direct_preference_optimisation(beta: float, smoothing: float) -> None:
    pair = Pair(strong(decoder()), strong(decoder(), 1), frozen=True)
    objective = Preference(beta=beta, label_smoothing=smoothing).build(Letters())
    items = [
        {"prompt": [1, 2], "chosen": [3, 4, 5], "rejected": [6]},
        {"prompt": [], "chosen": [7], "rejected": [8, 9, 10, 11]},
    ]
    special = Letters().special

    def answer(model: NetworkModule, prompt: list[int], ids: list[int]) -> float:
        text = [special.bos, *prompt, *ids, special.eos]
        each = log_probs(model.score(model.decode(torch.tensor([text[:-1]]))))[0]
        return math.fsum(each[t][text[t + 1]] for t in range(len(prompt), len(text) - 1))

    wanted = []
    for item in items:
        chosen, rejected = (
            answer(pair.model, item["prompt"], item[key]) - answer(pair.companion, item["prompt"], item[key])
            for key in ("chosen", "rejected")
        )
        z = beta * (chosen - rejected)
        wanted.append(-(1 - smoothing) * math.log(1 / (1 + math.exp(-z))) - smoothing * math.log(1 / (1 + math.exp(z))))
    loss = objective.loss(pair, collate([objective.example(item, dice()) for item in items]))
    close(loss.total, wanted)
    assert loss.count.tolist() == [1, 1]


def test_a_preference_starts_at_log_2() -> None:
    objective = Preference().build(Letters())
    item = {"prompt": [1], "chosen": [2, 3], "rejected": [4]}
    loss = objective.loss(with_reference(strong(decoder())), collate([objective.example(item, dice())]))
    assert loss.total.item() == pytest.approx(math.log(2), abs=1e-6)


def test_a_preference_counts_unless_both_answers_are_missing() -> None:
    objective = Preference().build(Letters(Special()))  # without an end mark, an empty answer has no label
    items = [{"prompt": [1, 2], "chosen": [3], "rejected": []}, {"prompt": [1, 2], "chosen": [], "rejected": []}]
    loss = objective.loss(with_reference(strong(decoder())), collate([objective.example(i, dice()) for i in items]))
    assert loss.count.tolist() == [1, 0] and loss.total[0] > 0 and loss.total[1] == 0


@pytest.mark.parametrize("config", [ReplacedToken(), Distil(), Preference()])
def test_two_networks_are_asked_for(config: Any) -> None:
    with pytest.raises(InputError, match="needs two networks"):
        config.build(Letters()).loss(encoder().build(), {"labels": torch.zeros(1, 1, dtype=torch.long)})

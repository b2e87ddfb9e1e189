"""What every objective keeps: pure in its chance, learnable, the same however a batch is cut, honest about its count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from toy_objectives import LETTERS, Letters, both, cycle, decoder, dice, discriminator, encoder

from yuyan.config import build, dump
from yuyan.models.pair import Pair, with_generator, with_reference, with_teacher
from yuyan.objectives import (
    Contrastive,
    Ctc,
    Distil,
    MaskedToken,
    NextToken,
    ObjectiveConfig,
    Preference,
    PrefixLM,
    ReplacedToken,
    SpanCorruption,
    collate,
)
from yuyan.objectives.base import Batch, Example, Objective
from yuyan.train import Learner, MasterWeights

Count = Callable[[Example], int]


def labels_of(example: Example) -> int:
    return int((example["labels"] >= 0).sum())


def one(example: Example) -> int:
    return 1


@dataclass(frozen=True)
class Case:
    """An objective, what it is trained on, and what can be said of it. `edges` are the least items it must bear."""

    config: ObjectiveConfig
    network: Callable[[], nn.Module]
    items: list[Any]
    count: Count = labels_of
    edges: list[Any] = field(default_factory=list)
    random: bool = True
    falls_to: float = 0.6
    """After 40 steps the loss is at most this share of what it was."""


def rows(lengths: Iterable[int] = (15, 11, 15, 8, 13, 15)) -> list[np.ndarray]:
    return [cycle(5 * i, length) for i, length in enumerate(lengths)]


def questions() -> list[dict[str, Any]]:
    """Of two answers, the one that goes on as the prompt does is chosen."""
    return [
        {
            "prompt": cycle(i, 3 + i % 3),
            "chosen": cycle(i + 3 + i % 3, 4 + i % 2),
            "rejected": cycle(i + 7, 3 + i % 4, step=5),
        }
        for i in range(6)
    ]


def searches() -> list[dict[str, Any]]:
    """A document is its query in other words; examples have none to two negatives."""
    return [
        {
            "query": np.full(3 + i % 2, i),
            "positive": np.full(4, i + 6),
            "negatives": [np.full(2 + n, 12 + (i + n) % 6) for n in range(i % 3)],
        }
        for i in range(6)
    ]


def utterances() -> list[dict[str, Any]]:
    """Every sound lasts two or three frames; its letter is the sound's number and 8."""
    return [
        {"inputs": np.repeat((np.arange(4) * 3 + i) % 8, 2 + i % 2), "labels": (np.arange(4) * 3 + i) % 8 + 8}
        for i in range(6)
    ]


ONE, NONE = np.array([3, 4]), np.array([LETTERS, LETTERS + 1, LETTERS])  # a row of one token; of control tokens alone
AWAY = {"prompt": ONE, "chosen": [], "rejected": []}
CASES: dict[str, Case] = {
    "next_token": Case(NextToken(), lambda: decoder().build(), rows((15,) * 6), edges=[ONE], random=False),
    "prefix_lm": Case(
        PrefixLM(), lambda: decoder().build(), rows(), edges=[ONE, np.array([3]), {"prompt": ONE, "answer": []}, NONE]
    ),
    "instructions": Case(
        PrefixLM(), lambda: decoder().build(), [{"prompt": q["prompt"], "answer": q["chosen"]} for q in questions()],
        random=False,
    ),
    "masked_token": Case(MaskedToken(rate=0.2), lambda: encoder().build(), rows(), edges=[ONE, NONE], falls_to=0.7),
    "masked and unmasked": Case(
        MaskedToken(unmasked_weight=0.5, unit="word", rate=0.3), lambda: encoder().build(), rows(), edges=[ONE, NONE],
        count=lambda e: labels_of(e) + int((e["unmasked_labels"] >= 0).sum()),
    ),
    "span_corruption": Case(
        SpanCorruption(rate=0.4, mean_length=2), lambda: both().build(), rows(), edges=[ONE, np.array([3]), NONE]
    ),
    "replaced_token": Case(
        ReplacedToken(), lambda: with_generator(discriminator().build(), 0.5, seed=1), rows(), edges=[ONE, NONE],
        count=lambda e: len(e["input_ids"]), falls_to=0.85,
    ),
    "contrastive": Case(
        Contrastive(temperature=0.1, symmetric=True), lambda: encoder().build(), searches(), count=one, random=False,
        edges=[{"query": [1], "positive": [2]}],
    ),
    "crops": Case(Contrastive(temperature=0.1, pool="last"), lambda: decoder().build(), rows(), count=one, edges=[ONE]),
    "ctc": Case(
        Ctc(), lambda: encoder().build(), utterances(), count=one, random=False,
        edges=[{"inputs": [1], "labels": []}, {"inputs": [1], "labels": [2, 3]}, {"inputs": [1, 2], "labels": [3, 3]}],
    ),
    "distil": Case(
        Distil(soft_weight=0.3), lambda: with_teacher(decoder().build(), taught()), rows((15,) * 6), edges=[ONE],
        random=False,
    ),
    "distil masked": Case(
        Distil(base=MaskedToken(rate=0.3)), lambda: with_teacher(encoder().build(), encoder().build(1)), rows(),
        edges=[ONE, NONE], falls_to=0.7,
    ),
    "preference": Case(
        Preference(beta=0.5, label_smoothing=0.02), lambda: with_reference(decoder().build()), questions(), count=one,
        random=False, edges=[{"prompt": [], "chosen": [3], "rejected": []}, AWAY],
    ),
}  # fmt: skip
MEMBERS = get_args(get_args(ObjectiveConfig)[0])


def taught() -> nn.Module:
    """A network that knows the cycle."""
    model = decoder().build(2)
    train(Learner(model, NextToken()), [NextToken().example(row, dice()) for row in rows((15,) * 6)], steps=30)
    return model


def built(case: Case) -> Objective:
    objective: Objective = case.config.build(Letters())
    return objective


def examples(case: Case, seed: int = 0, items: list[Any] | None = None) -> list[Example]:
    objective = built(case)
    chosen = case.items if items is None else items
    return [objective.example(item, dice(seed * 100 + i)) for i, item in enumerate(chosen)]


def train(learner: Learner, questions: list[Example], steps: int = 40, lr: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=lr)
    batch, losses = collate(questions), []
    learner.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = learner(batch)
        mean = loss.total.sum() / loss.count.sum()
        mean.backward()
        optimizer.step()
        losses.append(float(mean.detach()))
    return losses


def marked(learner: Learner, batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Totals, counts and summed gradients of a batch in pieces."""
    learner.zero_grad(set_to_none=True)
    totals, counts = [], []
    for batch in batches:
        loss = learner(batch)
        loss.total.sum().backward()
        totals.append(loss.total.detach())
        counts.append(loss.count)
    gradients = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    return torch.cat(totals), torch.cat(counts), gradients


INDEPENDENT = [name for name, case in CASES.items() if built(case).independent]
MAY_SCORE_NOTHING = [
    name for name, case in CASES.items() if not isinstance(case.config, ReplacedToken | Contrastive | Ctc)
]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_member_of_the_union_has_a_case() -> None:
    assert {type(case.config) for case in CASES.values()} == set(MEMBERS)
    kinds = [member.model_fields["kind"].default for member in MEMBERS]
    assert len(set(kinds)) == len(kinds)


def test_a_config_survives_its_file(case: Case) -> None:
    assert build(type(case.config), dump(case.config)) == case.config


def test_the_module_says_where_it_comes_from(case: Case) -> None:
    said = __import__(type(case.config).__module__, fromlist=["__doc__"]).__doc__
    assert "\nSource: " in said and "\nRelations: " in said and ("\nB examples" in said or "\nB pairs" in said)


def test_an_example_is_a_function_of_the_item_and_its_chance(case: Case) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    kept = [np.array(item) if isinstance(item, np.ndarray) else None for item in case.items]
    first, again, other = examples(case), examples(case), examples(case, seed=1)
    for a, b in zip(first, again, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
            assert a[key].dtype in (np.int64, np.float32, np.bool_)
    same = all(np.array_equal(a[key], b[key]) for a, b in zip(first, other, strict=True) for key in a)
    assert same != case.random
    for item, copy in zip(case.items, kept, strict=True):
        assert copy is None or np.array_equal(item, copy), "the row was changed in place"
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


def test_the_loss_is_a_function_of_model_and_batch(case: Case) -> None:
    learner, batch, before = Learner(case.network(), built(case)).eval(), collate(examples(case)), torch.get_rng_state()
    first, again = learner(batch), learner(batch)
    assert torch.equal(first.total, again.total) and torch.equal(first.count, again.count)
    assert torch.equal(before, torch.get_rng_state())


def test_the_loss_falls(case: Case) -> None:
    losses = train(Learner(case.network(), built(case)), examples(case))
    assert losses[-1] < case.falls_to * losses[0], (losses[0], losses[-1])


def test_totals_and_counts_are_of_each_example(case: Case) -> None:
    asked = examples(case)
    loss = Learner(case.network(), built(case))(collate(asked))
    assert loss.total.shape == loss.count.shape == (len(asked),)
    assert loss.total.dtype == torch.float32 and loss.count.dtype == torch.int64
    assert loss.count.tolist() == [case.count(example) for example in asked]


CUTS = ([[0, 1, 2, 3, 4, 5]], [[0], [1], [2], [3], [4], [5]], [[0, 1, 2, 3], [4, 5]])


@pytest.mark.parametrize("case", INDEPENDENT, indirect=True)
def test_the_cut_of_a_batch_does_not_matter(case: Case) -> None:
    objective, asked = built(case), examples(case)
    learner = Learner(case.network(), objective)
    (totals, counts, gradients), *others = (
        marked(learner, [collate([asked[i] for i in part]) for part in cut]) for cut in CUTS
    )
    assert gradients
    for other_totals, other_counts, other_gradients in others:
        torch.testing.assert_close(other_totals, totals, rtol=2e-5, atol=2e-5)
        assert torch.equal(other_counts, counts)
        assert other_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("name", [name for name in CASES if name not in INDEPENDENT])
def test_examples_that_are_not_independent(name: str) -> None:
    """The others of the batch are the wrong answers: alone nothing is lost, and their order does not matter."""
    case = CASES[name]
    asked, learner = examples(case), Learner(case.network(), built(case)).eval()
    whole = learner(collate(asked)).total
    halves = torch.cat([learner(collate(asked[:3])).total, learner(collate(asked[3:])).total])
    assert (whole > halves).all()
    torch.testing.assert_close(learner(collate(asked[::-1])).total.flip(0), whole, rtol=1e-4, atol=1e-5)
    if name == "crops":
        assert learner(collate(asked[:1])).total.item() == pytest.approx(0, abs=1e-6)


def test_the_least_that_can_come(case: Case) -> None:
    assert case.edges or type(case.config) is PrefixLM
    learner = Learner(case.network(), built(case))
    for items in ([edge] for edge in case.edges):
        check_finite(learner, examples(case, items=items))
    check_finite(learner, examples(case, items=[*case.items, *case.edges]))


def check_finite(learner: Learner, asked: list[Example]) -> None:
    totals, counts, gradients = marked(learner, [collate(asked)])
    assert torch.isfinite(totals).all()
    assert (totals[counts == 0] == 0).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_half_the_digits_give_nearly_the_same(case: Case) -> None:
    """bfloat16 weights, as training uses them: totals stay float32, and frozen companions have no gradient."""
    learner, batch = Learner(case.network(), built(case)), collate(examples(case))
    exact = learner(batch)
    weights = MasterWeights(learner, torch.bfloat16)
    loss = learner(batch)
    loss.total.sum().backward()
    weights.take_gradients()
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total.sum(), exact.total.sum(), rtol=0.05, atol=0.3)
    assert all(master.grad is not None and torch.isfinite(master.grad).all() for master in weights.masters.values())
    if isinstance(learner.model, Pair) and learner.model.frozen:
        assert not any("companion" in name for name in weights.masters)


@pytest.mark.parametrize("case", MAY_SCORE_NOTHING, indirect=True)
def test_a_batch_in_which_nothing_is_scored_changes_nothing(case: Case) -> None:
    learner, batch = Learner(case.network(), built(case)), collate(examples(case))
    batch |= {key: torch.full_like(value, -100) for key, value in batch.items() if key.endswith("labels")}
    totals, counts, gradients = marked(learner, [batch])
    assert totals.tolist() == counts.tolist() == [0] * len(totals)
    assert all((gradient == 0).all() for gradient in gradients.values())


@pytest.mark.parametrize("case", INDEPENDENT, indirect=True)
def test_padding_alone_changes_nothing(case: Case) -> None:
    """More padding than the batch needs: a longer text stands beside the others and is taken away again."""
    objective, asked = built(case), examples(case)
    learner = Learner(case.network(), objective).eval()
    alone = learner(collate(asked))
    longest = {key: np.concatenate([value] * 3) if value.ndim == 1 else value for key, value in asked[0].items()}
    beside = learner(collate([*asked, longest]))
    torch.testing.assert_close(beside.total[:-1], alone.total, rtol=2e-5, atol=2e-5)
    assert torch.equal(beside.count[:-1], alone.count)

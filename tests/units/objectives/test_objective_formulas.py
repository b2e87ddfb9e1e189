"""Every loss against its formula, written out in float64 with loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_objectives import MASK, SIZE, Letters, cycle, decoder, dice, discriminator, encoder

from yuyan.errors import InputError
from yuyan.models.network import Network, NetworkModule
from yuyan.models.pair import Pair, with_generator, with_reference, with_teacher
from yuyan.nn.head import pool
from yuyan.objectives import (
    Contrastive,
    Ctc,
    Distil,
    MaskedToken,
    NextToken,
    Preference,
    PrefixLM,
    ReplacedToken,
    collate,
    token_loss,
)
from yuyan.objectives.base import sparse_token_loss
from yuyan.objectives.ctc import CtcObjective, too_long
from yuyan.objectives.replaced import draw
from yuyan.tokens.special import Special

IGNORE = -100


def strong(config: Network, seed: int = 0) -> NetworkModule:
    """Weights large enough that nothing is hidden."""
    model = config.build().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def log_softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    log_sum = top + math.log(math.fsum(math.exp(s - top) for s in scores))
    return [s - log_sum for s in scores]


def log_probs(scores: Tensor) -> list[list[list[float]]]:
    """(B, T, V) scores as lists of log-probabilities."""
    return [[log_softmax(token) for token in row] for row in scores.double().tolist()]


def close(found: Tensor, wanted: Sequence[float]) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=2e-5, atol=2e-5)


def rows(lengths: Sequence[int] = (13, 9, 11)) -> list[np.ndarray]:
    return [cycle(3 * i, length, step=i + 1, period=20) for i, length in enumerate(lengths)]


# ---------------------------------------------------------------- cross-entropy


def test_cross_entropy_of_the_next_token() -> None:
    """-log p(w_t | w_1 ... w_{t-1}), summed over t."""
    model, asked = strong(decoder()), [NextToken().example(row, dice()) for row in rows((12, 12, 12))]
    batch = collate(asked)
    each = log_probs(model.score(model.decode(batch["input_ids"])))
    wanted = [-math.fsum(each[b][t][label] for t, label in enumerate(asked[b]["labels"])) for b in range(3)]
    loss = NextToken().loss(model, batch)
    close(loss.total, wanted)
    assert loss.count.tolist() == [11, 11, 11]


@pytest.mark.parametrize("loss", [token_loss, sparse_token_loss])
def test_both_ways_to_score_tokens(loss: Any) -> None:
    """Equal to the formula, also in the gradient, also where the head has more layers than one."""
    model, generator = strong(encoder()), torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 7, 32, generator=generator, requires_grad=True)
    labels = torch.randint(0, SIZE, (3, 7), generator=generator)
    labels[0, 2:] = labels[1] = labels[2, ::2] = IGNORE
    found = loss(model, hidden, labels)
    each = model.score(hidden).double().log_softmax(2)
    wanted = torch.stack([
        -sum((each[b, t, labels[b, t]] for t in range(7) if labels[b, t] >= 0), start=torch.zeros(())) for b in range(3)
    ])  # fmt: skip
    torch.testing.assert_close(found.total.double(), wanted.double(), rtol=1e-5, atol=1e-5)
    assert found.count.tolist() == [2, 0, 3]
    ours, theirs = (torch.autograd.grad(total.sum(), hidden, retain_graph=True)[0] for total in (found.total, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_prefix_is_not_scored() -> None:
    model, objective = strong(decoder()), PrefixLM().build(Letters())
    item = {"prompt": [1, 2, 3], "answer": [4, 5]}
    example = objective.example(item, dice())
    special = Letters().special
    assert example["input_ids"].tolist() == [special.bos, 1, 2, 3, 4, 5]
    assert example["labels"].tolist() == [IGNORE, IGNORE, IGNORE, 4, 5, special.eos]
    batch = collate([example])
    each = log_probs(model.score(model.decode(batch["input_ids"])))[0]
    close(objective.loss(model, batch).total, [-(each[3][4] + each[4][5] + each[5][special.eos])])


def test_prefixes_of_rows_and_of_conversations() -> None:
    objective, row = PrefixLM().build(Letters()), cycle(0, 9)
    counts = [int((objective.example(row, dice(i))["labels"] >= 0).sum()) for i in range(2000)]
    seen = np.bincount(counts, minlength=9)
    assert seen[0] == 0 and len(seen) == 9
    assert chi_square(seen[1:], np.full(8, 250.0)) < 24.3  # 7 degrees of freedom, 1 in 1000
    talk = {"input_ids": [1, 2, 3, 4, 5], "scored": [True, False, True, False, True]}
    assert objective.example(talk, dice())["labels"].tolist() == [IGNORE, 3, IGNORE, 5]
    with pytest.raises(InputError, match="5 input_ids, but 4 entries"):
        objective.example(talk | {"scored": [True] * 4}, dice())


# ---------------------------------------------------------------- masked


def test_masked_language_model_loss() -> None:
    """L = - sum over masked j of log p(w_j | shown)."""
    model, objective = strong(encoder()), MaskedToken(rate=0.3).build(Letters())
    asked = [objective.example(row, dice(i)) for i, row in enumerate(rows())]
    batch = collate(asked)
    each = log_probs(model.score(model.encode(batch["input_ids"], batch["attention_mask"])))
    wanted = []
    for b, row in enumerate(rows()):
        hidden = [j for j in range(len(row) - 1) if asked[b]["labels"][j] != IGNORE]
        assert len(hidden) == max(1, round(0.3 * (len(row) - 1)))
        wanted.append(-math.fsum(each[b][j][row[j]] for j in hidden))
    loss = objective.loss(model, batch)
    close(loss.total, wanted)
    assert loss.count.tolist() == [4, 2, 3]


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_masked_language_model_loss_with_the_unmasked_positions(weight: float) -> None:
    """L = - u * sum over unmasked i of log p(w_i | shown) - sum over masked j of log p(w_j | shown)."""
    model, objective = strong(encoder()), MaskedToken(rate=0.3, unmasked_weight=weight).build(Letters())
    asked = [objective.example(row, dice(i)) for i, row in enumerate(rows())]
    batch = collate(asked)
    each = log_probs(model.score(model.encode(batch["input_ids"], batch["attention_mask"])))
    wanted = []
    for b, row in enumerate(rows()):
        masked = {j for j in range(len(row) - 1) if asked[b]["labels"][j] != IGNORE}
        unmasked = set(range(len(row) - 1)) - masked
        wanted.append(-weight * math.fsum(each[b][i][row[i]] for i in unmasked)
                      - math.fsum(each[b][j][row[j]] for j in masked))  # fmt: skip
    loss = objective.loss(model, batch)
    close(loss.total, wanted)
    assert loss.count.tolist() == [12, 8, 10]


# ---------------------------------------------------------------- replaced tokens


def test_replaced_token_loss() -> None:
    pair = with_generator(discriminator().build(), 0.5)
    pair.model, pair.companion = strong(discriminator()), strong(pair.companion.config, 1)
    objective = ReplacedToken(rate=0.3, discriminator_weight=7.0).build(Letters())
    asked = [objective.example(row, dice(i)) for i, row in enumerate(rows())]
    batch = collate(asked)
    mask = batch["attention_mask"]
    guesses = log_probs(pair.companion.score(pair.companion.encode(batch["input_ids"], mask)))
    shown = batch["input_ids"].clone()
    for b, example in enumerate(asked):
        for t in np.flatnonzero(example["labels"] != IGNORE):
            assert example["input_ids"][t] == MASK
            shown[b, t] = by_hand(guesses[b][t], float(example["draws"][t]))
    verdicts = pair.model.score(pair.model.encode(shown, mask))[..., 0].double().tolist()
    wanted, right = [], 0
    for b, row in enumerate(rows()):
        n, hidden = len(row) - 1, np.flatnonzero(asked[b]["labels"] != IGNORE)
        total = n / len(hidden) * -math.fsum(guesses[b][t][row[t]] for t in hidden)
        for t in range(n):
            sign = -1.0 if int(shown[b, t]) == row[t] else 1.0
            right += int(sign < 0 and t in hidden)
            total += 7.0 * math.log1p(math.exp(-sign * verdicts[b][t]))
        wanted.append(total)
    loss = objective.loss(pair, batch)
    close(loss.total, wanted)
    assert loss.count.tolist() == [12, 8, 10]


def by_hand(log_p: Sequence[float], chance: float) -> int:
    """The first token whose cumulative probability exceeds `chance`."""
    cumulative = 0.0
    for token, value in enumerate(log_p):
        cumulative += math.exp(value)
        if cumulative > chance:
            return token
    return len(log_p) - 1


class Bigger(nn.Module):
    """Scores that are the hidden states themselves."""

    def before_projection(self, hidden: Tensor) -> Tensor:
        return hidden

    def output_projection(self) -> tuple[Tensor, None]:
        return torch.eye(5), None


def test_a_right_guess_is_an_original() -> None:
    """A generator that is always right: nothing is replaced, whatever was hidden."""
    pair = with_generator(discriminator().build(), 0.5)
    objective, row = ReplacedToken(discriminator_weight=1.0).build(Letters()), np.full(13, 4)
    with torch.no_grad():
        pair.companion.head.bias[4] = 1e4
    pair.model = strong(discriminator())
    batch = collate([objective.example(row, dice())])
    verdicts = pair.model.score(pair.model.encode(torch.full((1, 12), 4)))[..., 0].double().tolist()[0]
    close(objective.loss(pair, batch).total, [math.fsum(math.log1p(math.exp(v)) for v in verdicts)])


def test_guesses_are_drawn_from_the_generators_probabilities() -> None:
    probabilities = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    states = torch.tensor(np.log(np.maximum(probabilities, 1e-30)), dtype=torch.float32).expand(4000, 5)
    drawn = draw(Bigger(), states, torch.from_numpy(dice().random(4000, dtype=np.float32)))
    seen = np.bincount(drawn.numpy(), minlength=5)
    assert seen[1] == 0
    real = probabilities > 0
    assert chi_square(seen[real], 4000 * probabilities[real]) < 16.3  # 3 degrees of freedom, 1 in 1000
    edges = draw(Bigger(), states[:2], torch.tensor([0.0, 1 - 2**-24]))
    assert edges.tolist() == [0, 4]
    impossible = torch.tensor([[-200.0, 0.0, 0.0, 0.0, -200.0]])
    assert draw(Bigger(), impossible, torch.tensor([0.0])).tolist() == [1]


def test_no_gradient_of_the_verdicts_reaches_the_generators_own_weights() -> None:
    pair = with_generator(discriminator().build(), 0.5)
    objective = ReplacedToken().build(Letters())
    batch = collate([objective.example(row, dice(i)) for i, row in enumerate(rows())])
    grads = {}
    for weight in (1.0, 50.0):
        pair.zero_grad()
        ReplacedToken(discriminator_weight=weight).build(Letters()).loss(pair, batch).total.sum().backward()
        grads[weight] = [p.grad.clone() for p in pair.companion.encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(*grads.values(), strict=True))


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


def chi_square(seen: np.ndarray, wanted: np.ndarray) -> float:
    return float(((seen - wanted) ** 2 / wanted).sum())

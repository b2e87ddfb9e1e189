"""Losses of single tokens against their formulas, written out in float64 with loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_objectives import (
    MASK,
    SIZE,
    Letters,
    both,
    chi_square,
    close,
    cycle,
    decoder,
    dice,
    discriminator,
    encoder,
    log_probs,
    rows,
    strong,
)

from yuyan.errors import InputError
from yuyan.models.pair import with_generator
from yuyan.nn.linear_cross_entropy import CrossEntropy
from yuyan.objectives import (
    MaskedToken,
    NextToken,
    PrefixLM,
    ReplacedToken,
    SpanCorruption,
    collate,
    token_loss,
)
from yuyan.objectives.base import sparse_token_loss
from yuyan.objectives.replaced import draw

IGNORE = -100


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


@pytest.mark.parametrize("config", [NextToken, PrefixLM, MaskedToken, SpanCorruption], ids=lambda c: c.__name__)
def test_what_a_config_adds_to_the_loss_is_in_the_gradient_alone(config: Any) -> None:
    spread, plain = (
        config(cross_entropy=CrossEntropy(label_smoothing=e, z_loss=e)).build(Letters()) for e in (0.2, 0.0)
    )
    side = {MaskedToken: encoder, SpanCorruption: both}.get(config, decoder)
    model = strong(side())
    batch = collate([plain.example(row, dice()) for row in rows((12, 12))])
    values, gradients = [], []
    for objective in (spread, plain):
        loss = objective.loss(model, batch)
        values.append(loss)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss.total.sum(), model.parameters())]))
    assert torch.equal(values[0].total, values[1].total) and torch.equal(values[0].count, values[1].count)
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) > 0.05


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

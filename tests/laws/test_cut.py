"""How a batch is cut does not matter: micro-batches of an update, requests of a generation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_runs import MODELS, Toy, begin, tensors, toy_corpus

from yuyan.generate import Done, Engine, PlainForward, Request, Sampling, Token
from yuyan.models.ngram import NGram
from yuyan.objectives import Batch
from yuyan.train import Constant, PlainStep, Plan, State, Update

ROWS, LENGTH, CLIP = 8, 20, 0.1


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards")


# ---------------------------------------------------------------- training


def uneven(update: int, vocab_size: int) -> Batch:
    """Eight rows of which 1, 2, 4 ... tokens are scored: a mean of means would be far off."""
    draw = torch.Generator().manual_seed(update)
    ids = torch.randint(0, vocab_size, (ROWS, LENGTH + 1), generator=draw)
    labels = ids[:, 1:].clone()
    for row, scored in enumerate((1, 2, 4, 8, 20, 3, 20, 5)):
        labels[row, scored:] = -100
    return {"input_ids": ids[:, :-1], "labels": labels}


def start(toy: Toy, model: str) -> State:
    """Without dropout, and with weights so large that nothing is hidden."""
    state = begin(toy, model)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in state.weights.masters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    for module in state.learner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return state.learner.eval() and state


def trained(toy: Toy, model: str, micro_rows: int) -> tuple[list[Update], State]:
    state = start(toy, model)
    step, updates = PlainStep(Plan(steps=3), Constant(warmup=0), clip=CLIP), []
    for number in range(3):
        whole = uneven(number, len(toy.tokenizer))
        group = [{k: v[i : i + micro_rows] for k, v in whole.items()} for i in range(0, ROWS, micro_rows)]
        updates.append(step(state, group))
    return updates, state


@pytest.mark.parametrize("model", sorted(MODELS))
def test_micro_batches(toy: Toy, model: str) -> None:
    """1 x 8, 2 x 4 and 8 x 1 rows: the same loss and gradient norm at every step, the same weights after three."""
    whole, state = trained(toy, model, 8)
    assert whole[0].gradient_norm > CLIP, "clipping is at work"
    for micro_rows in (4, 1):
        updates, other = trained(toy, model, micro_rows)
        for a, b in zip(whole, updates, strict=True):
            assert (a.step, a.count, a.tokens) == (b.step, b.count, b.tokens)
            assert b.loss == pytest.approx(a.loss, rel=1e-6)
            assert b.gradient_norm == pytest.approx(a.gradient_norm, rel=1e-6 if a.step == 1 else 1e-4)
        ours, theirs = tensors(state), tensors(other)
        for name, tensor in ours.items():
            if name.startswith("master"):
                torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=2e-5)


def test_the_norm_is_that_of_the_mean_over_all_tokens(toy: Toy) -> None:
    """Adam and clipping forgive a wrong scale of the gradient; the norm in the log does not."""
    updates, _ = trained(toy, "gpt", 2)
    state = start(toy, "gpt")
    loss = state.learner(uneven(0, len(toy.tokenizer)))
    (loss.total.sum() / loss.count.sum()).backward()
    norm = torch.linalg.vector_norm(
        torch.stack([p.grad.norm() for p in state.learner.parameters() if p.grad is not None])
    )
    assert updates[0].gradient_norm == pytest.approx(float(norm), rel=1e-5)
    assert updates[0].loss == pytest.approx(float(loss.total.detach().sum() / loss.count.sum()), rel=1e-6)
    assert updates[0].count == 63


# ---------------------------------------------------------------- generation

PROMPTS = ([1], [2, 3, 4, 5, 6, 7, 8, 9, 1, 2], [5, 6, 2], [7, 7, 7, 7, 8, 1, 3])


def writer(toy: Toy, name: str) -> Any:
    if name == "ngram":
        flat = np.asarray(toy.shards.flat)
        special = toy.tokenizer.special
        return NGram.fit(
            flat, toy.shards.offsets, order=3, vocab_size=len(toy.tokenizer), bos=special.bos, eos=special.eos
        )
    return start(toy, name).learner.model.eval()


def written(
    toy: Toy, model: Any, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]
) -> list[list[int | str]]:
    found: list[list[int | str]] = [[] for _ in prompts]
    engine = Engine(PlainForward(model), toy.tokenizer, ends=frozenset({3}), context=64)
    for prompt, sampling in zip(prompts, samplings, strict=True):
        engine.add(Request(prompt, sampling))
    for event in engine.run():
        assert isinstance(event, Token | Done)
        found[event.request].append(event.id if isinstance(event, Token) else event.reason)
    return found


@pytest.mark.parametrize("model", [*sorted(MODELS), "ngram"])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_batch_of_requests_is_each_request_alone(toy: Toy, model: str, temperature: float) -> None:
    """Prompts of 1 to 10 tokens and answers of 3 to 30, some of which end early."""
    network = writer(toy, model)
    samplings = [
        Sampling(temperature=temperature, seed=seed, max_tokens=tokens, top_k=top_k, top_p=top_p)
        for seed, tokens, top_k, top_p in ((0, 12, None, None), (1, 3, 5, None), (2, 30, None, 0.9), (3, 8, 20, 0.5))
    ]
    together = written(toy, network, PROMPTS, samplings)
    alone = [written(toy, network, [p], [s])[0] for p, s in zip(PROMPTS, samplings, strict=True)]
    assert together == alone
    assert len(together[1]) <= 4
    if temperature:
        assert len({tuple(each) for each in together}) >= 3


def test_each_request_draws_by_its_own_seed(toy: Toy) -> None:
    samplings = [Sampling(temperature=2.0, seed=seed, max_tokens=12) for seed in (1, 2, 1)]
    first, second, again = written(toy, writer(toy, "gpt"), [PROMPTS[2]] * 3, samplings)
    assert first == again
    assert first != second


@pytest.mark.parametrize("model", sorted(MODELS))
def test_padding_is_as_if_it_were_not_there(toy: Toy, model: str, tmp_path: Path) -> None:
    network = writer(toy, model)
    prompt = torch.tensor([PROMPTS[1]])
    padded = torch.cat([torch.full((1, 5), 11), prompt], 1)
    mask = torch.cat([torch.zeros(1, 5, dtype=torch.bool), torch.ones_like(prompt, dtype=torch.bool)], 1)
    with torch.no_grad():
        alone = network.score(network.decode(prompt))
        beside = network.score(network.decode(padded, mask))[:, 5:]
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-5)

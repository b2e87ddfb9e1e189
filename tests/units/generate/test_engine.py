"""The engine: a batch gives what each request gives alone, for every strategy on every kind of model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.sides import VOCABULARY
from units.generate.writers import ENDS, engine_of, model, network, request, run, tokenizer

from yuyan.errors import InputError
from yuyan.generate import Beam, Contrastive, Engine, Event, Greedy, PlainForward, Request, Sampling, Token
from yuyan.generate.guess import LookupGuesser
from yuyan.generate.prefixes import Prefixes
from yuyan.generate.speculation import PromptLookup

MODELS = ["llama", "gpt2", "alibi window", "relative bias", "some windows", "lstm", "ngram", "t5", "transformer", "bahdanau", "luong", "sutskever"]  # fmt: skip
PROMPTS = ([6], [7, 8, 6, 11, 12, 13, 14, 15, 16, 17, 18], [20, 21, 22], [8, 8, 8, 8, 30], [6, 7])
STRATEGIES: dict[str, Any] = {
    "sampling": Sampling(temperature=1.3, top_p=0.95, seed=4, n=3, max_tokens=9, logprobs=2),
    "best": Sampling(temperature=1.3, n=2, best_of=4, seed=1, max_tokens=7),
    "beam": Beam(beams=3, n=2, max_tokens=8),
    "diverse": Beam(beams=4, groups=2, n=3, max_tokens=6),
    "contrastive": Contrastive(top_k=3, max_tokens=8),
    "rules": Greedy(max_tokens=12, repetition_penalty=1.4, no_repeat_ngram=2, bad_words=("c", "bd"), stop=("e",)),
}


def chosen(name: str) -> list[Any]:
    """Other strategies beside each other."""
    return [s for key, s in STRATEGIES.items() if name != "ngram" or key != "contrastive"]


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_is_each_request_alone(name: str) -> None:
    strategies = chosen(name)
    requests = [request(name, PROMPTS[i % 5], s) for i, s in enumerate(strategies * 2)]
    together = run(engine_of(model(name)), requests)
    for one, texts in zip(requests, together, strict=True):
        (alone,) = run(engine_of(model(name)), [one])
        assert [text.ids for text in alone] == [text.ids for text in texts]
        assert [text.text for text in alone] == [text.text for text in texts]
        assert [(text.done.reason, text.done.stop) for text in alone] == [(t.done.reason, t.done.stop) for t in texts]
        assert all(tokenizer().decode(t.ids).startswith(t.text) for t in texts)


def test_requests_come_and_go() -> None:
    """Requests that join a running batch, and one that is dropped, change nothing for the others."""
    settings = Sampling(temperature=1.2, seed=3, max_tokens=14)
    alone = [run(engine_of(model("llama")), [Request(p, settings)])[0][0].ids for p in PROMPTS]
    engine = engine_of(model("llama"))
    written: dict[int, list[int]] = {}
    waiting, dropped = list(PROMPTS), None
    events: list[Event] = []
    while engine.busy or waiting:
        if waiting:
            written[engine.add(Request(waiting.pop(0), settings))] = []
        if len(written) == 3 and dropped is None:
            dropped = engine.add(Request([30, 31], settings))
            events += engine.step()
            engine.cancel(dropped)
        events += engine.step()
    for event in events:
        if isinstance(event, Token) and event.request != dropped:
            written[event.request].append(event.id)
    assert list(written.values()) == alone


@pytest.mark.parametrize("name", ["llama", "t5", "lstm", "ngram"])
def test_sample_i_is_that_of_the_seed_plus_i(name: str) -> None:
    settings = Sampling(temperature=1.5, seed=11, n=4, max_tokens=10)
    (several,) = run(engine_of(model(name)), [request(name, PROMPTS[1], settings)])
    for i, text in enumerate(several):
        one = Sampling(temperature=1.5, seed=11 + i, max_tokens=10)
        assert run(engine_of(model(name)), [request(name, PROMPTS[1], one)])[0][0].ids == text.ids
    assert len({tuple(text.ids) for text in several}) > 1


@pytest.mark.parametrize("name", ["llama", "t5", "lstm", "ngram"])
@torch.no_grad()
def test_log_probabilities_are_the_models(name: str) -> None:
    ids = PROMPTS[1]
    settings = Sampling(temperature=1.7, top_k=9, seed=2, max_tokens=6, logprobs=3, presence_penalty=1.0)
    ((text,),) = run(engine_of(model(name)), [request(name, ids, settings)])
    net = model(name)
    if name == "t5":
        memory = net.encode(torch.tensor([ids]))
        hidden, skip = net.decode(torch.tensor([[1, *text.ids]]), memory=memory), 0
    else:
        hidden, skip = net.decode(torch.tensor([[*ids, *text.ids]])), len(ids) - 1
    logs = net.score(hidden)[0].log_softmax(-1)[skip:]
    for place, token in enumerate(text.tokens):
        assert token.logprob == pytest.approx(float(logs[place, token.id]), abs=1e-4)
        best = logs[place].topk(3)
        assert [i for i, _ in token.top] == best.indices.tolist()
        assert [p for _, p in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_best_of_keeps_the_likeliest() -> None:
    every = Sampling(temperature=1.5, n=6, seed=5, max_tokens=8, logprobs=0)
    best = Sampling(temperature=1.5, n=2, best_of=6, seed=5, max_tokens=8)
    (texts,) = run(engine_of(model("llama")), [Request([6, 7, 8], every)])
    (kept,) = run(engine_of(model("llama")), [Request([6, 7, 8], best)])

    def logs_of(ids: list[int]) -> list[float]:
        with torch.no_grad():
            net = network("llama")
            logs = net.score(net.decode(torch.tensor([[6, 7, 8, *ids]])))[0].log_softmax(-1)
        return [float(logs[2 + place, token]) for place, token in enumerate(ids)]

    def mean(ids: list[int], ended: bool) -> float:
        options = [[*ids, end] for end in ENDS] if ended else [ids]
        return max(sum(logs_of(option)) / len(option) for option in options)

    ranked = sorted(texts, key=lambda t: -mean(t.ids, t.done.reason == "stop"))
    assert [t.ids for t in kept] == [t.ids for t in ranked[:2]]
    assert kept[0].done.score >= kept[1].done.score
    assert not kept[0].tokens[0].top and kept[0].tokens[0].logprob is None


# ---------------------------------------------------------------- the context


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@torch.no_grad()
def test_a_sliding_window_by_the_rule(name: str) -> None:
    """Whatever does not fit is forgotten: three quarters of the context stay, and the begin mark."""
    begin = tokenizer().special.bos
    net, prompt, context = network(name), [begin, *range(10, 36)], 16
    ((text,),) = run(engine_of(net, context=context), [Request(prompt, Greedy(max_tokens=30, overflow="slide", logit_bias={5: -99.0, 9: -99.0}))])  # fmt: skip
    ids, expected = [begin, *prompt[len(prompt) - 11 :]], []
    for _ in range(30):
        scores = net.score(net.decode(torch.tensor([ids])))[0, -1]
        scores[[5, 9]] -= 99
        expected.append(int(scores.argmax()))
        ids.append(expected[-1])
        if len(ids) > context:
            ids = [begin, *ids[len(ids) - 11 :]]
    assert text.ids == expected


def test_sliding_does_not_depend_on_the_batch() -> None:
    settings = [s.model_copy(update={"overflow": "slide", "max_tokens": 40}) for s in STRATEGIES.values()]
    requests = [Request([1, *PROMPTS[i % 5]], s) for i, s in enumerate(settings)]
    together = run(engine_of(model("llama"), context=12), requests)
    for one, texts in zip(requests, together, strict=True):
        (alone,) = run(engine_of(model("llama"), context=12), [one])
        assert [t.ids for t in alone] == [t.ids for t in texts]


def test_what_does_not_fit_is_refused() -> None:
    engine = engine_of(model("llama"), context=10)
    for prompt, settings, said in [
        ([], Greedy(), "the prompt is empty"),
        ([6] * 11, Greedy(), "the prompt has 11 tokens, and the model reads at most 10"),
        ([6] * 4, Greedy(max_tokens=8), r"ask for at most 7 \(--max-tokens 7\), or .*overflow=slide"),
        ([6] * 4, Contrastive(max_tokens=7), "ask for at most 6"),
        ([6], Greedy(logit_bias={VOCABULARY: 1.0}), "logit_bias: 41 is not a token"),
    ]:
        with pytest.raises(InputError, match=said):
            engine.add(Request(prompt, settings))
    assert not engine.busy
    ((text,),) = run(engine, [Request([6] * 10, Greedy(max_tokens=1))])
    assert text.done.reason in ("length", "stop")


def test_rules_that_leave_nothing_end_the_text() -> None:
    everything = tuple(tokenizer().decode([i]) for i in range(VOCABULARY) if tokenizer().decode([i]))
    for settings in (Greedy(bad_words=everything, min_tokens=3), Sampling(bad_words=everything, min_tokens=3), Beam(bad_words=everything, min_tokens=3), Contrastive(bad_words=everything, min_tokens=3)):  # fmt: skip
        ((text,),) = run(engine_of(model("llama")), [Request([6, 7], settings)])
        assert text.done.reason in ("forbidden", "length")
        assert text.text == ""


# ---------------------------------------------------------------- prefixes


def test_kept_prefixes_change_nothing_but_what_is_read() -> None:
    prefixes = Prefixes(60)
    shared = list(range(10, 30))
    prompts = [[*shared, 6], [*shared, 7, 8], shared, [*shared[:12], 30, 31], [6] * 12]
    for settings in (STRATEGIES["sampling"], STRATEGIES["beam"], STRATEGIES["contrastive"]):
        for prompt in prompts:
            plain = run(engine_of(model("gpt2")), [Request(prompt, settings)])
            kept = run(engine_of(model("gpt2"), prefixes=prefixes), [Request(prompt, settings)])
            assert [t.ids for t in kept[0]] == [t.ids for t in plain[0]]
            assert len(prefixes) <= 60
    assert prefixes.reused > 100
    for name in ("lstm", "ngram", "t5"):
        other = Prefixes(60)
        run(engine_of(model(name), prefixes=other), [request(name, shared, Greedy(max_tokens=2))])
        assert len(other) == 0


# ---------------------------------------------------------------- constraints


class EvenThenOdd:
    """Tokens take turns: even, odd, even ..."""

    def __init__(self, turn: int = 0):
        self.turn = turn

    def mask(self) -> torch.Tensor:
        return torch.arange(VOCABULARY) % 2 == self.turn

    def take(self, token: int) -> None:
        assert token % 2 == self.turn
        self.turn = 1 - self.turn

    def copy(self) -> EvenThenOdd:
        return EvenThenOdd(self.turn)

    complete, over = True, False


@pytest.mark.parametrize("strategy", ["sampling", "best", "beam", "diverse", "contrastive", "lookup"])
def test_a_constraint_holds_in_every_strategy(strategy: str) -> None:
    settings = STRATEGIES.get(strategy, Sampling(temperature=1.0, max_tokens=20))
    guesser = LookupGuesser(PromptLookup(ngram=1)) if strategy == "lookup" else None
    wanted = EvenThenOdd()
    one = Request([6, 7, 8, 6, 7, 8], settings, constraint=wanted, guesser=guesser)
    (texts,) = run(engine_of(model("llama")), [one])
    assert any(len(text.ids) > 2 for text in texts)
    assert all(token % 2 == place % 2 for text in texts for place, token in enumerate(text.ids))
    assert wanted.turn == 0, "the caller's own is left as it was"


def test_many_rows_of_a_long_prompt_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [request("t5", [6] * 3, STRATEGIES["beam"]), request("t5", list(range(10, 35)), STRATEGIES["beam"])]
    others = [Request(p, STRATEGIES["rules"]) for p in PROMPTS]
    for name, batch in (("t5", requests), ("llama", others), ("lstm", others), ("ngram", others)):
        whole = run(engine_of(model(name)), batch)
        with monkeypatch.context() as patch:
            patch.setattr("yuyan.generate.forward.AT_ONCE", 2)
            parts = run(engine_of(model(name)), batch)
        assert [[t.ids for t in texts] for texts in parts] == [[t.ids for t in texts] for texts in whole]


def test_no_token_beyond_the_tokenizers_is_chosen() -> None:
    engine = Engine(PlainForward(model("llama")), tokenizer(30), ends=ENDS, context=40)
    (texts,) = run(engine, [Request([6, 7], Sampling(temperature=3.0, n=8, max_tokens=20))])
    assert max(max(text.ids) for text in texts if text.ids) < 30

"""Beam, contrastive and speculative decoding against their definitions written out, on models small enough for it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from contracts.sides import stack, strong
from units.generate.writers import ENDS, engine_of, model, network, request, run, tokenizer

from yuyan.generate import Beam, Contrastive, Engine, Greedy, PlainForward, Request, Sampling
from yuyan.generate.forward import Feed
from yuyan.generate.guess import DraftGuesser, LookupGuesser, what_followed
from yuyan.generate.sampling import distribution, keep_min_p, keep_typical
from yuyan.generate.speculation import PromptLookup
from yuyan.models.network import Network, NetworkModule

SIZE = 8  # tokens; 5 ends a text
END = 5


def tiny(seed: int, scale: float = 1.0) -> NetworkModule:
    made = strong(Network(vocab_size=SIZE, hidden_size=24, decoder=stack(num_layers=1)), seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= scale
    return made


@torch.no_grad()
def logs_after(net: NetworkModule, ids: list[int]) -> torch.Tensor:
    return net.score(net.decode(torch.tensor([ids])))[0, -1].double().log_softmax(-1)


def every_text(net: NetworkModule, prompt: list[int], limit: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every text: those that end, with their end mark, and those of `limit` tokens."""
    found, open_texts = {}, {(): 0.0}
    for _ in range(limit):
        following = {}
        for text, total in open_texts.items():
            logs = logs_after(net, [*prompt, *text])
            for token in range(SIZE):
                target = found if token == END else following
                target[(*text, token)] = total + float(logs[token])
        open_texts = following
    return found | open_texts


# ---------------------------------------------------------------- beam search


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_as_many_beams_as_texts_find_the_best(penalty: float) -> None:
    net, prompt, limit = tiny(1), [6, 7], 3
    texts = every_text(net, prompt, limit)
    best = sorted(texts, key=lambda text: -texts[text] / len(text) ** penalty)[:20]
    settings = Beam(beams=100, n=20, max_tokens=limit, length_penalty=penalty, early_stopping="never")
    (found,) = run(engine_of(net, size=SIZE), [Request(prompt, settings)])
    assert [tuple(text.ids) for text in found] == [tuple(t for t in text if t != END) for text in best]
    scores = [texts[text] / len(text) ** penalty for text in best]
    assert [text.done.score for text in found] == pytest.approx(scores, abs=1e-5)
    assert {text.done.reason for text in found} == {"stop", "length"}


def test_one_beam_is_greedy() -> None:
    for name in ("llama", "t5", "lstm", "ngram"):
        (beam,) = run(engine_of(model(name)), [request(name, [6, 7], Beam(beams=1, max_tokens=15))])
        (greedy,) = run(engine_of(model(name)), [request(name, [6, 7], Greedy(max_tokens=15))])
        assert beam[0].ids == greedy[0].ids


def test_where_the_rules_leave_no_token_beams_keep_what_they_had() -> None:
    """Each token once and no end mark: of 8 tokens, one the end mark and one the prompt, 6 can be written."""
    rules = {"no_repeat_ngram": 1, "min_tokens": 20, "max_tokens": 20, "logprobs": 0}
    asked = [Request([6], Greedy(**rules)), Request([6], Beam(beams=3, **rules))]
    (greedy,), (beam,) = run(engine_of(tiny(0), size=SIZE), asked)
    assert sorted(greedy.ids) == sorted(beam.ids) == [0, 1, 2, 3, 4, 7]
    assert greedy.done.reason == beam.done.reason == "forbidden"
    assert beam.done.score == pytest.approx(sum(token.logprob for token in beam.tokens) / 6, abs=1e-5)


def diverse(
    net: NetworkModule, prompt: list[int], groups: int, each: int, diversity: float, limit: int
) -> list[list[int]]:
    """Algorithm 1 of Vijayakumar et al. 2018, without end marks: the best text of each group."""
    beams = [[((), 0.0)] for _ in range(groups)]
    for _ in range(limit):
        taken: Counter[int] = Counter()
        for group in range(groups):
            options = []
            for text, total in beams[group]:
                logs = logs_after(net, [*prompt, *text])
                options += [((*text, v), total + float(logs[v]), taken[v]) for v in range(SIZE) if v not in (END, 9)]
            options.sort(key=lambda option: -(option[1] - diversity * option[2]))
            beams[group] = [(text, total) for text, total, _ in options[:each]]
            taken.update(text[-1] for text, _ in beams[group])
    return [list(max(beams[group], key=lambda option: option[1])[0]) for group in range(groups)]


@pytest.mark.parametrize("diversity", [0.0, 0.7, 3.0])
def test_diverse_groups_by_the_algorithm(diversity: float) -> None:
    net, prompt = tiny(3), [6, 1, 7]
    settings = Beam(beams=6, groups=3, n=6, max_tokens=5, min_tokens=5, diversity=diversity, length_penalty=0.0)
    (found,) = run(engine_of(net, size=SIZE), [Request(prompt, settings)])
    expected = diverse(net, prompt, 3, 2, diversity, 5)
    texts = [text.ids for text in found]
    assert all(text in texts for text in expected)
    assert len({tuple(text) for text in texts}) == (2 if diversity == 0 else len({tuple(t) for t in texts}))
    assert diversity == 0 or len({tuple(text) for text in expected}) > 1


# ---------------------------------------------------------------- contrastive search


@torch.no_grad()
def contrastive(net: NetworkModule, prompt: list[int], k: int, alpha: float, limit: int) -> list[int]:
    """Equation 5 of Su et al. 2022, everything computed anew at each step."""
    written: list[int] = []
    while len(written) < limit:
        ids = [*prompt, *written]
        probabilities = logs_after(net, ids).exp()
        seen = net.decode(torch.tensor([ids]))[0].double()
        scores = {}
        for token in probabilities.topk(k).indices.tolist():
            new = net.decode(torch.tensor([[*ids, token]]))[0, -1].double()
            unlike = max(float(F.cosine_similarity(new, old, dim=0)) for old in seen)
            scores[token] = (1 - alpha) * float(probabilities[token]) - alpha * unlike
        best = max(scores, key=scores.__getitem__)
        if best in (END, 9):
            break
        written.append(best)
    return written


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (3, 0.2), (6, 1.0), (1, 0.6), (4, 0.0)])
@pytest.mark.parametrize("name", ["llama", "lstm"])
def test_contrastive_search_by_the_formula(name: str, k: int, alpha: float) -> None:
    prompt, net = [6, 7, 8], network(name)
    (found,) = run(engine_of(net), [Request(prompt, Contrastive(top_k=k, alpha=alpha, max_tokens=10))])
    assert found[0].ids == contrastive(net, prompt, k, alpha, 10)
    if k == 1 or alpha == 0:
        assert found[0].ids == run(engine_of(net), [Request(prompt, Greedy(max_tokens=10))])[0][0].ids


# ---------------------------------------------------------------- reshaping


def test_min_p_by_the_definition() -> None:
    scores = torch.tensor([0.5, 0.05, 0.3, 0.15]).log()
    for p, left in ((0.09, [0, 1, 2, 3]), (0.29, [0, 2, 3]), (0.31, [0, 2]), (1.0, [0])):
        assert keep_min_p(scores, p).isfinite().nonzero().flatten().tolist() == left


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9, 1.0])
def test_typical_by_the_definition(p: float) -> None:
    scores = torch.randn(12, generator=torch.Generator().manual_seed(3)).double() * 2
    scores[3] = float("-inf")
    probabilities = scores.softmax(0).tolist()
    entropy = -sum(q * math.log(q) for q in probabilities if q)
    order = sorted((i for i in range(12) if probabilities[i]), key=lambda i: abs(-math.log(probabilities[i]) - entropy))
    kept, mass = set(), 0.0
    for i in order:
        if mass >= p:
            break
        kept.add(i)
        mass += probabilities[i]
    assert set(keep_typical(scores, p).isfinite().nonzero().flatten().tolist()) == kept


# ---------------------------------------------------------------- speculation


def guesser(kind: str) -> LookupGuesser | DraftGuesser:
    if kind == "lookup":
        return LookupGuesser(PromptLookup(tokens=3, ngram=2))
    if kind == "ngram":
        return DraftGuesser(model("ngram"), 3, None, 41)
    return DraftGuesser(network("gpt2") if kind == "other" else network("llama"), 3, 40, 41)


class Counting(PlainForward):
    """Notes how many tokens the first row reads at each step."""

    def __init__(self, net: NetworkModule, fed: list[int]):
        super().__init__(net)
        self.fed = fed

    def feed(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        self.fed.append(len(feeds[0].tokens))
        return super().feed(feeds)


@pytest.mark.parametrize("kind", ["lookup", "other", "itself", "ngram"])
def test_greedy_with_guesses_writes_the_same(kind: str) -> None:
    settings = Greedy(max_tokens=25, min_tokens=18, repetition_penalty=1.1, stop=("zz",))
    for prompt in ([6, 7, 8, 6, 7, 8, 6], [12], [20, 21, 20, 21]):
        plain = run(engine_of(model("llama")), [Request(prompt, settings)])
        fed: list[int] = []
        engine = Engine(Counting(network("llama"), fed), tokenizer(), ends=ENDS, context=40)
        guessed = run(engine, [Request(prompt, settings, guesser=guesser(kind))])
        assert guessed[0][0].ids == plain[0][0].ids
        assert max(fed[1:]) > 1, "several tokens were checked at once"
        if kind == "itself":
            assert len(fed) <= 2 + len(plain[0][0].ids) / 3, "its own guesses hold"


def test_guesses_do_not_move_a_sliding_window() -> None:
    settings = Greedy(max_tokens=36, min_tokens=36, overflow="slide", no_repeat_ngram=3)
    for prompt in ([6, 7, 8, 6, 7, 8, 6], [1, 12], [20, 21, 20, 21]):
        ((plain,),) = run(engine_of(model("llama"), context=12), [Request(prompt, settings)])
        for guesses in (LookupGuesser(PromptLookup(tokens=3, ngram=1)), guesser("itself")):
            fed: list[int] = []
            engine = Engine(Counting(network("llama"), fed), tokenizer(), ends=ENDS, context=12)
            ((guessed,),) = run(engine, [Request(prompt, settings, guesser=guesses)])
            assert guessed.ids == plain.ids
            assert max(fed) <= 12, "no row passes the context"


RESHAPED = {"top_k": 4, "temperature": 1.3}


@pytest.mark.parametrize(
    ("kind", "reshaped"),
    [
        ("lookup", {}),
        ("draft", RESHAPED),
        pytest.param("lookup", RESHAPED, marks=pytest.mark.slow),
        pytest.param("draft", {}, marks=pytest.mark.slow),
    ],
)
def test_the_distribution_of_texts_is_that_of_the_model(kind: str, reshaped: dict[str, float]) -> None:
    """All texts of three tokens, counted over many seeds, against their exact probabilities."""
    net, draft, prompt, limit, count = tiny(1, 0.9), tiny(2, 0.9), [6, 7, 1, 6, 7], 3, 2000
    settings = Sampling(**{"temperature": 1.0, "max_tokens": limit, "n": 100, **reshaped})  # type: ignore[arg-type]
    counts: Counter[tuple[int, ...]] = Counter()
    for start in range(0, count, 100):
        guess = LookupGuesser(PromptLookup(tokens=2, ngram=2)) if kind == "lookup" else DraftGuesser(draft, 2, 40, SIZE)
        engine = engine_of(net, size=SIZE)
        (texts,) = run(engine, [Request(prompt, settings.model_copy(update={"seed": start}), guesser=guess)])
        counts.update((*text.ids, *([END] if text.done.reason == "stop" else [])) for text in texts)
    exact: dict[tuple[int, ...], float] = {}
    for text in itertools.chain(*(itertools.product(range(SIZE), repeat=size) for size in (1, 2, 3))):
        if END in text[:-1] or (len(text) < limit and text[-1] != END):
            continue
        exact[text] = 1.0
        for place, token in enumerate(text):
            if exact[text]:
                exact[text] *= float(distribution(logs(net, (*prompt, *text[:place])), settings)[token])
    assert sum(exact.values()) == pytest.approx(1)
    assert set(counts) <= {text for text, p in exact.items() if p}
    likely = [text for text, p in exact.items() if p * count >= 5]
    rest = sum(p for text, p in exact.items() if text not in likely)
    observed = [counts[text] for text in likely] + [count - sum(counts[text] for text in likely)]
    expected = [exact[text] * count for text in likely] + [max(rest * count, 1e-9)]
    chi_square = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    freedom = len(observed) - 1
    assert freedom > 20
    assert (chi_square - freedom) / math.sqrt(2 * freedom) < 3


MEMORY: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}


def logs(net: NetworkModule, ids: tuple[int, ...]) -> torch.Tensor:
    if (id(net), ids) not in MEMORY:
        MEMORY[id(net), ids] = logs_after(net, list(ids))
    return MEMORY[id(net), ids]


def test_what_followed() -> None:
    assert what_followed([1, 2, 3, 4, 1, 2], 3) == [3, 4, 1, 2]
    assert what_followed([1, 2, 9, 1, 2, 3, 1, 2], 2) == [3, 1, 2]
    assert what_followed([1, 2, 3], 3) == []
    assert what_followed([5, 5], 4) == [5]
    assert what_followed([], 3) == what_followed([1], 3) == []

"""The packed decoder against the plain one: the same hidden states, scores and texts, whatever the rows do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from contracts.sides import DECODERS, VOCABULARY, decoder, strong
from units.generate.writers import ENDS, engine_of, model, request, run, tokenizer

import yuyan
from yuyan.errors import ConfigError, InputError
from yuyan.generate import Beam, Contrastive, Engine, Greedy, PlainForward, Sampling
from yuyan.generate.fast import AT_ONCE, FastForward
from yuyan.generate.forward import Feed, Forward
from yuyan.generate.packed import PackedDecoder, why_not
from yuyan.generate.prefixes import Prefixes
from yuyan.generate.speculation import PromptLookup
from yuyan.generate.weights import Weights, weights_of
from yuyan.models.network import NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Gated, Mlp
from yuyan.tasks.language_model import LanguageModel

FIT = [
    "llama", "grouped", "gpt2", "no position", "linear", "yarn", "llama3", "window",
]  # fmt: skip
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2, "int8": 8e-2}
"""How far scores may be apart, as a share of the largest; the weights are large."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def packed(name: str, weights: str = "float32") -> PackedDecoder:
    return PackedDecoder(copy.deepcopy(model(name)), weights_of(weights))


def fast_engine(name: str, weights: str = "float32", prefixes: Prefixes | None = None) -> Engine:
    return Engine(FastForward(packed(name, weights), prefixes), tokenizer(), ends=ENDS, context=40)


def ids(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()  # type: ignore[no-any-return]


def scores_of(forward: Forward, seed: int = 0) -> torch.Tensor:
    """Scores after rows have come, gone, split, forgotten and changed places."""
    g = torch.Generator().manual_seed(seed)
    steps = [
        [Feed(ids(5, g)), Feed(ids(1, g)), Feed(ids(9, g))],
        [Feed(ids(1, g), 2), Feed(ids(3, g), 0), Feed(ids(2, g), 2, forget=4), Feed(ids(4, g))],
        [Feed(ids(2, g), 3), Feed(ids(1, g), 1), Feed(ids(1, g), 1), Feed(ids(1, g), 0, forget=1)],
        [Feed(ids(13, g), 2), Feed(ids(1, g), 0)],
    ]
    found = []
    with torch.no_grad():
        for feeds in steps:
            states = forward.feed(feeds)
            assert [len(row) for row in states] == [len(feed.tokens) for feed in feeds]
            found.append(forward.score(torch.cat(states)))
    return torch.cat(found)


@pytest.mark.parametrize("name", FIT)
@pytest.mark.parametrize("weights", TOLERANCE)
def test_scores_are_those_of_the_plain_one(name: str, weights: str) -> None:
    plain = scores_of(PlainForward(model(name)))
    fast = scores_of(FastForward(packed(name, weights)))
    assert float((plain - fast).abs().max()) <= TOLERANCE[weights] * float(plain.abs().max())


@pytest.mark.parametrize(
    "network",
    [
        decoder(
            heads=Heads(count=4, head_size=80, key_value_heads=1), ffn=Mlp(intermediate_size=70, activation="gelu")
        ),
        decoder(
            heads=Heads(count=64, head_size=2, key_value_heads=1), ffn=Gated(intermediate_size=5, activation="tanh")
        ),
        decoder(ffn=Mlp(intermediate_size=33, activation="relu2", bias=False)),
        decoder(ffn=Mlp(intermediate_size=33, activation="relu")),
    ],
    ids=["wide heads", "many heads", "relu2", "relu"],
)
def test_odd_sizes(network: Any) -> None:
    plain = strong(network)
    fast = PackedDecoder(copy.deepcopy(plain), weights_of("float32"))
    wanted, found = scores_of(PlainForward(plain)), scores_of(FastForward(fast))
    assert float((wanted - found).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_what_does_not_fit_says_why() -> None:
    for name in DECODERS:
        assert (why_not(strong(DECODERS[name])) is None) == (name in FIT), name
    assert "counts" in str(why_not(model("ngram")))


def test_int4_is_near() -> None:
    """4 bits of large random weights lose much; that they stand in their places shows in the correlation."""
    plain, fast = scores_of(PlainForward(model("gpt2"))), scores_of(FastForward(packed("gpt2", "int4")))
    assert float(torch.corrcoef(torch.stack((plain.flatten(), fast.flatten())))[0, 1]) > 0.97


STRATEGIES: dict[str, Any] = {
    "greedy": Greedy(max_tokens=20),
    "sampling": Sampling(max_tokens=20, n=3, seed=4),
    "beam": Beam(max_tokens=12, beams=4, n=2),
    "contrastive": Contrastive(max_tokens=12),
    "guesses": Greedy(max_tokens=20, speculation=PromptLookup(tokens=4, ngram=2)),
}


@pytest.mark.parametrize("settings", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("name", ["gpt2", "grouped", "window"])
def test_texts_are_those_of_the_plain_one(name: str, settings: Any) -> None:
    """All prompts in one batch, of different lengths."""
    generator = torch.Generator().manual_seed(7)
    requests = [request(name, ids(count, generator), settings) for count in (1, 4, 9, 17)]
    plain, fast = run(engine_of(model(name)), requests), run(fast_engine(name), requests)
    assert [[text.ids for text in texts] for texts in fast] == [[text.ids for text in texts] for texts in plain]
    scores = [
        [text.done.score for texts in side for text in texts if text.done and text.done.score] for side in (plain, fast)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_a_batch_is_its_texts_one_by_one(weights: str) -> None:
    """To the last digit, and so for any rounding of the weights."""
    generator = torch.Generator().manual_seed(8)
    settings = Sampling(max_tokens=20, temperature=1.3)
    requests = [request("grouped", ids(count, generator), settings) for count in (3, 14, 1, 8, 8)]
    forward = FastForward(packed("grouped", weights))
    hidden = forward.feed([Feed(each.prompt) for each in requests])
    for each, states, scores in zip(requests, hidden, forward.score(torch.cat([h[-1:] for h in hidden])), strict=True):
        alone = FastForward(packed("grouped", weights))
        assert torch.equal(alone.feed([Feed(each.prompt)])[0], states)
        assert torch.equal(alone.score(states[-1:])[0], scores)
    together = [texts[0].ids for texts in run(fast_engine("grouped", weights), requests)]
    assert together == [run(fast_engine("grouped", weights), [each])[0][0].ids for each in requests]


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_threads_change_nothing(weights: str) -> None:
    one = scores_of(FastForward(packed("llama", weights)))
    torch.set_num_threads(3)
    assert torch.equal(scores_of(FastForward(packed("llama", weights))), one)


class _LatePool:
    """A pool on a machine so busy that its thread runs only when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Future[None], Callable[[int], None], int]] = []

    def submit(self, work: Callable[[int], None], number: int) -> Future[None]:
        self.jobs.append((Future(), work, number))
        return self.jobs[-1][0]

    def run(self) -> None:
        for future, work, number in self.jobs:
            work(number)
            future.set_result(None)
        self.jobs = []


class _LateForward(FastForward):
    """Its second thread reads a pass when the first has done all of it."""

    comes = True

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.comes:
            cast(_LatePool, self._pool).run()
        return super().score(hidden)


@pytest.mark.parametrize("comes", [True, False])
def test_a_thread_that_comes_late_or_never_changes_nothing(comes: bool) -> None:
    one = scores_of(FastForward(packed("llama", "int8")))
    torch.set_num_threads(2)
    late = _LateForward(packed("llama", "int8"))
    late._pool, late.comes = cast(ThreadPoolExecutor, _LatePool()), comes
    assert torch.equal(scores_of(late), one)
    assert bool(cast(_LatePool, late._pool).jobs)


def test_a_long_text_is_read_in_passes() -> None:
    generator = torch.Generator().manual_seed(9)
    texts = [ids(AT_ONCE + 70, generator), ids(30, generator), ids(2 * AT_ONCE - 3, generator)]
    with torch.no_grad():
        plain = PlainForward(model("window")).feed([Feed(text) for text in texts])
        fast = FastForward(packed("window")).feed([Feed(text) for text in texts])
    for wanted, found in zip(plain, fast, strict=True):
        assert float((wanted - found).abs().max()) <= 2e-5 * float(wanted.abs().max())


def test_kept_beginnings_are_not_read_again() -> None:
    generator = torch.Generator().manual_seed(10)
    beginning = ids(15, generator)
    requests = [request("llama", [*beginning, *ids(4, generator)], Greedy(max_tokens=9)) for _ in range(3)]
    fresh = [run(fast_engine("llama"), [each])[0] for each in requests]
    prefixes = Prefixes(100)
    assert [run(fast_engine("llama", prefixes=prefixes), [each])[0] for each in requests] == fresh
    assert prefixes.reused == 30


def test_a_row_that_goes_on_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = FastForward(packed("llama"))
    forward.feed([Feed([1, 2, 3]), Feed([4, 5]), Feed([6])])
    monkeypatch.setattr(forward.slots, "copy", lambda slot: pytest.fail("copied"))
    forward.feed([Feed([7], 2), Feed([8], 0)])
    assert forward.lengths() == [2, 4]
    forward.feed([Feed([7], 1), Feed([1, 2])])
    assert forward.lengths() == [5, 2] and forward.slots.keys.shape[1] == 3


# ------------------------------------------------------------ as a user meets it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = model("gpt2")
    assert isinstance(network, NetworkModule)
    LanguageModel(network, tokenizer(), 40).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_generates_as_it_is(folder: Path) -> None:
    """No conversion, the same text, one copy of the weights, and no other use of what is left."""
    plain, fast = yuyan.load(folder), yuyan.load(folder, weights="float32")
    settings: Any = {"kind": "greedy", "max_tokens": 20}
    prompts = ["abc", "defgh", "x"]
    assert fast.complete(prompts, **settings) == plain.complete(prompts, **settings)
    assert fast.generate("abc", **settings) == plain.generate("abc", **settings)
    assert isinstance(fast.network, NetworkModule) and isinstance(plain.network, NetworkModule)
    left = sum(p.numel() for p in fast.network.parameters())
    position = plain.network.get_submodule("decoder.position.table").weight
    assert isinstance(position, torch.Tensor) and left == position.numel()
    for use in (
        lambda: fast.logits(torch.ones(1, 3, dtype=torch.long)),
        lambda: fast.embed(["a"]),
        lambda: fast.save("x"),
    ):
        with pytest.raises(InputError, match="laid out for generating only"):
            use()
    with pytest.raises(InputError, match="float32 already"):
        fast.pack("int8")


def test_weights_of_fewer_bits_take_less_memory(folder: Path) -> None:
    sizes = []
    for weights in ("float32", "bfloat16", "int8", "int4"):
        decoder = yuyan.load(folder, weights=weights).packed
        assert decoder is not None
        sizes.append(decoder.read_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == sizes[0] / 2


@pytest.mark.parametrize("weights", ["int9", {"kind": "int8", "group": 48}, {"kind": "float32", "group": 32}, {}])
def test_weights_that_are_none(folder: Path, weights: Any) -> None:
    with pytest.raises(ConfigError, match="weights"):
        yuyan.load(folder, weights=weights)


def test_a_model_that_does_not_fit_warns_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = LanguageModel(strong(DECODERS["alibi"]), tokenizer(), 40)
    before = whole.generate("abc", kind="greedy", max_tokens=5)
    whole.pack("int8")
    assert "its positions" in capsys.readouterr().err
    assert whole.packed is None and whole.generate("abc", kind="greedy", max_tokens=5) == before


def test_a_setting_names_itself() -> None:
    made: Weights = weights_of({"kind": "int4", "group": 128})
    assert made.layers == ("int4", 128) and made.head == ("int8", 128)

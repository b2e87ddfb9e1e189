"""A stream, joined, is the decoded text; and no part of a stop string is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from units.generate.writers import engine_of, model, request, run, tokenizer

from yuyan.generate import Beam, Greedy, Request, Sampling
from yuyan.generate.stops import StopStream, cut_at_stop
from yuyan.tokens import TextStream, Tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig, CharConfig, UnigramConfig, WordPieceConfig

TEXT = "the cat sat on the 猫坐在垫子上 😀👩‍👩‍👧 naïve café 한국어 the end.\n\n从前 有个人 the cat"
PIECES = st.sampled_from(
    ["the ", " cat", "猫", "垫子", "😀", "👩‍👩‍👧", "é", "e\u0301", "\n", "</s>", "한국", ".", " ", "\ufffd", "zq"]
)
TEXTS = st.lists(st.one_of(PIECES, st.characters(blacklist_categories=("Cs",))), max_size=12).map("".join)
STOPS = st.lists(
    st.one_of(PIECES, st.sampled_from(["猫垫", "the cat", "tt", "cat ", "e", "\n\n", "aab", "ab"])), max_size=3
)
CONFIGS = {
    "bytes": BytePairConfig(vocab_size=300), "char": CharConfig(vocab_size=64), "unigram": UnigramConfig(vocab_size=80),
    "wordpiece": WordPieceConfig(vocab_size=120),
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer([TEXT] * 20, CONFIGS[request.param])


def naive(text: str, stops: list[str]) -> str:
    """Character by character: the text so far, until a stop string is complete."""
    for end in range(len(text) + 1):
        here = [stop for stop in stops if text[:end].endswith(stop)]
        if here:
            return text[: end - max(map(len, here))]
    return text


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, stops=STOPS)
def test_of_a_text(any_tokenizer: Tokenizer, text: str, stops: list[str]) -> None:
    check(any_tokenizer, any_tokenizer.encode(text), stops)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), stops=STOPS)
def test_of_any_tokens(any_tokenizer: Tokenizer, data: st.DataObject, stops: list[str]) -> None:
    """Also those that are halves of characters, or control tokens."""
    ids = data.draw(st.lists(st.integers(0, len(any_tokenizer) - 1), max_size=20))
    check(any_tokenizer, ids, stops)


def check(tokens: Tokenizer, ids: list[int], stops: list[str]) -> None:
    whole, plain = tokens.decode(ids), TextStream(tokens)
    stream, shown, certain = StopStream(tokens, (), stops), "", ""
    for token in ids:
        shown, certain = shown + stream.put(token), certain + plain.put(token)
        if stream.stopped is not None:
            break
        begun = [size for stop in stops for size in range(1, len(stop)) if certain.endswith(stop[:size])]
        assert shown == certain[: len(certain) - max(begun, default=0)], "only what may begin a stop string waits"
    shown += stream.finish()
    assert shown == naive(whole, stops) == cut_at_stop(whole, stops)
    assert (stream.stopped is not None) == any(stop in whole for stop in stops)


def test_the_engine_stops_there() -> None:
    plain = run(engine_of(model("llama")), [Request([6, 7, 8], Greedy(max_tokens=20))])[0][0]
    assert len(plain.text) > 9
    for size in (1, 2, 3):
        stop = plain.text[5 : 5 + size]
        expected = naive(plain.text, [stop])
        for settings_ in (
            Greedy(max_tokens=20, stop=(stop, "never to come")),
            Sampling(temperature=0, max_tokens=20, stop=stop),
        ):
            ((text,),) = run(engine_of(model("llama")), [Request([6, 7, 8], settings_)])
            assert (text.text, text.done.stop, text.done.reason) == (expected, stop, "stop")
            assert plain.ids[: len(text.ids)] == text.ids, "and computes no further"
            assert tokenizer().decode(text.ids) == expected + stop


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_beams_end_at_stop_strings(name: str) -> None:
    free = Beam(beams=4, n=4, max_tokens=10)
    (texts,) = run(engine_of(model(name)), [request(name, [6, 7], free)])
    ended = 0
    for stop in (texts[0].text[:1], texts[0].text[1:2], texts[0].text[2:4]):
        (cut,) = run(engine_of(model(name)), [request(name, [6, 7], free.model_copy(update={"stop": (stop,)}))])
        for text in cut:
            ended += text.done.stop == stop
            assert stop not in text.text
            assert text.text == cut_at_stop(tokenizer().decode(text.ids), [stop])
    assert ended

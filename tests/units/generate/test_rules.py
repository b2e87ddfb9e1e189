"""The rules against their formulas written out, and what they promise of a text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from units.generate.writers import engine_of, model, run, tokenizer

from yuyan.generate import Beam, Contrastive, Greedy, Request, Sampling
from yuyan.generate.rules import BadWords, biased, penalise_presence, penalise_repetition, repeated_ngrams
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig

SCORES = torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0])


def test_penalties_by_the_formula() -> None:
    assert penalise_repetition(SCORES, [0, 1, 1, 3], 2.0).tolist() == [1.0, -2.0, 0.5, 0.0, 3.0]
    assert penalise_presence(SCORES, [0, 4, 4], 0.5, 0.25).tolist() == [1.25, -1.0, 0.5, 0.0, 2.0]
    assert biased(SCORES, {1: 4.0, 2: -1.0}).tolist() == [2.0, 3.0, -0.5, 0.0, 3.0]
    assert SCORES.tolist() == [2.0, -1.0, 0.5, 0.0, 3.0], "the scores of the model are left as they are"


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 4))
def test_repeated_ngrams_by_the_definition(ids: list[int], size: int) -> None:
    grams = {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)}
    expected = {
        token for token in range(4) if len(ids) >= size - 1 and (*ids[len(ids) - size + 1 :], token)[-size:] in grams
    }
    assert set(repeated_ngrams(ids, size)) == (expected if len(ids) >= size else set())


@pytest.mark.parametrize("settings", [Greedy(no_repeat_ngram=3, max_tokens=30), Beam(no_repeat_ngram=3, max_tokens=20), Contrastive(no_repeat_ngram=3, max_tokens=20, alpha=0.0)])  # fmt: skip
def test_no_ngram_comes_twice(settings: Greedy | Beam | Contrastive) -> None:
    prompt = [6, 7, 8, 9, 6, 7]
    ((text,),) = run(engine_of(model("gpt2")), [Request(prompt, settings)])
    ids = [*prompt, *text.ids]
    grams = [tuple(ids[i : i + 3]) for i in range(len(ids) - 2)]
    assert len(grams) == len(set(grams)) > 8


def test_the_shortest_length() -> None:
    for settings in (Greedy(max_tokens=20, min_tokens=12), Beam(max_tokens=20, min_tokens=12, n=3)):
        short = settings.model_copy(update={"min_tokens": 0})
        before = run(engine_of(model("llama")), [Request([p], short) for p in range(6, 14)])
        after = run(engine_of(model("llama")), [Request([p], settings) for p in range(6, 14)])
        assert any(len(text.ids) < 12 for texts in before for text in texts)
        assert all(len(text.ids) >= 12 for texts in after for text in texts)


def test_a_presence_penalty_and_a_bias_are_felt() -> None:
    def once(**settings: object) -> list[int]:
        return run(engine_of(model("gpt2")), [Request([6, 7], Greedy(max_tokens=20, **settings))])[0][0].ids

    assert len(set(once(presence_penalty=1000.0))) == len(once(presence_penalty=1000.0)) > 8
    assert max(map(once(frequency_penalty=0.5).count, once(frequency_penalty=0.5))) < max(map(once().count, once()))
    assert set(once(logit_bias={12: 1000.0})) == {12}
    assert 12 not in once(logit_bias={12: -1e9})


# ---------------------------------------------------------------- bad words


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    """Tokens of parts of characters, of characters and of words."""
    text = "the bad cat sat; bad cats, badly 坏人坏事不好 好的 the the bad 坏人 😀😀 the cat 好"
    return train_tokenizer([text] * 30, BytePairConfig(vocab_size=330))


WORDS = ("bad", "坏人", "t", "好", "😀", " c", "adl")


@hypothesis_settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_text_that_obeys_never_has_a_bad_word(data: st.DataObject, byte_pairs: Tokenizer) -> None:
    """Tokens are drawn at random, preferring those that a word could come of; what is banned is left out."""
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
    rule, written = BadWords(words, byte_pairs.pieces), []
    likely = sorted({token for word in words for text in (word, " " + word) for token in byte_pairs.encode(text)})
    likely += [byte_pairs.encode(word)[0] for word in words]
    every = st.one_of(st.sampled_from(likely), st.integers(0, len(byte_pairs) - 1))
    for _ in range(data.draw(st.integers(1, 25))):
        token = data.draw(every)
        banned = set(rule.banned(written, first=True))
        bytes_after = byte_pairs.pieces.join([*written, token])
        assert (token in banned) == any(word.encode() in bytes_after for word in words)
        if token not in banned:
            written.append(token)
    assert not any(word in byte_pairs.decode(written) for word in words)


def test_bad_words_in_every_strategy() -> None:
    words = ("c", "dd", "gh", "ij")
    for settings in (
        Greedy(bad_words=words, max_tokens=20), Sampling(bad_words=words, max_tokens=30, temperature=2.0, n=6),
        Beam(bad_words=words, max_tokens=15, n=4), Contrastive(bad_words=words, max_tokens=20),
    ):  # fmt: skip
        (texts,) = run(engine_of(model("llama")), [Request([6, 7], settings)])
        (free,) = run(engine_of(model("llama")), [Request([6, 7], settings.model_copy(update={"bad_words": ()}))])
        assert not any(word in tokenizer().decode(text.ids) for text in texts for word in words)
        if isinstance(settings, Sampling):
            assert any(word in tokenizer().decode(text.ids) for text in free for word in words)

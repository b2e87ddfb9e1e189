"""The questions themselves: what is hidden and how often, which words, that nothing is lost, how they are padded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_objectives import BOS, EOS, LETTERS, MASK, PAD, SENTINELS, Letters, chi_square, dice

from yuyan.errors import ConfigError, DataError, InputError
from yuyan.objectives import Contrastive, Ctc, MaskedToken, Preference, PrefixLM, SpanCorruption, collate
from yuyan.objectives.span import SpanCorruptionObjective, random_parts
from yuyan.objectives.words import Segment, WordFinder, chinese_words, words_by_space
from yuyan.tokens import Tokenizer
from yuyan.tokens.special import Special
from yuyan.tokens.train import BytePairConfig, CharConfig, UnigramConfig, WordPieceConfig, train_tokenizer

IGNORE = -100


# ---------------------------------------------------------------- masking


def test_masking_hides_as_often_as_published() -> None:
    """15 % of the tokens, each as likely; of those 80 % a mask, 10 % any token, 10 % the token itself."""
    objective = MaskedToken().build(Letters())
    row = np.concatenate([[BOS], np.full(20, 5), [EOS, 0]])  # one letter, so that a random one can be told apart
    masked = other = kept = 0
    where, drawn = np.zeros(22, int), np.zeros(LETTERS, int)
    for seed in range(4000):
        example = objective.example(row, dice(seed))
        shown, labels = example["input_ids"], example["labels"]
        places = np.flatnonzero(labels != IGNORE)
        assert len(places) == 3 and (labels[places] == 5).all()
        assert np.array_equal(np.delete(shown, places), np.delete(row[:-1], places))
        where[places] += 1
        masked += int((shown[places] == MASK).sum())
        kept += int((shown[places] == 5).sum())
        random = shown[places][(shown[places] != MASK) & (shown[places] != 5)]
        other += len(random)
        drawn += np.bincount(random, minlength=LETTERS)  # control tokens are none of these
    assert where[0] == where[21] == 0, "control tokens are not hidden"
    assert chi_square(where[1:21], [600.0] * 20) < 43.8  # 19 degrees of freedom, 1 in 1000
    by_chance = 1200 / LETTERS  # of the random tokens, so many are the token itself
    assert chi_square([masked, other, kept], [9600, 1200 - by_chance, 1200 + by_chance]) < 13.8  # 2 degrees
    rest = np.delete(drawn, 5)
    assert chi_square(rest, [rest.sum() / (LETTERS - 1)] * (LETTERS - 1)) < 48.3  # 22 degrees


def test_all_shares_can_be_chosen() -> None:
    row = np.arange(21) % LETTERS
    all_masked = MaskedToken(mask_share=1.0, random_share=0.0, rate=0.5).build(Letters()).example(row, dice())
    assert (all_masked["input_ids"] == MASK).sum() == 10
    kept = MaskedToken(mask_share=0.0, random_share=0.0).build(Letters()).example(row, dice())
    assert np.array_equal(kept["input_ids"], row[:-1]) and (kept["labels"] != IGNORE).sum() == 3
    with pytest.raises(ValueError, match="more than 1 together"):
        MaskedToken(mask_share=0.9, random_share=0.2)


def test_the_tokens_left_alone() -> None:
    row = np.concatenate([[BOS], np.arange(10), [EOS, 0]])
    example = MaskedToken(unmasked_weight=1.0).build(Letters()).example(row, dice())
    scored = np.where(example["labels"] != IGNORE, example["labels"], example["unmasked_labels"])
    assert scored.tolist() == [IGNORE, *range(10), IGNORE]
    assert not ((example["labels"] != IGNORE) & (example["unmasked_labels"] != IGNORE)).any()
    assert "unmasked_labels" not in MaskedToken().build(Letters()).example(row, dice())


# ---------------------------------------------------------------- whole words

TEXT = "The unbelievable story of Zürich's extraordinary mathematicians, retold — 3 times! "
CHINESE = "北京大学的学生在图书馆学习自然语言处理。他们明天去 the story 看 3 times 上海参观博物馆。"

MIXED = CHINESE + "看 emitted hereditary 书 details"  # words that training has not seen, cut into several tokens


@cache
def tokenizer(kind: str) -> Tokenizer:
    texts = [TEXT * 5, CHINESE * 5, "the story of it, told 3 times! unbe liev able mat hem " * 20]
    config = {
        "bpe": BytePairConfig(vocab_size=300, mask=True),
        "wordpiece": WordPieceConfig(vocab_size=120, mask=True),
        "unigram": UnigramConfig(vocab_size=90, mask=True),
        "char": CharConfig(mask=True),
    }[kind]
    return train_tokenizer(texts, config)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "char"])
@pytest.mark.parametrize(
    ("text", "segmenter"), [(TEXT, lambda: words_by_space), (CHINESE, chinese_words), (MIXED, chinese_words)]
)
def test_tokens_of_one_word_have_one_number(kind: str, text: str, segmenter: Callable[[], Segment]) -> None:
    """Against the offsets that the tokenizer library gives: the word of a token's first visible character."""
    tokens, segment = tokenizer(kind), segmenter()
    text = tokens.decode(tokens.encode(text))  # white space as this kind keeps it
    ids, offsets = np.array(tokens.encode(text)), tokens.offsets(text)
    found = WordFinder.of(tokens, segment).words(ids)
    words = segment(text)
    of_character = np.repeat(np.arange(len(words)), [len(word) for word in words])
    wanted = []
    for start, stop in offsets:
        visible = [i for i in range(start, stop) if not text[i].isspace()]
        wanted.append(of_character[visible[0] if visible else start])
    assert np.array_equal(same_neighbours(found), same_neighbours(np.array(wanted)))
    assert len(np.unique(found)) > 3


def same_neighbours(words: np.ndarray) -> np.ndarray:
    return words[1:] == words[:-1]


@pytest.mark.parametrize(("text", "unit"), [(TEXT * 4, "word"), (CHINESE * 4, "chinese_word")])
@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_whole_words_are_hidden(kind: str, text: str, unit: str) -> None:
    tokens = tokenizer(kind)
    objective = MaskedToken(unit=unit, rate=0.2).build(tokens)
    ids = np.array([tokens.special.bos, *tokens.encode(text), tokens.special.eos, 0])
    words = objective.masking.words.words(ids[:-1])
    counts = []
    for seed in range(30):
        hidden = objective.example(ids, dice(seed))["labels"] != IGNORE
        assert not hidden[0] and not hidden[-1]
        for word in np.unique(words[1:-1]):
            assert len(set(hidden[1:-1][words[1:-1] == word])) == 1, "a word is hidden whole or not at all"
        counts.append(int(hidden.sum()))
    wanted = round(0.2 * (len(ids) - 3))
    assert max(counts) <= wanted and np.mean(counts) > 0.9 * wanted


def test_a_chinese_word_is_what_the_segmenter_says() -> None:
    tokens = tokenizer("char")
    seen: list[str] = []

    def halves(text: str) -> list[str]:
        seen.append(text)
        return [text[: len(text) // 2], text[len(text) // 2 :]]

    objective = MaskedToken(rate=0.5).build(tokens, segment=halves)
    ids = np.array(tokens.encode("学生学习自然上海。"))
    hidden = objective.example(ids, dice())["labels"] != IGNORE
    assert seen == ["学生学习自然上海"] and hidden.tolist() in ([True] * 4 + [False] * 4, [False] * 4 + [True] * 4)
    with pytest.raises(InputError, match="changed the text"):
        MaskedToken().build(tokens, segment=lambda text: [text.strip()[1:]]).example(ids, dice())


def test_words_in_bytes_that_are_no_characters() -> None:
    """A row may begin and end inside a character."""
    tokens = tokenizer("bpe")
    ids = np.array(tokens.encode("é漢語 the story 漢"))[1:-1]
    words = WordFinder.of(tokens, chinese_words()).words(ids)
    assert len(words) == len(ids) and (np.diff(words) >= 0).all()


def test_control_tokens_end_a_word() -> None:
    words = WordFinder.of(Letters(), words_by_space).words(np.array([0, 1, EOS, BOS, 1, 2]))
    assert words[0] == words[1] != words[4] == words[5]
    assert WordFinder.of(Letters(), words_by_space).words(np.array([], np.int64)).tolist() == []


@given(st.text(alphabet=st.sampled_from("ab c'’,.\n é漢カ1_—"), max_size=30))
def test_words_are_the_text(text: str) -> None:
    assert "".join(words_by_space(text)) == text


def test_a_row_of_one_long_word_still_hides_something() -> None:
    objective = MaskedToken(unit="word").build(Letters())
    row = np.array([1, 2, 1, 2, 1, 2, 0])
    assert (objective.example(row, dice())["labels"] != IGNORE).all()


# ---------------------------------------------------------------- spans


def sentinels(count: int) -> Letters:
    first = LETTERS + 12
    return Letters(Special(bos=BOS, eos=EOS, pad=PAD, sentinels=tuple(range(first, first + count))))


def restored(example: dict[str, np.ndarray], objective: SpanCorruptionObjective) -> list[int]:
    """The row, from source and target."""
    ends = set(objective.sentinels.tolist())
    spans: dict[int, list[int]] = {}
    for token in example["labels"].tolist()[:-1]:
        if token in ends:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    row: list[int] = []
    for token in example["input_ids"].tolist()[:-1]:
        row += spans.pop(token) if token in ends else [token]
    assert not spans
    return row


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 120), st.floats(0.05, 0.9), st.floats(1, 6), st.integers(0, 1000))
def test_source_and_target_are_the_row(length: int, rate: float, mean_length: float, seed: int) -> None:
    objective = SpanCorruption(rate=rate, mean_length=mean_length).build(sentinels(100))
    row = dice(seed).integers(0, LETTERS, length + 1)
    example = objective.example(row, dice(seed))
    assert restored(example, objective) == row[:-1].tolist()
    spans = objective.spans(length)
    assert spans.hidden == min(max(round(length * rate), 1), length - 1)
    assert len(example["input_ids"]) == length - spans.hidden + spans.number + 1
    assert len(example["labels"]) == spans.hidden + spans.number + 1
    used = [t for t in example["input_ids"].tolist() if t in objective.sentinels]
    assert used == objective.sentinels[: spans.number].tolist(), "in order, from the first"
    assert example["labels"][-1] == example["input_ids"][-1] == EOS
    assert example["decoder_input_ids"].tolist() == [PAD, *example["labels"][:-1].tolist()]


def test_spans_in_the_published_sizes() -> None:
    """512 tokens, 15 %, mean length 3: 77 tokens in 26 spans."""
    assert SpanCorruption().build(sentinels(100)).spans(512) == (77, 26)


def test_every_cut_is_as_likely() -> None:
    """6 into 3 parts: 10 ways."""
    seen: dict[tuple[int, ...], int] = {}
    random = dice()
    for _ in range(5000):
        parts = tuple(random_parts(6, 3, random).tolist())
        assert sum(parts) == 6 and min(parts) >= 1
        seen[parts] = seen.get(parts, 0) + 1
    assert len(seen) == 10 and chi_square(list(seen.values()), [500.0] * 10) < 27.9  # 9 degrees, 1 in 1000
    assert random_parts(4, 1, random).tolist() == [4] and random_parts(1, 1, random).tolist() == [1]


def test_too_few_sentinels_are_named() -> None:
    with pytest.raises(InputError, match=r"26 spans, and the tokenizer 8 sentinels.*tokenizer\.sentinels=26"):
        SpanCorruption().build(Letters()).example(np.zeros(513, np.int64), dice())


# ---------------------------------------------------------------- what a tokenizer must have


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (MaskedToken(), "mask=true"), (SpanCorruption(), "sentinels=100"), (Ctc(), "no pad token"),
    ],
)  # fmt: skip
def test_a_token_that_is_missing_is_named(config: MaskedToken | SpanCorruption | Ctc, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.build(Letters(Special(bos=BOS, eos=EOS)))
    if isinstance(config, SpanCorruption):
        with pytest.raises(ConfigError, match="neither a pad nor a bos"):
            config.build(Letters(Special(sentinels=SENTINELS)))


@pytest.mark.parametrize("config", [Ctc(), Preference()])
def test_rows_are_refused_where_pairs_are_needed(config: Ctc | Preference) -> None:
    with pytest.raises(DataError, match="not rows of a corpus"):
        config.build(Letters()).example(np.arange(5), dice())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no '.*' in the example; there are: text"):
        config.build(Letters()).example({"text": [1]}, dice())


def test_an_empty_text_is_refused() -> None:
    bare = Letters(Special())
    with pytest.raises(DataError, match="empty text"):
        PrefixLM().build(bare).example({"prompt": [], "answer": []}, dice())
    with pytest.raises(DataError, match="empty text"):
        Contrastive().build(bare).example({"query": [1], "positive": []}, dice())


def test_texts_are_framed_as_the_tokenizer_does() -> None:
    marks = Letters(Special(bos=BOS, eos=EOS, cls=20, sep=21))
    example = Contrastive().build(marks).example({"query": [1], "positive": [2, 3]}, dice())
    assert example["query_input_ids"].tolist() == [20, 1, 21]
    assert example["document_input_ids"].tolist() == [[20, 2, 3, 21]]


# ---------------------------------------------------------------- batches


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate([
        {"input_ids": np.array([1, 2, 3]), "labels": np.array([4, 5, 6]), "draws": np.array([0.5] * 3, np.float32)},
        {"input_ids": np.array([7]), "labels": np.array([8]), "draws": np.array([0.25], np.float32)},
    ])  # fmt: skip
    assert batch["input_ids"].tolist() == [[1, 2, 3], [7, 0, 0]]
    assert batch["labels"].tolist() == [[4, 5, 6], [8, IGNORE, IGNORE]]
    assert batch["attention_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["draws"].dtype == torch.float32 and batch["draws"].tolist() == [[0.5] * 3, [0.25, 0, 0]]


def test_full_rows_have_no_mask() -> None:
    rows = [{"input_ids": np.arange(4), "labels": np.arange(4)}] * 3
    assert collate(rows).keys() == {"input_ids", "labels"}


def test_documents_are_padded_in_both_ways() -> None:
    objective = Contrastive().build(Letters(Special()))
    items = [{"query": [1], "positive": [1, 2], "negatives": [[3]]}, {"query": [4, 5], "positive": [6]}]
    batch = collate([objective.example(item, dice()) for item in items])
    assert batch["document_input_ids"].tolist() == [[[1, 2], [3, 0]], [[6, 0], [0, 0]]]
    assert batch["document_attention_mask"].int().tolist() == [[[1, 1], [1, 0]], [[1, 0], [0, 0]]]
    assert batch["query_attention_mask"].int().tolist() == [[1, 0], [1, 1]]
    same = collate([objective.example(items[1], dice())] * 2)
    assert same.keys() == {"query_input_ids", "document_input_ids"}

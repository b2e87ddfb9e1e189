"""Answers from a text: windows of it, the best spans, where each stands, and when none is given."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.errors import DataError, InputError
from yuyan.models.presets import Bert, Gpt
from yuyan.models.surgery import give_labels
from yuyan.tasks import FindAnswer, FindAnswerTask
from yuyan.tasks.base import label_scores
from yuyan.tasks.context import best_spans, read_contexts, tokens_of, windows_of
from yuyan.tasks.question_text import NOWHERE, Given, Question
from yuyan.tokens import Tokenizer, load_tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig, CharConfig, WordConfig, WordPieceConfig

CONTEXTS = (
    "Anna  lived in Denver. In 1990 Anna went\nto Paris, then home.",
    "安娜住在丹佛。1990年她去了巴黎，后来成为有名的画家。",
)
ANSWERS = ("Denver", "丹佛")
SETTINGS = {
    "char": CharConfig(), "bpe": BytePairConfig(vocab_size=300), "wordpiece": WordPieceConfig(vocab_size=200),
    "word": WordConfig(),
}  # fmt: skip


def record(number: int = 0, **changes: object) -> Question:
    start = CONTEXTS[number].index(ANSWERS[number])
    found = Question("q", "Where?", CONTEXTS[number], (Given(ANSWERS[number], start),), "x:1")
    return found._replace(**changes)  # type: ignore[arg-type]


def tokenizer(kind: str = "char") -> Tokenizer:
    return train_tokenizer([*CONTEXTS, "Where?"], SETTINGS[kind])


def built(length: int | None = None, kind: str = "char", **keys: object) -> FindAnswerTask:
    config = FindAnswer(**{"longest": 30, "unanswerable": False} | keys)  # type: ignore[arg-type]
    return config.build(tokenizer(kind), length)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 19))
def test_windows_cover_all_and_share_what_is_asked_for(count: int, room: int, overlap: int) -> None:
    if count > room and overlap >= room:
        with pytest.raises(DataError, match=rf"x:1: beside the question there is room for {room} tokens"):
            list(windows_of(count, room, overlap, "x:1"))
        return
    found = list(windows_of(count, room, overlap, "x:1"))
    assert found[0][0] == 0 and found[-1][1] == count and all(stop - start <= room for start, stop in found)
    assert all(one[1] - two[0] == overlap for one, two in pairwise(found))
    assert list(windows_of(count, None, overlap, "x:1")) == [(0, count)]


@given(st.integers(1, 12), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_best_spans_are_those_of_all_pairs(count: int, wanted: int, random: object) -> None:
    draw = np.random.default_rng(random.randrange(1 << 30))  # type: ignore[attr-defined]
    begin, stop = draw.normal(size=(2, count))
    begin[draw.random(count) < 0.2] = -np.inf
    until = np.maximum.accumulate(np.minimum(np.arange(count) + draw.integers(0, 5, count), count))
    pairs = [(begin[i] + stop[j], i, j) for i in range(count) for j in range(i, until[i]) if begin[i] > -np.inf]
    expected = [(i, j) for _, i, j in sorted(pairs, key=lambda each: -each[0])][:wanted]
    assert best_spans(begin, stop, until, wanted) == expected


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("number", [0, 1])
def test_tokens_stand_for_the_characters_of_the_answer(kind: str, number: int) -> None:
    asked = record(number)
    context = read_contexts(tokenizer(kind), [asked.context])[asked.context]
    _, span = tokens_of(context, asked.answers)
    assert span is not None
    said = asked.context[context.starts[span[0]] : context.ends[span[1]]]
    assert ANSWERS[number] in said and said == said.strip()
    if kind == "char":
        assert said == ANSWERS[number]
    assert all(
        not asked.context[a:b].strip() or not asked.context[a].isspace()
        for a, b in zip(context.starts, context.ends, strict=True)
        if a < b
    )


def test_every_window_says_where_the_answer_is(capfd: pytest.CaptureFixture[str]) -> None:
    task = built(30, too_long="window", overlap=12)
    pieces = task.items([record(), record(1)])
    assert (
        pieces.too_long == 2
        and pieces.owners == [0] * 6 + [1] * 2
        and max(len(i["input_ids"]) for i in pieces.items) == 30
    )
    learned = 0
    for owner, item in zip(pieces.owners, pieces.items, strict=True):
        start, end = int(item["start_positions"]), int(item["end_positions"])
        assert item["answer_mask"][0] and bool(item["answer_mask"][start])
        if start:
            inside = slice(item["starts"][start - item["first"]], item["ends"][end - item["first"]])
            assert CONTEXTS[owner][inside] == ANSWERS[owner]
            learned += 1
        else:
            assert end == 0
    assert learned >= 2
    assert not capfd.readouterr().err


def test_what_cannot_be_learned_is_left_out_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    nowhere = record(where="x:2", answers=(Given("Rome", NOWHERE),))
    long = record(where="x:3", answers=(Given(CONTEXTS[0], 0),))
    pieces = built(30, too_long="window", overlap=12).items([record(), nowhere, long])
    assert set(pieces.owners) == {0}
    assert "x:2: 2 questions are not learned" in capfd.readouterr().err
    built(kind="word").items([record(answers=(Given("enve", 15),), where="x:4")])
    assert "x:4: 1 answers begin or end inside a token" in capfd.readouterr().err
    with pytest.raises(DataError, match="x:1: beside the question there is room for 1 tokens"):
        built(10, too_long="window", overlap=2).items([record()])


def test_the_question_comes_first_in_a_segment_of_its_own() -> None:
    task, special = built(), tokenizer().special
    (item,) = task.items([record()]).items
    ids, segments = item["input_ids"].tolist(), item["token_type_ids"].tolist()
    last = special.eos if special.sep is None else special.sep
    assert [i for i, number in enumerate(ids) if number == last] == [7, len(ids) - 1]
    assert segments == [0] * 8 + [1] * (len(ids) - 8)
    assert not item["answer_mask"][1 : item["first"]].any() and not item["answer_mask"][-1]


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_tokenizer_that_was_saved_puts_the_same_between_two_texts(kind: str, tmp_path: Path) -> None:
    fresh = tokenizer(kind)
    assert fresh.pair_frame.segments == (0, 0, 0, 1, 1) and fresh.pair_frame.middle
    fresh.with_frame(segments=True).save(tmp_path / "t")
    assert load_tokenizer(tmp_path / "t").pair_frame == fresh.pair_frame


def _sequence(name: str, segment: int = 0) -> dict[str, object]:
    return {"Sequence": {"id": name, "type_id": segment}}


def _control(segment: int = 0) -> dict[str, object]:
    return {"SpecialToken": {"id": "<|end|>", "type_id": segment}}


PROCESSORS: dict[str, tuple[list[object], list[object], tuple[int, int, int], tuple[int, ...]]] = {
    "bert": ([_control(), _sequence("A"), _control()], [_sequence("B", 1), _control(1)], (1, 1, 1), (0, 0, 0, 1, 1)),
    "roberta": ([_control(), _sequence("A"), _control(), _control()], [_sequence("B"), _control()], (1, 2, 1), (0,) * 5),
    "t5": ([_sequence("A"), _control()], [_sequence("B"), _control()], (0, 1, 1), (0,) * 5),
    "gpt2": ([_sequence("A")], [_sequence("B", 1)], (0, 1, 0), (0, 0, 0, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_published_tokenizers_put_between_two_texts(name: str) -> None:
    first, second, sizes, segments = PROCESSORS[name]
    structure, special = json.loads(tokenizer().content), tokenizer().special
    assert special.eos is not None
    end = tokenizer().vocabulary[special.eos]
    pair = json.loads(json.dumps([*first, *second]).replace("<|end|>", end))
    known = {end: {"id": end, "ids": [special.eos], "tokens": [end]}}
    structure["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [_sequence("A")],
        "pair": pair,
        "special_tokens": known,
    }
    frame = Tokenizer(json.dumps(structure), tokenizer().settings).pair_frame
    assert (len(frame.begin), len(frame.middle), len(frame.end)) == sizes
    assert frame.segments == segments and {*frame.begin, *frame.middle, *frame.end} == {special.eos}


def test_a_network_that_tells_segments_apart_is_told_them() -> None:
    task = built()
    scores = []
    for changed in (False, True):
        network = Bert(hidden_size=16, num_layers=1, num_heads=2, dropout=0.0).build(len(task.tokenizer), 0).eval()
        give_labels(network, task.head(network), 1)
        if changed:
            with torch.no_grad():
                network.embedding.token_type.weight[1] = torch.linspace(-1, 1, 16)  # type: ignore[union-attr]
        (said,) = task.answer(network, [record()])
        scores.append(said.spans[0].score)
    assert scores[0] != pytest.approx(scores[1])
    network = Gpt(hidden_size=16, num_layers=1, num_heads=2).build(len(task.tokenizer), 0)
    give_labels(network, task.head(network), 1)
    assert task.answer(network, [record()])[0].spans


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", SETTINGS)
def test_answers_are_substrings_and_no_longer_than_asked_for(kind: str, number: int) -> None:
    for length in (None, 40):
        task = built(length, kind, longest=7, n_best=4, too_long="window")
        network = Bert(hidden_size=16, num_layers=1, num_heads=2).build(len(task.tokenizer), 3)
        give_labels(network, task.head(network), 1)
        (said,) = task.answer(network, [record(number)])
        assert len({span[1:3] for span in said.spans}) == len(said.spans) == 4
        assert all(CONTEXTS[number][s.start : s.end] == s.text and 0 < len(s.text) <= 7 for s in said.spans)
        assert [s.score for s in said.spans] == sorted((s.score for s in said.spans), reverse=True)
        json.dumps(said.plain())


def test_windows_give_the_answer_of_the_whole() -> None:
    """A network that looks at single tokens finds the same span in windows as in the whole text."""
    whole, cut = built(), built(30, too_long="window", overlap=15)
    network = Bert(hidden_size=16, num_layers=1, num_heads=2).build(len(whole.tokenizer), 5)
    give_labels(network, whole.head(network), 1)
    for layer in network.encoder.layers:  # type: ignore[union-attr]
        for parameter in layer.attention.inner.o_proj.parameters():  # type: ignore[union-attr]
            torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(network.encoder.position.table.weight)  # type: ignore[union-attr,arg-type]
    for number in (0, 1):
        ((one,), (other,)) = (task.answer(network, [record(number)]) for task in (whole, cut))
        assert one.spans[0].text == other.spans[0].text and one.spans[0].score == pytest.approx(
            other.spans[0].score, abs=1e-5
        )
        assert one.null == pytest.approx(other.null, abs=1e-5)


def test_the_score_of_no_answer_is_the_least_of_the_windows() -> None:
    task = built(30, too_long="window", overlap=15)
    network = Bert(hidden_size=16, num_layers=1, num_heads=2).build(len(task.tokenizer), 5)
    give_labels(network, task.head(network), 1)
    for number in (0, 1):
        nulls = [scores[0].sum() for scores in label_scores(network, task.items([record(number)]).items)]
        (said,) = task.answer(network, [record(number)])
        assert len(set(nulls)) > 2
        assert said.null + said.spans[0].score == pytest.approx(min(nulls), abs=1e-5)


def test_no_answer_is_given_above_the_threshold() -> None:
    task = built(unanswerable=True)
    records = [record(), record(where="x:2", answers=())]
    network = Bert(hidden_size=16, num_layers=1, num_heads=2).build(len(task.tokenizer), 0)
    give_labels(network, task.head(network), 1)
    answers = task.answer(network, records)
    answers = [
        answers[0]._replace(null=-1.0, spans=(answers[0].spans[0]._replace(text="Denver"),)),
        answers[1]._replace(null=2.0),
    ]
    settled = task.settled(answers, records)
    assert settled.threshold == 0.5
    low, high = (
        FindAnswer(longest=30, unanswerable=True, threshold=t).build(task.tokenizer, None) for t in (-99.0, 99.0)
    )
    (silent,), (said,) = low.answer(network, records[:1]), high.answer(network, records[:1])
    assert silent.text is None and silent.plain()["answer"] is None and silent.plain()["best"]
    assert said.text is not None and 0 < said.plain()["no_answer"] < 1
    assert sum(each["probability"] for each in said.plain()["best"]) + said.plain()["no_answer"] == pytest.approx(
        1, abs=1e-5
    )
    assert high.scores([silent, said], records, draws=0).values["no_answer_accuracy"].value == 0.0


def test_what_is_odd_is_said() -> None:
    task = built()
    (mixed,) = task.remarks({"train": [record(), record(1)]})
    assert "train: some contexts are Chinese and some are not" in mixed
    (unseen,) = task.remarks({"train": [record()], "test": [record(answers=(), where="t:9")]})
    assert "test: 1 questions have no answer, which training does not have" in unseen and "t:9" in unseen


def test_what_is_no_question() -> None:
    for asked, said in (
        ("Where?", "expected a mapping with `question` and `context`"), ({"question": "a"}, "expected a mapping"),
        ({"question": "", "context": "b"}, "its question is empty"), ({"question": "a", "context": 3}, "its context is not a text"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"question 0: {said}"):
            FindAnswer().records_of([asked])
    with pytest.raises(DataError, match="x:1: it has no answer, and task"):
        FindAnswer(unanswerable=False).with_labels([record(), record(answers=())])

"""What every task keeps: example -> collate -> loss -> backward, answers of its type, and a perfect answer scores 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tasks import sentences

from yuyan.evaluate.wording import less_is_better
from yuyan.models.classic import BiLstm, Lstm, Seq2Seq
from yuyan.models.network import NetworkModule
from yuyan.models.presets import T5, Bert, Gpt
from yuyan.models.surgery import give_labels
from yuyan.objectives import collate
from yuyan.tasks import Classify, Converse, FindAnswer, Rewrite, Summarise, Tag, TaskConfig, Translate
from yuyan.tasks.base import Answer, Task
from yuyan.tasks.chat_template import Message
from yuyan.tasks.dialogue_text import Dialogue
from yuyan.tasks.labelled_text import Labelled
from yuyan.tasks.paired_text import Paired
from yuyan.tasks.question_text import Given, Question
from yuyan.tasks.tagged_text import Sentence
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig
from yuyan.train import Learner

SIZES = {"hidden_size": 16, "num_layers": 1}
NETWORKS = {
    "bert": Bert(**SIZES, num_heads=2, dropout=0.0), "gpt": Gpt(**SIZES, num_heads=2), "lstm": Lstm(**SIZES),
    "bilstm": BiLstm(**SIZES), "t5": T5(**SIZES, num_heads=2), "seq2seq": Seq2Seq(**SIZES),
}  # fmt: skip
TALKERS = ("gpt", "lstm")
NEARLY = {"answer_bits_per_byte": 0.0, "answer_perplexity": 1.0}
"""What a likelihood comes near to, but never reaches."""
PERFECT = {"bleu": 100.0, "chrf": 100.0, "ter": 0.0}
"""What a perfect answer scores where that is not 1."""
READERS, WRITERS = ("bilstm", "bert", "gpt", "lstm", "t5"), ("gpt", "lstm", "t5", "seq2seq")


@dataclass(frozen=True)
class Case:
    """A task and its records in a language."""

    config: TaskConfig
    records: list[Any]
    networks: Sequence[str] = READERS
    """By name; the first one learns quickly."""

    @property
    def texts(self) -> list[str]:
        return self.config.texts(self.records)


def moods(language: str) -> list[Labelled]:
    return [Labelled(text, (mood,), f"toy:{i}") for i, (text, mood) in enumerate(sentences(language))]


def topics(language: str) -> list[Labelled]:
    return [
        Labelled(text, tuple(sorted({mood, text[0]})), f"toy:{i}") for i, (text, mood) in enumerate(sentences(language))
    ]


def parts(language: str) -> list[Sentence]:
    """Spans of the things, BIO; in Chinese a word is a character."""
    joint, found = " " if language == "en" else "", []
    for i, (text, _) in enumerate(sentences(language)):
        words = text.split() if language == "en" else list(text)
        thing = words.index("was" if language == "en" else "很")
        tags = ["B-THING", *["I-THING"] * (thing - 1), "O", *["B-MOOD"], *["I-MOOD"] * (len(words) - thing - 2)]
        found.append(Sentence(tuple(words), tuple(tags), f"toy:{i}", joint))
    return found


def kinds(language: str) -> list[Sentence]:
    """Parts of speech, of a kind."""
    return [each._replace(tags=tuple(tag[-4:] for tag in each.tags)) for each in parts(language)]


def turned(language: str) -> list[Paired]:
    """The mood before the thing."""
    joint, form = (" was ", "it was {1}, {0} said") if language == "en" else ("很", "这里很{1}的是{0}呢")
    said = [form.format(*text.split(joint)) for text, _ in sentences(language)[::4]]
    texts = [text for text, _ in sentences(language)[::4]]
    return [Paired(text, (one,), f"toy:{i}") for i, (text, one) in enumerate(zip(texts, said, strict=True))]


def questions(language: str) -> list[Question]:
    """What was how."""
    joint, asked = (" was ", "how was it?") if language == "en" else ("很", "它怎么样？")
    found = []
    for i, (text, _) in enumerate(sentences(language)):
        start = text.index(joint) + len(joint)
        found.append(Question(str(i), asked, text, (Given(text[start:].strip(".。"), start),), f"toy:{i}"))
    return found


def doubtful(language: str) -> list[Question]:
    """Every third question is one that the text does not answer."""
    asked = "when was it?" if language == "en" else "什么时候？"
    return [
        each._replace(question=asked, answers=()) if i % 3 == 2 else each for i, each in enumerate(questions(language))
    ]


def talks(language: str) -> list[Dialogue]:
    """Two questions, whose answers say the mood."""
    again = "and?" if language == "en" else "还有呢？"
    return [
        Dialogue(
            (
                Message("user", text),
                Message("assistant", mood),
                Message("user", again),
                Message("assistant", text[-3:]),
            ),
            f"toy:{i}",
        )
        for i, (text, mood) in enumerate(sentences(language)[::8])
    ]


KINDS_OF_TASK: tuple[tuple[str, Any, Any, Sequence[str]], ...] = (
    ("classify", Classify(), moods, READERS), ("classify several", Classify(several=True), topics, READERS),
    ("tag", Tag(scheme="bio"), parts, READERS), ("tag words", Tag(scheme="none"), kinds, READERS),
    ("answer", FindAnswer(), questions, READERS), ("answer or none", FindAnswer(), doubtful, READERS),
    ("rewrite", Rewrite(), turned, WRITERS), ("rewrite with beams", Rewrite(beams=3), turned, WRITERS[::2]),
    ("translate", Translate(), turned, WRITERS[::2]), ("summarise", Summarise(), turned, WRITERS[::2]),
    ("converse", Converse(), talks, TALKERS), ("converse plainly", Converse(template="plain", learn="last"), talks, TALKERS),
)  # fmt: skip
CASES = {
    f"{name} {language}": Case(config, make(language), networks)
    for language in ("en", "zh")
    for name, config, make, networks in KINDS_OF_TASK
}


def built(case: Case, length: int | None = 96, name: str | None = None) -> tuple[Task, Tokenizer]:
    tokenizer = train_tokenizer(case.texts, CharConfig())
    config = case.config.with_labels(case.records)
    if isinstance(config, Converse):
        config, tokenizer = config.equipped(tokenizer.with_control(config.control) if config.control else tokenizer)
    network = NETWORKS[name or case.networks[0]].network(len(tokenizer))
    return config.suited(network).build(tokenizer, length), tokenizer


def network_for(task: Task, tokenizer: Tokenizer, name: str) -> NetworkModule:
    network = NETWORKS[name].build(len(tokenizer), 0)
    if (head := task.head(network)) is not None:
        give_labels(network, head, 1)
    return network


PAIRS = [(case, name) for case in CASES for name in CASES[case].networks]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_from_example_to_gradient(case: str, name: str) -> None:
    task, tokenizer = built(CASES[case], name=name)
    network = network_for(task, tokenizer, name)
    pieces = task.items(CASES[case].records)
    random = np.random.default_rng(0)
    batch = collate([task.example(item, random) for item in pieces.items[:8]])
    loss = Learner(network, task)(batch)
    assert loss.total.shape == loss.count.shape == (8,) and bool((loss.count > 0).all())
    loss.total.sum().backward()
    assert network.head is not None
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.head.parameters())
    assert float(network.embedding.token.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_a_text_alone_is_answered_as_among_others(case: str, name: str) -> None:
    """Padding changes nothing: neither the answer nor the loss."""
    task, tokenizer = built(CASES[case], name=name)
    network, records = network_for(task, tokenizer, name).eval(), CASES[case].records
    mixed = [records[i] for i in (0, 1, len(records) // 2, len(records) - 1)]
    together = task.answer(network, mixed)
    pieces = task.items(mixed)
    batch = collate(examples(task, pieces.items))
    with torch.no_grad():
        losses = task.loss(network, batch).total
        for i, record in enumerate(mixed):
            (alone,) = task.answer(network, [record])
            assert alone.plain().keys() == together[i].plain().keys()
            assert numbers(alone.plain()) == pytest.approx(numbers(together[i].plain()), abs=2e-6)
            assert alone.plain().get("answer") == together[i].plain().get("answer")
            single = task.loss(network, collate(examples(task, pieces.items[i : i + 1]))).total
            assert float(single) == pytest.approx(float(losses[i]), abs=1e-5)


def examples(task: Task, items: list[Any]) -> list[Any]:
    return [task.example(item, np.random.default_rng(0)) for item in items]


def numbers(value: Any) -> list[float]:
    """All numbers in an answer."""
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, list | tuple):
        return [x for each in value for x in numbers(each)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("case", CASES)
def test_the_answer_has_its_type_and_one_for_each_record(case: str) -> None:
    task, tokenizer = built(CASES[case])
    network = network_for(task, tokenizer, CASES[case].networks[0])
    answers = task.answer(network, CASES[case].records)
    assert len(answers) == len(CASES[case].records)
    assert all(isinstance(each.plain(), dict) for each in answers)
    assert {type(each) for each in answers} == {type(answers[0])}


@pytest.mark.parametrize("case", CASES)
def test_a_perfect_answer_scores_1_and_learning_gets_there(case: str) -> None:
    """In both languages: a network that has learned its examples by heart is perfect by every measure of the task."""
    task, tokenizer = built(CASES[case])
    network, records = network_for(task, tokenizer, CASES[case].networks[0]), CASES[case].records
    before = next(iter(task.scores(task.answer(network, records), records, draws=0).values.values())).value
    learner, batch = Learner(network, task), collate(examples(task, task.items(records).items))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(60 if task.labels else 140):  # to write takes longer to learn
        loss = learner(batch)
        optimizer.zero_grad()
        (loss.total.sum() / loss.count.sum()).backward()
        optimizer.step()
    found = task.scores(task.answer(network, records), records, draws=50)
    first, *_ = found.values.values()
    assert less_is_better(next(iter(found.values))) == found.lower
    if found.lower:
        assert before > 1.0 > 0.1 > first.value >= 0
        assert all(value.value == pytest.approx(NEARLY[name], abs=0.1) for name, value in found.values.items())
        return
    assert before < 1.0 and first.value == pytest.approx(PERFECT.get(next(iter(found.values)), 1.0))
    for name, value in found.values.items():
        assert value.value == pytest.approx(PERFECT.get(name, 1.0)) or "error" in name
    assert first.interval.low <= first.value
    assert all(row["f1"] == 1.0 for row in found.by_label.values() if row["count"])


@pytest.mark.parametrize("case", CASES)
def test_records_come_back_from_a_file_as_they_were(case: str) -> None:
    config = CASES[case].config
    for record in CASES[case].records[:5]:
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in record._asdict().items()}
        assert config.record(plain) == record


@pytest.mark.parametrize("case", CASES)
def test_a_text_that_is_too_long_stops_the_run_and_says_where(case: str) -> None:
    task, _ = built(CASES[case], length=8)
    with pytest.raises(
        ValueError, match=r"toy:\d+: \d+ tokens, and the model reads 8; \d+ of \d+ records are too long"
    ):
        task.items(CASES[case].records)


def test_the_protocol_is_what_the_tasks_are(tmp_path: Path) -> None:
    case = CASES["classify en"]
    task, tokenizer = built(case)
    answer: Answer = task.answer(network_for(task, tokenizer, "bert"), case.records[:1])[0]
    assert answer.plain()["label"] in task.labels

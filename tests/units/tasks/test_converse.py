"""Dialogue as a task: its loss, its measure, long dialogues, packing, and one answer in Python, the command line and batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from yuyan.errors import ConfigError, DataError, InputError
from yuyan.models.classic import Lstm
from yuyan.models.network import NetworkModule
from yuyan.models.presets import T5, Bert, Gpt
from yuyan.objectives import PrefixLM, collate
from yuyan.tasks import Converse, ConverseTask
from yuyan.tasks.chat_template import Message
from yuyan.tasks.dialogue_text import Dialogue
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig

WORDS = "user assistant system User: Assistant: System: be kind one two three four? 一二三四\n\n"


@cache
def tokenizer_of(template: str) -> Tokenizer:
    config = Converse(template=template)  # type: ignore[arg-type]
    tokenizer = train_tokenizer([WORDS], CharConfig())
    return config.equipped(tokenizer.with_control(config.control) if config.control else tokenizer)[1]


def task_of(length: int | None = 200, template: str = "chatml", **keys: object) -> ConverseTask:
    config = Converse(template=template, **keys)  # type: ignore[arg-type]
    return config.build(tokenizer_of(template), length)


def network_of(task: ConverseTask, kind: str = "gpt") -> NetworkModule:
    preset = (
        Gpt(hidden_size=16, num_layers=2, num_heads=2, dropout=0.0)
        if kind == "gpt"
        else Lstm(hidden_size=16, num_layers=1)
    )
    torch.manual_seed(0)
    network = preset.build(len(task.tokenizer), 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def dialogue(*said: str, where: str = "a.jsonl:1") -> Dialogue:
    return Dialogue(tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(said)), where)


TALKS = [
    dialogue("one?", "two", "three?", "four"), dialogue("一", "二二二"), dialogue("two? one?", "one", "and", "三", "four", "二"),
    dialogue("two three", "three"), dialogue("one two three four?", "一二三四 one"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_packing_keeps_the_loss_and_its_gradient(kind: str) -> None:
    plain, together = task_of(), task_of(pack=True)
    losses = []
    for task in (plain, together):
        network, items = network_of(task, kind), task.items(TALKS).items
        found = task.loss(network, collate([task.example(item) for item in items]))
        found.total.sum().backward()
        gradient = network.embedding.token.weight.grad  # type: ignore[union-attr]
        losses.append((float(found.total.sum().detach()), int(found.count.sum()), gradient, len(items)))
    (total, count, gradient, rows), (packed_total, packed_count, packed_gradient, packed_rows) = losses
    assert packed_total == pytest.approx(total, rel=1e-5) and packed_count == count
    torch.testing.assert_close(packed_gradient, gradient, rtol=1e-4, atol=1e-5)
    assert packed_rows < rows == len(TALKS)


def test_the_loss_is_that_of_prefix_lm_behind_each_prompt() -> None:
    task = task_of()
    network, objective = network_of(task), PrefixLM().build(task.tokenizer)
    (talk,) = TALKS[:1]
    found = task.loss(network, collate([task.example(task.items([talk]).items[0])]))
    total = 0.0
    for end in (2, 4):
        prompt = task.prompt(talk.messages[: end - 1])
        ids = [*prompt, *task.tokenizer.encode(talk.messages[end - 1].content), task.template.end]
        scored = np.arange(len(ids)) >= len(prompt)
        loss = objective.loss(
            network, collate([objective.example({"input_ids": ids, "scored": scored}, np.random.default_rng(0))])
        )
        total += float(loss.total.detach())
    assert float(found.total.detach()) == pytest.approx(total, rel=1e-5)


def test_the_measure_is_the_likelihood_of_the_answers() -> None:
    task = task_of()
    network = network_of(task)
    heard = task.answer(network, TALKS)
    found = task.scores(heard, TALKS, draws=200)
    bits = sum(each.nats for each in heard) / np.log(2)
    size = sum(len(m.content.encode()) for talk in TALKS for m in talk.messages if m.role == "assistant")
    assert found.values["answer_bits_per_byte"].value == pytest.approx(bits / size)
    tokens = sum(
        len(task.tokenizer.encode(m.content)) + 1 for talk in TALKS for m in talk.messages if m.role == "assistant"
    )
    assert found.counted == tokens
    assert found.values["answer_perplexity"].value == pytest.approx(np.exp(bits * np.log(2) / tokens))
    for value in found.values.values():
        assert value.interval.low < value.value < value.interval.high
    last = task_of(learn="last")
    assert last.scores(last.answer(network, TALKS), TALKS, draws=0).counted < tokens


def sizes(task: ConverseTask, talks: Sequence[Dialogue]) -> list[int]:
    return [len(item["input_ids"]) - 1 for item in task.items(talks).items]


def test_long_dialogues_lose_their_oldest_turns_or_are_divided() -> None:
    long = dialogue("one?", "two", "three?", "four", "one?", "一", where="b.jsonl:7")
    (whole,) = sizes(task_of(None), [long])
    with pytest.raises(
        DataError,
        match=rf"^b\.jsonl:7: {whole} tokens, and the model reads 80; 1 of 2 records are too long.*truncate .*split",
    ):
        task_of(80).items([TALKS[1], long])
    cut, divided = task_of(80, too_long="truncate"), task_of(80, too_long="split")
    newest = Dialogue(long.messages[2:], "")
    assert cut.items([long]).items[0]["input_ids"].tolist() == task_of().items([newest]).items[0]["input_ids"].tolist()
    pieces = divided.items([TALKS[1], long])
    assert pieces.owners == [0, 1, 1] and pieces.too_long == 1 and max(sizes(divided, [long])) <= 80
    learned = [
        task.tokenizer.decode(i["input_ids"][i["scored"]].tolist()) for task in (divided,) for i in pieces.items[1:]
    ]
    assert "".join(learned) == "twofour一"
    with_system = Dialogue((Message("system", "be kind"), *long.messages), "")
    for item in task_of(110, too_long="split").items([with_system]).items:
        assert "be kind" in task_of().tokenizer.decode(item["input_ids"].tolist())
    skipping = task_of(80, too_long="skip")
    found = skipping.items([TALKS[1], long])
    assert found.owners == [0] and found.too_long == 1
    heard = skipping.answer(network_of(skipping), [TALKS[1], long])
    assert heard[1].tokens == 0 and skipping.scores(heard, [TALKS[1], long], draws=0).counted == heard[0].tokens
    with pytest.raises(DataError, match=r"^b\.jsonl:7: no answer in these 1 dialogues fits the model"):
        skipping.scores(heard[1:], [long], draws=0)
    with pytest.raises(
        DataError, match=r"^b\.jsonl:7: one question with its answer has \d+ tokens, and the model reads 20"
    ):
        task_of(20, too_long="split").items([long])


def test_a_system_text_is_put_before_dialogues_that_have_none() -> None:
    task = task_of(system="be kind")
    own = Dialogue((Message("system", "one"), *TALKS[0].messages), "")
    texts = [task.tokenizer.decode(item["input_ids"].tolist()) for item in task.items([TALKS[0], own]).items]
    assert "be kind" in texts[0] and "be kind" not in texts[1]


def test_models_that_cannot_talk_and_templates_that_do_not_fit() -> None:
    for preset in (Bert(hidden_size=16, num_layers=1, num_heads=2), T5(hidden_size=16, num_layers=1, num_heads=2)):
        with pytest.raises(ConfigError, match="must read from left to right; choose gpt"):
            Converse().suited(preset.network(50))
    bare = train_tokenizer([WORDS], CharConfig())
    with pytest.raises(ConfigError, match=r"task\.template: chatml needs the control token"):
        Converse(template="chatml").equipped(bare)
    with pytest.raises(ConfigError, match="no chat template"):
        Converse(template="own").equipped(bare)
    assert Converse().equipped(bare)[0].template == "plain"
    assert Converse().equipped(bare.with_control(Converse().control))[0].template == "chatml"
    assert Converse().equipped(tokenizer_of("headers"))[0].template == "own"


# ---------------------------------------------------------------- answering


@cache
def model_of(template: str = "chatml", length: int = 120) -> LanguageModel:
    task = task_of(length, template)
    network = network_of(task)
    with torch.no_grad():  # so that answers do not end at once
        network.embedding.token.weight[sorted(task.tokenizer.special.control)] *= 0.1  # type: ignore[union-attr]
        network.embedding.token.weight *= 4  # type: ignore[union-attr]
    return LanguageModel(network, task.tokenizer, length, task=task.config)


MESSAGES = [
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "三"},
]


@pytest.mark.parametrize("template", ["chatml", "plain", "headers"])
def test_one_answer_however_it_is_asked_for(template: str, tmp_path: Path) -> None:
    model = model_of(template)
    alone = model.chat(MESSAGES, max_tokens=12, seed=2)
    changes = {"generate": {"max_tokens": 12, "seed": 2}}
    batch = model.predict(["four?", MESSAGES, "一二三四 one two"], **changes)
    assert batch[1].text == alone and batch[0].text == model.chat("four?", max_tokens=12, seed=2)
    assert any(len(reply.text) > 3 for reply in batch)
    model.save(tmp_path / "m")
    again = LanguageModel.load(tmp_path / "m")
    assert again.chat(MESSAGES, max_tokens=12, seed=2) == alone
    again.keep_prefixes(1000)
    assert [again.chat(MESSAGES, max_tokens=12, seed=2) for _ in range(2)] == [alone, alone]


def test_the_folder_of_a_model_that_talks_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = model_of("chatml")
    model.save(tmp_path / "m")
    tokenizer, theirs = (
        AutoTokenizer.from_pretrained(tmp_path / "m"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "m"),
    )
    ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    talker = model.talker()
    settings = talker.settings_of(kind="greedy", max_tokens=12)
    assert ids[0].tolist() == talker.asked(MESSAGES, settings).ids
    out = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == model.chat(
        MESSAGES, kind="greedy", max_tokens=12
    )


def test_a_conversation_that_is_too_long() -> None:
    model = model_of()
    long = [*MESSAGES[:2]] * 6 + MESSAGES[2:]
    with pytest.raises(
        InputError,
        match=r"the conversation has \d+ tokens; the model reads at most 120: begin anew, or .*overflow=drop",
    ):
        model.chat(long)
    talker = model.talker("be kind")
    settings = talker.settings_of(max_tokens=10)
    asked = talker.asked(long, settings, "drop")
    assert asked.dropped > 0 and asked.dropped % 2 == 0 and len(asked.ids) + 9 <= 120
    kept = [{"role": "system", "content": "be kind"}, *long[asked.dropped :]]
    assert asked.ids == talker.asked(kept, settings).ids
    with pytest.raises(InputError, match=r"the last message alone has \d+ tokens.*shorten it"):
        model.chat("one " * 40, overflow="drop")
    with pytest.raises(InputError, match="overflow: 'dorp'; there are error, drop"):
        model.chat("one", overflow="dorp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "no message in this dialogue"), (MESSAGES[:2], "the last message is the assistant's: there is nothing to answer"),
        ([MESSAGES[0], MESSAGES[0]], "message 2 is the user's, where one of the assistant was expected"),
        ([{"role": "tool", "content": "a"}], "unknown role 'tool'"), ([{"role": "user"}], "expected role and content"),
        ([{"role": "user", "content": 3}], "its content is no text"), (3, "expected a text, or a list of messages"),
        ("  ", r"message 1 \(user\) is empty"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_answered(messages: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        model_of().chat(messages)  # type: ignore[arg-type]


def test_a_model_without_a_template_says_so() -> None:
    bare = train_tokenizer([WORDS], CharConfig())
    model = LanguageModel(Gpt(hidden_size=16, num_layers=1, num_heads=2).build(len(bare), 0), bare, 50)
    with pytest.raises(ConfigError, match="no chat template"):
        model.chat("one")


def test_a_published_folder_with_a_template_talks_and_predicts(tmp_path: Path) -> None:
    """One that says nothing of a task; a draft that guesses ahead changes no answer."""
    model = model_of()
    LanguageModel(model.network, model.tokenizer, model.context).save(tmp_path / "m")
    published = LanguageModel.load(tmp_path / "m")
    wanted = model.chat(MESSAGES, max_tokens=12, seed=2)
    assert published.task is None and published.chat(MESSAGES, max_tokens=12, seed=2) == wanted
    assert published.predict([MESSAGES], generate={"max_tokens": 12, "seed": 2})[0].text == wanted
    draft = {"kind": "draft", "path": str(tmp_path / "m")}
    greedy = model.chat(MESSAGES, kind="greedy", max_tokens=12)
    assert published.chat(MESSAGES, kind="greedy", max_tokens=12, speculation=draft) == greedy


def test_records_are_stored_as_lines() -> None:
    for talk in TALKS:
        assert Converse().record(json.loads(json.dumps(talk._asdict()))) == talk

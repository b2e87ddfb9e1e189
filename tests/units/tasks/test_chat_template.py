"""Chat templates: the same tokens as transformers, answers known token for token, and messages that are only text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from yuyan.errors import ConfigError, DataError
from yuyan.tasks.chat_template import MARKS, NAMED, ChatTemplate, Message, named_template, plain_messages, with_template
from yuyan.tasks.sandbox import SafeTemplate
from yuyan.tokens import Tokenizer, load_tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig, CharConfig, UnigramConfig, WordPieceConfig

TEXTS = [
    "system\nuser\nassistant\nSystem:\nUser:\nAssistant:\n",
    *["hello, how are you? I am fine.", "你好吗？我很好。"] * 40,
]
KINDS = {
    "bpe": BytePairConfig(vocab_size=300), "char": CharConfig(), "unigram": UnigramConfig(vocab_size=70),
    "wordpiece": WordPieceConfig(vocab_size=80),
}  # fmt: skip
TALK = [
    Message("system", "你好。"), Message("user", "hello, how are you?"), Message("assistant", "I am fine."),
    Message("user", "你好吗？"), Message("assistant", "我很好。"),
]  # fmt: skip
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content ~ ' [/INST]' }}"
    "{% elif message.role == 'assistant' %}{% generation %}{{ message.content | trim }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('no system text here') }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # an earlier answer loses what it thought, as in Qwen 3
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@cache
def tokenizer_of(kind: str, name: str) -> Tokenizer:
    tokenizer = train_tokenizer(TEXTS, KINDS[kind])
    if MARKS[name]:
        tokenizer = tokenizer.with_control(MARKS[name])
    return with_template(tokenizer, named_template(name, tokenizer))


def names(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    return [tokenizer.vocabulary[i] for i in ids]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_are_those_of_transformers(tmp_path: Path, kind: str, name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer_of(kind, name).save(tmp_path)
    tokenizer, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    template, plain = ChatTemplate.of(tokenizer), plain_messages(TALK)
    whole = theirs.apply_chat_template(plain, return_dict=False)
    asked = theirs.apply_chat_template(plain[:-1], add_generation_prompt=True, return_dict=False)
    assert template.rendered(TALK).ids == whole
    assert template.prompt(TALK[:-1]) == asked == whole[: len(asked)]
    assert theirs.eos_token_id == template.end == tokenizer.special.eos


def test_templates_of_others_and_tokens_that_swallow_spaces(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = tokenizer_of("bpe", "plain")
    import tokenizers

    inner = tokenizers.Tokenizer.from_str(base.content)
    inner.add_special_tokens([AddedToken("<|end|>", rstrip=True, special=True)])
    phi = "{% for m in messages %}{{ m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
    for source in (MISTRAL, phi):
        folder = tmp_path / str(len(source))
        folder.mkdir()
        with_template(Tokenizer(inner.to_str(), base.settings), source).save(folder)
        ours, theirs = ChatTemplate.of(load_tokenizer(folder)), AutoTokenizer.from_pretrained(folder)
        assert ours.rendered(TALK[1:]).ids == theirs.apply_chat_template(plain_messages(TALK[1:]), return_dict=False)
        assert names(ours.tokenizer, [ours.end]) == ["</s>" if source == MISTRAL else "<|end|>"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_answers_and_their_ends_are_learned(kind: str, name: str) -> None:
    tokenizer = tokenizer_of(kind, name)
    template = ChatTemplate.of(tokenizer)
    answers = [tokenizer.encode(message.content) for message in TALK if message.role == "assistant"]
    for learn, wanted in (("all", answers), ("last", answers[-1:])):
        found = template.rendered(TALK, learn)  # type: ignore[arg-type]
        scored = [i for i, yes in zip(found.ids, found.scored, strict=True) if yes]
        assert scored == [i for answer in wanted for i in (*answer, template.end)]
    first = template.rendered(TALK[:3])
    behind = len(template.prompt(TALK[:2]))
    assert not any(first.scored[:behind]) and first.scored[behind : behind + len(answers[0]) + 1] == [True] * (
        len(answers[0]) + 1
    )
    assert not any(first.scored[behind + len(answers[0]) + 1 :])


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "assistant\n", "</s>", "<s>", "<|im_", "end|>", "start|>", "<", ">", "|", " a", "好", "\n", "\ue000"]), min_size=1).map("".join),
        min_size=2, max_size=4,
    ).filter(lambda texts: all(text.strip() for text in texts))
)  # fmt: skip
def test_messages_are_text_whatever_they_say(texts: list[str]) -> None:
    """The control tokens are those of the template, at its places, and the text between them is as it was said."""
    tokenizer = tokenizer_of("bpe", "chatml")
    template, control = ChatTemplate.of(tokenizer), tokenizer.special.control
    said = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    found = template.rendered(said)
    assert [i for i in found.ids if i in control] == [
        i for i in template.rendered([message._replace(content="x") for message in said]).ids if i in control
    ]
    assert tokenizer.decode(found.ids) == "".join(f"{m.role}\n{m.content}\n" for m in said)
    answers = [message.content for message in said if message.role == "assistant"]
    scored = [i for i, yes in zip(found.ids, found.scored, strict=True) if yes]
    assert tokenizer.decode(scored) == "".join(answers) and scored.count(template.end) == len(answers)


def test_an_answer_has_the_same_tokens_behind_its_prompt_and_in_the_history() -> None:
    tokenizer = tokenizer_of("bpe", "plain")
    template = ChatTemplate.of(tokenizer)
    odd = [
        Message("user", "hello"),
        Message("assistant", " \n fine"),
        Message("user", "you?"),
        Message("assistant", "I am"),
    ]
    prompt = template.prompt(odd[:1])
    assert template.rendered(odd).ids[: len(prompt)] == prompt
    assert template.prompt(odd[:3])[len(prompt) :][: len(tokenizer.encode(" \n fine"))] == tokenizer.encode(" \n fine")


BAD = {
    "trains nothing": "{% for m in messages %}{% if m.role == 'user' %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
    "no control token ends": "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}",
    "not a template": "{% for m in messages %}",
    "refuses these messages": "{{ messages[0].content.__class__.__mro__ }}{{ eos_token }}",
}


@pytest.mark.parametrize("said", BAD)
def test_templates_that_cannot_be_used(said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ChatTemplate.of(with_template(tokenizer_of("bpe", "plain"), BAD[said]))
    with pytest.raises(ConfigError, match="no chat template"):
        ChatTemplate.of(train_tokenizer(TEXTS, CharConfig()))
    with pytest.raises(ConfigError, match=r"needs the control token <\|im_start\|>.*choose plain"):
        named_template("chatml", tokenizer_of("bpe", "plain"))


def test_a_template_that_writes_earlier_answers_anew_trains_only_the_last() -> None:
    template = ChatTemplate(FORGETFUL, tokenizer_of("bpe", "chatml"))
    talk = [TALK[1], Message("assistant", "I think</think>fine"), TALK[3], Message("assistant", "很</think>好")]
    with pytest.raises(DataError, match=r"writes message 2 in another way.*task\.learn=last"):
        template.rendered(talk)
    found = template.rendered(talk, "last")
    scored = [i for i, yes in zip(found.ids, found.scored, strict=True) if yes]
    assert template.tokenizer.decode(scored) == "很</think>好"


HOSTILE = {
    "a loop": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops over messages": "".join("{% for a in messages %}" for _ in range(9)) + "x" + "{% endfor %}" * 9,
    "a long text": "{{ 'x' * 10 ** 9 }}",
    "doubling": "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "adding": "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "replacing": "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(9) %}{% set n.x = n.x.replace('x', n.x) %}{% endfor %}",
    "padding": "{{ 'x'.ljust(10000000000) }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "python": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "no end": "{% for a in range(400000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_soon(name: str) -> None:
    template = SafeTemplate(HOSTILE[name], "t.jinja")
    with pytest.raises(DataError, match=r"^t\.jinja: refuses these messages: "):
        template.text({"messages": [{"role": "user", "content": "a"}] * 20}, {})

"""Dialogues as tokens: a Jinja template says what stands around each message; which tokens are an answer is known exactly.

The text that a template makes is cut at its control tokens, and where an answer begins. So an answer has the same tokens
whether it is learned, is a part of the history, or follows a prompt: those of its own text, behind the prompt's. Where a
template ends the prompt with white space, as those here do, these are also the tokens of transformers'
`apply_chat_template`.

What people write is text: a control token's name in a message is written out in ordinary tokens. The name is broken by a
character that no message has before the template sees it, and mended afterwards.

A template comes with a model and may be anybody's: see `sandbox`.

T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from yuyan.errors import ConfigError, DataError
from yuyan.tasks.sandbox import SafeTemplate
from yuyan.tokens import Tokenizer
from yuyan.tokens.special import names_in
from yuyan.tokens.tokenizer import TEMPLATE

Role = Literal["system", "user", "assistant"]
Learn = Literal["all", "last"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

NAMED = {
    "chatml": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "headers": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "plain": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ message['role'] | capitalize + ':\n' + message['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
    ),
}  # fmt: skip
"""Templates by name: ChatML, Llama 3's headers, and one that needs no tokens but the end mark."""
MARKS = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "headers": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "plain": (),
}
"""The control tokens that each needs; the last one ends an answer."""


class Message(NamedTuple):
    """What somebody says."""

    role: Role
    content: str


class Rendered(NamedTuple):
    """A dialogue as tokens."""

    ids: list[int]
    scored: list[bool]
    """(T,), true for the answers to learn, each with its end mark."""
    bytes: int
    """Of the texts of these answers, in UTF-8."""


class ChatTemplate:
    """A template for a tokenizer; `place` is what errors call it.

    Raises ConfigError for one that is broken, or by which nobody can tell where an answer ends.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, place: str = "chat template"):
        self.source, self.tokenizer, self.place = source, tokenizer, place
        self._template = SafeTemplate(source, place)
        control = {tokenizer.vocabulary[i]: i for i in sorted(tokenizer.special.control)}
        self._control = {name: i for name, i in control.items() if name}
        names = sorted(self._control, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, names))) if names else re.compile(r"(?!)")
        self._beginnings = {name[:size] for name in names for size in range(1, len(name))}
        self._endings = {name[size:] for name in names for size in range(1, len(name))}
        self._longest = max(map(len, names), default=0)
        self._swallows = tokenizer.swallows
        self.end = self._end_mark()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """The template that comes with a tokenizer. Raises ConfigError if there is none."""
        source = tokenizer.settings.get(TEMPLATE)
        if isinstance(source, list):  # several with names
            found = {each.get("name"): each.get("template") for each in source if isinstance(each, dict)}
            source = found.get("default")
        if not isinstance(source, str) or not source.strip():
            raise ConfigError("this model has no chat template: it was not trained on dialogues (task.kind=converse)")
        return cls(source, tokenizer)

    # ------------------------------------------------------------ tokens

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens behind which the next answer is written. Raises DataError where the template refuses the messages."""
        safe, spare = self._safe(messages)
        text = self._render(safe, prompt=True)
        return self._tokens(text, self._edges(safe, text), spare)[0]

    def rendered(self, messages: Sequence[Message], learn: Learn = "all") -> Rendered:
        """The whole dialogue, and which tokens are to be learned.

        Raises DataError where the template refuses the messages, or writes a message to learn anew when others follow.
        """
        safe, spare = self._safe(messages)
        text = self._render(safe)
        edges = self._edges(safe, text)
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        learned = answers if learn == "all" else answers[-1:]
        if changed := [i for i in learned if i not in edges]:
            raise DataError(
                f"{self.place}: writes message {changed[0] + 1} in another way when others follow, so its tokens are not "
                "those behind a prompt; choose task.learn=last, or task.template=chatml or plain"
            )
        ids, places = self._tokens(text, edges, spare)
        scored = [False] * len(ids)
        for start, stop in (edges[i] for i in learned):
            inside = [i for i, place in enumerate(places) if start <= place < stop]
            last = next((i for i in inside if ids[i] == self.end), None)
            if last is None:
                raise DataError(f"{self.place}: no end mark {self.tokenizer.vocabulary[self.end]!r} behind an answer")
            for i in inside:
                scored[i] = i <= last
        return Rendered(ids, scored, sum(len(messages[i].content.encode()) for i in learned))

    def _edges(self, safe: Sequence[Message], text: str) -> dict[int, tuple[int, int]]:
        """For each answer where it begins in `text`, and where what the template puts behind it ends.

        An answer that is written otherwise than behind its prompt is left out.
        """
        edges = {}
        for number, message in enumerate(safe):
            if message.role != "assistant":
                continue
            before, behind = self._render(safe[:number], prompt=True), self._render(safe[: number + 1])
            if behind.startswith(before) and text.startswith(behind):
                edges[number] = len(before), len(behind)
        return edges

    def _tokens(self, text: str, edges: Mapping[int, tuple[int, int]], spare: str) -> tuple[list[int], list[int]]:
        """The tokens of a template's text, and of each the character that its part of the text begins with."""
        cuts = sorted(place for edge in edges.values() for place in edge)
        parts: list[tuple[int, int | str]] = []
        at = 0
        for found in self._cut.finditer(text):
            token = self._control[found[0]]
            before, behind = self._swallows.get(token, (False, False))
            stop = at + len(text[at : found.start()].rstrip()) if before else found.start()
            parts += [*self._texts(text, at, stop, cuts), (found.start(), token)]
            at = found.end()
            if behind:
                at += len(text[at:]) - len(text[at:].lstrip())
        parts += self._texts(text, at, len(text), cuts)
        encoded = iter(
            self.tokenizer.encode_batch([part.replace(spare, "") for _, part in parts if isinstance(part, str)])
        )
        ids: list[int] = []
        places: list[int] = []
        for place, part in parts:
            tokens = [part] if isinstance(part, int) else next(encoded)
            ids += tokens
            places += [place] * len(tokens)
        return ids, places

    def _texts(self, text: str, start: int, stop: int, cuts: Sequence[int]) -> list[tuple[int, int | str]]:
        inside = [start, *(cut for cut in cuts if start < cut < stop), stop]
        return [(a, text[a:b]) for a, b in pairwise(inside) if b > a]

    # ------------------------------------------------------------ text

    def _render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        names = {f"{role}_token": name for role, name in names_in(self.tokenizer.settings).items()}
        values = {**names, "add_generation_prompt": prompt, "tools": None, "documents": None}
        return self._template.text({"messages": plain_messages(messages)}, values)

    def _safe(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        """The messages with every name of a control token in them broken, and the character that breaks it."""
        text = "".join(message.content for message in messages)
        spare = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
        return [message._replace(content=self._broken(message.content, spare)) for message in messages], spare

    def _broken(self, text: str, spare: str) -> str:
        while self._cut.search(text):
            text = self._cut.sub(lambda found: found[0][0] + spare + found[0][1:], text)
        sizes = range(min(self._longest, len(text)), 0, -1)
        if size := next((n for n in sizes if text[-n:] in self._beginnings), 0):
            text = text[: len(text) - size + 1] + spare + text[len(text) - size + 1 :]
        if size := next((n for n in sizes if text[:n] in self._endings), 0):
            text = text[: size - 1] + spare + text[size - 1 :]
        return text

    def _end_mark(self) -> int:
        """The control token that ends an answer. Raises ConfigError if there is none."""
        question, answer = Message("user", "1"), Message("assistant", "2")
        try:
            before, behind = self._render([question], prompt=True), self._render([question, answer])
        except DataError as error:
            raise ConfigError(str(error)) from None
        if not behind.startswith(before) or "2" not in (rest := behind[len(before) :]):
            raise ConfigError(
                f"{self.place}: trains nothing: an answer does not stand behind the prompt that asks for it; "
                f"prompt {before[-40:]!r}, dialogue {behind[-60:]!r}"
            )
        found = self._cut.search(rest, rest.index("2"))
        if found is None:
            raise ConfigError(
                f"{self.place}: no control token ends an answer, so a model could not learn to end; choose "
                f"task.template={' or '.join(NAMED)}"
            )
        return self._control[found[0]]


def named_template(name: str, tokenizer: Tokenizer) -> str:
    """The source of a template of ours. Raises ConfigError where the tokenizer has not what it needs."""
    known = {tokenizer.vocabulary[i] for i in tokenizer.special.control}
    if missing := [mark for mark in MARKS[name] if mark not in known]:
        raise ConfigError(
            f"task.template: {name} needs the control token {missing[0]}, which this tokenizer does not have; "
            "choose plain, which needs none, or train a tokenizer"
        )
    if tokenizer.special.eos is None:
        raise ConfigError("task.template: this tokenizer has no end mark, so an answer cannot end")
    return NAMED[name]


def with_template(tokenizer: Tokenizer, source: str) -> Tokenizer:
    """The tokenizer with a chat template, which is saved with it; other programs then find control tokens in its text."""
    return Tokenizer(tokenizer.content, {**tokenizer.settings, TEMPLATE: source, "split_special_tokens": False})


def plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """As JSON has them."""
    return [message._asdict() for message in messages]

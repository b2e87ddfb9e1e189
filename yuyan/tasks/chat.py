"""Talking with a model: what it reads of a conversation, how much of it, and what ends an answer.

Python, the command line, `predict` and the server go through here, so they give the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from yuyan.errors import InputError
from yuyan.generate.engine import DEFAULT_TOKENS
from yuyan.generate.strategy import Settings
from yuyan.tasks.chat_template import ChatTemplate, Message
from yuyan.tasks.dialogue_text import ROLES, Dialogue, wrong_with
from yuyan.tokens import Tokenizer

Overflow = Literal["error", "drop"]


class Asked(NamedTuple):
    """What the model reads, and how many of the oldest messages were left out so that it fits."""

    ids: list[int]
    dropped: int


def ends_of_chat(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end an answer: every control token, since none is a part of what somebody says."""
    return tokenizer.special.control


def asked(
    template: ChatTemplate, messages: Sequence[Message], settings: Settings, context: int | None, overflow: Overflow
) -> Asked:
    """The prompt for an answer to `messages`, which has room within the `context`.

    With `drop` the oldest questions with their answers are left out until it fits; a system text stays. Raises InputError.
    """
    if overflow not in get_args(Overflow):
        raise InputError(f"overflow: {overflow!r}; there are {', '.join(get_args(Overflow))}")
    ids = template.prompt(messages)
    if context is None or settings.overflow == "slide":
        return Asked(ids, 0)
    wanted = settings.max_tokens or (1 if overflow == "error" else max(1, min(DEFAULT_TOKENS, context // 4)))
    room = context + 1 - wanted - settings.looks_ahead
    system = [message for message in messages[:1] if message.role == "system"]
    rest = list(messages[len(system) :])
    while overflow == "drop" and len(ids) > room and len(rest) > 2:
        rest = rest[2:]
        ids = template.prompt([*system, *rest])
    if len(ids) > room:
        behind = f", and {wanted:,} are wanted behind them" if settings.max_tokens else ""
        what = "the last message alone has" if len(rest) == 1 else "the conversation has"
        mend = "shorten it" if len(rest) == 1 else "begin anew, or let the oldest turns be forgotten (overflow=drop)"
        raise InputError(f"{what} {len(ids):,} tokens{behind}; the model reads at most {context:,}: {mend}")
    return Asked(ids, len(messages) - len(system) - len(rest))


def messages_of(given: Any, where: str) -> list[Message]:
    """What Python gives, to be answered: a text, or messages with role and content. Raises InputError."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, Sequence):
        raise InputError(f"{where}: expected a text, or a list of messages with role and content")
    messages = []
    for number, said in enumerate(given, 1):
        plain = said._asdict() if isinstance(said, Message) else said
        if not isinstance(plain, Mapping) or not {"role", "content"} <= plain.keys():
            raise InputError(f"{where}: message {number}: expected role and content")
        role = ROLES.get(str(plain["role"]))
        if role is None:
            raise InputError(
                f"{where}: message {number}: unknown role {plain['role']!r}; there are system, user and assistant"
            )
        if not isinstance(plain["content"], str):
            raise InputError(f"{where}: message {number}: its content is no text")
        messages.append(Message(role, plain["content"]))
    if wrong := wrong_with(messages, labelled=False):
        raise InputError(f"{where}: {wrong}")
    if messages[-1].role != "user":
        raise InputError(f"{where}: the last message is the {messages[-1].role}'s: there is nothing to answer")
    return messages


def asking(dialogue: Dialogue) -> Dialogue:
    """A dialogue up to what the user said last."""
    last = max(i for i, message in enumerate(dialogue.messages) if message.role == "user")
    return dialogue._replace(messages=dialogue.messages[: last + 1], asks=True)

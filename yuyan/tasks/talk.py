"""A model that answers in a dialogue: what `model.chat`, `yuyan chat` and a server ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from yuyan.errors import InputError
from yuyan.generate import Done, Event, Sampling
from yuyan.generate.strategy import Settings
from yuyan.tasks.chat import Asked, Overflow, asked, messages_of
from yuyan.tasks.chat_template import ChatTemplate, Message
from yuyan.tasks.writing import Writer, settings_of, why_unfinished


class Talker:
    """Answers to dialogues, by the chat template of a model; `system` is put before those that have none.

    `draft` gives the model that guesses ahead, where settings name one.
    """

    def __init__(
        self, writer: Writer, template: ChatTemplate, *, system: str | None, settings: Sampling,
        draft: Callable[[Settings], Writer | None],
    ):  # fmt: skip
        self.writer, self.template, self.system, self.settings, self.draft = writer, template, system, settings, draft

    def settings_of(self, settings: Settings | None = None, **changes: object) -> Settings:
        """How to write, with some keys changed: by default as the model was trained to be asked. Raises ConfigError."""
        return settings_of(settings or self.settings, changes, one=True)

    def asked(self, messages: Sequence[Any] | str, settings: Settings, overflow: Overflow = "error") -> Asked:
        """The tokens that the model reads, and how many messages were left out. Raises InputError, DataError."""
        said = messages_of(messages, "messages")
        if self.system is not None and said[0].role != "system":
            said.insert(0, Message("system", self.system))
        return asked(self.template, said, settings, self.writer.context, overflow)

    def events(self, ids: Sequence[int], settings: Settings) -> Iterator[Event]:
        """The tokens of the answer to a prompt, and why they ended. Raises InputError."""
        engine = self.writer.engine()
        engine.add(self.writer.requested(ids, settings, draft=self.draft(settings)))
        return engine.run()

    def stream(self, ids: Sequence[int], settings: Settings) -> Iterator[str]:
        """The answer to a prompt, piece by piece. Raises InputError for one that ended before it obeyed its constraint."""
        for count, event in enumerate(self.events(ids, settings)):
            if event.text:
                yield event.text
            if isinstance(event, Done) and event.valid is False:
                raise InputError(why_unfinished(event.reason, count))

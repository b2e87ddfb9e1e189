"""`yuyan chat`: talk with a model, a line a turn; in a terminal with commands, through a pipe without.

Through a pipe every line is what the user says next, and an empty line begins a new conversation, so that what others wrote
is never taken for a command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from yuyan.commands.generate import written_values
from yuyan.commands.typed import typed_lines
from yuyan.console import say, warn
from yuyan.errors import InputError, YuyanError
from yuyan.generate.strategy import Settings
from yuyan.store import write_text
from yuyan.tasks.chat import Overflow
from yuyan.tasks.chat_template import Message, plain_messages
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.talk import Talker

REMEMBERED = 8192  # tokens of beginnings that need not be read again
HELP = """\
/reset        begin a new conversation
/save FILE    write this conversation, as a line of JSON with messages
/help         this
/quit         end; so does Ctrl-D. Ctrl-C stops an answer"""


def chat_command(
    path: Path, options: Mapping[str, Any], keys: Sequence[str], *, system: str | None, overflow: str, as_json: bool
) -> None:
    """Talk until the input ends. Raises InputError, ConfigError; in a terminal mistakes are said, and the talk goes on."""
    if overflow not in get_args(Overflow):
        raise InputError(f"--overflow: {overflow!r}; there are {', '.join(get_args(Overflow))}")
    model = LanguageModel.load(path)
    model.keep_prefixes(REMEMBERED)
    talker = model.talker(system)
    settings = talker.settings_of(**written_values(options, keys))
    talk = _Talk(talker, settings, overflow, as_json=as_json)  # type: ignore[arg-type]
    if sys.stdin.isatty():
        say(f"{path}: say something; /help lists the commands")
        talk.in_terminal()
    else:
        talk.through_pipe(typed_lines(sys.stdin.buffer))


class _Talk:
    """A conversation under way."""

    def __init__(self, talker: Talker, settings: Settings, overflow: Overflow, *, as_json: bool):
        self.talker, self.settings, self.overflow, self.as_json = talker, settings, overflow, as_json
        self.messages: list[Message] = []

    def through_pipe(self, lines: Iterator[str]) -> None:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                self.messages = []
                continue
            try:
                self.answer(line)
            except YuyanError as error:
                raise type(error)(f"line {number}: {error}") from None

    def in_terminal(self) -> None:
        _edit_lines()
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                say()
                return
            except UnicodeDecodeError:
                warn("that was no UTF-8")
                continue
            if line in ("/quit", "/exit"):
                return
            try:
                if line.startswith("/"):
                    self.command(line)
                elif line:
                    self.answer(line)
            except KeyboardInterrupt:
                say("\nstopped; this question and its answer are forgotten")
            except YuyanError as error:
                warn(str(error))

    def command(self, line: str) -> None:
        """What a line with a slash asks for. Raises InputError."""
        name, _, rest = line.partition(" ")
        if name == "/reset":
            self.messages = []
            say("a new conversation")
        elif name == "/save":
            self.save(rest.strip())
        elif name == "/help":
            say(HELP)
        else:
            raise InputError(f"{name} is no command; /help lists them")

    def save(self, name: str) -> None:
        """Write the conversation. Raises InputError, StorageError."""
        if not name or not self.messages:
            raise InputError("/save FILE: name a file" if not name else "there is nothing to save yet")
        if Path(name).exists():
            raise InputError(f"{name}: exists already; give another file")
        system = [Message("system", self.talker.system)] if self.talker.system else []
        said = {"messages": plain_messages([*system, *self.messages])}
        write_text(Path(name), json.dumps(said, ensure_ascii=False) + "\n")
        say(f"{name}: {len(self.messages)} messages")

    def answer(self, line: str) -> None:
        """Answer, piece by piece on standard output; what was said is remembered once the answer is whole."""
        said = [*self.messages, Message("user", line)]
        asked = self.talker.asked(said, self.settings, self.overflow)
        if asked.dropped:
            say(
                f"(the oldest {asked.dropped} messages are not read any more: the model reads {self.talker.writer.context} tokens)"
            )
        pieces = []
        for piece in self.talker.stream(asked.ids, self.settings):
            pieces.append(piece)
            if not self.as_json:
                _write(piece)
        text = "".join(pieces)
        _write(json.dumps({"role": "assistant", "content": text}, ensure_ascii=False) + "\n" if self.as_json else "\n")
        self.messages = [*said, Message("assistant", text)] if text.strip() else self.messages
        if not text.strip():
            say("(the model ended at once; this question is forgotten)")


def _edit_lines() -> None:
    """Arrow keys and a history, where the system has them."""
    try:
        import readline
    except ImportError:
        return
    readline.set_history_length(1000)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

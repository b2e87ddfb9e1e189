"""Dialogues from the files that people have: messages (OpenAI), ShareGPT, Alpaca, questions with answers, YAML dialogues.

    messages    {"messages": [{"role": "user", "content": ...}, ...]}
    sharegpt    {"conversations": [{"from": "human", "value": ...}, ...]}
    alpaca      {"instruction": ..., "input": ..., "output": ..., "history": [[question, answer], ...]}
    pairs       a table with a question and an answer in each row
    dialogues   YAML: `conversations:`, a list of lists of texts; speakers take turns, the user begins

The form is found once, in the training data, and written down. A dialogue may have a system text first; then user and
assistant alternate, and the user begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import yaml

from yuyan.config import did_you_mean
from yuyan.errors import DataError
from yuyan.tasks.chat_template import Message, Role
from yuyan.text import DataConfig
from yuyan.text.column import RECORD, Trouble, kind_of
from yuyan.text.read import decoded
from yuyan.text.rows import TableRow, names_of, table_rows
from yuyan.text.survey import Survey, Surveyed

Form = Literal["messages", "sharegpt", "alpaca", "pairs", "dialogues"]
QUESTIONS = ("question", "query", "prompt", "user", "q", "ask", "问题", "问", "提问", "問題", "問")
ANSWERS = (
    "answer",
    "response",
    "reply",
    "assistant",
    "completion",
    "output",
    "a",
    "回答",
    "答案",
    "答",
    "回复",
    "回覆",
)
"""Names under which questions and answers are usually found, in order of preference."""
KEYS = {"messages": "messages", "sharegpt": "conversations"}
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatbot": "assistant", "model": "assistant",
    "agent": "assistant",
}  # fmt: skip
"""Who speaks, by the names that files have for them."""
TOOLS = ("tool_calls", "function_call", "tools")
WANTED = {*QUESTIONS, *ANSWERS, "instruction", "input", "output", "messages", "conversations", "system", "history"}
YAML = (".yml", ".yaml")


class Dialogue(NamedTuple):
    """What was said, and where that stands."""

    messages: tuple[Message, ...]
    where: str
    asks: bool = False
    """Whether its last message is to be answered."""

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(message.content for message in self.messages)

    @property
    def spelled(self) -> str:
        """The texts, each behind the names that templates put before it."""
        named = (f"{m.role}\n{m.role.capitalize()}:\n\n{m.content}\n" for m in self.messages)
        return "".join(named)

    @property
    def group(self) -> str:
        """What the user says first: dialogues that begin alike belong in the same part of the data."""
        return next((message.content for message in self.messages if message.role == "user"), self.text)


class Layout(NamedTuple):
    """Where dialogues are; None is not known yet. `joins`: messages of the same speaker in a row become one."""

    form: Form | None = None
    question: str | None = None
    answer: str | None = None
    joins: bool = False


# ---------------------------------------------------------------- finding


def layout_of(files: Survey, data: DataConfig, given: Layout, *, labelled: bool = True) -> Layout:
    """What these files look like, where `given` leaves it open. Raises DataError."""
    rows = names_of(_tables(files), data, {*WANTED, *(each for each in given[1:3] if isinstance(each, str))})
    if not rows:
        _refuse_text(files)
        return given._replace(form=given.form or "dialogues")
    keys = list(dict.fromkeys(key for row in rows for key in row.cells))
    form = given.form if given.form not in (None, "dialogues") else _form(rows, keys, given, labelled=labelled)
    if form != "pairs":
        return given._replace(form=form)
    question = given.question or _usual(QUESTIONS, keys)
    answer = given.answer or _usual([name for name in ANSWERS if name != question], keys)
    for key, name in (("question", question), ("answer", answer if labelled else question)):
        if name not in keys:
            hint = did_you_mean(name, keys) if name is not None else ""
            raise DataError(f"{_file(rows)}: no column {name!r}{hint} (task.{key}); it has: {', '.join(keys[:12])}")
    return given._replace(form=form, question=question, answer=answer)


def _form(rows: Sequence[TableRow], keys: Sequence[str], given: Layout, *, labelled: bool) -> Form:
    cells = [row.cells for row in rows[:20]]
    for value in (row[key] for row in cells for key in ("messages", "conversations", "conversation") if key in row):
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return "sharegpt" if "from" in value[0] else "messages"
    if "messages" in keys or "conversations" in keys:
        return "messages" if "messages" in keys else "sharegpt"
    if "instruction" in keys and ("output" in keys or not labelled):
        return "alpaca"
    asked = given.question is not None or _usual(QUESTIONS, keys) is not None
    if asked and (not labelled or given.answer is not None or _usual(ANSWERS, keys) is not None):
        return "pairs"
    raise DataError(
        f"{_file(rows)}: no dialogue here: expected messages, conversations, instruction and output, or question and "
        f"answer (task.question, task.answer); it has: {', '.join(keys[:12]) or 'nothing'}"
    )


def _file(rows: Sequence[TableRow]) -> str:
    return rows[0].where.rpartition(":")[0]


def _usual(names: Sequence[str], keys: Sequence[str]) -> str | None:
    known = {key.strip().lower(): key for key in reversed(keys)}
    return next((known[name] for name in names if name in known), None)


def is_yaml(surveyed: Surveyed) -> bool:
    """Whether this is a file of YAML, packed or not."""
    return surveyed.source.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(YAML)


def _tables(files: Survey) -> Survey:
    return Survey([each for each in files.sources if each.source.format != "text"], files.skipped, files.inputs)


def _refuse_text(files: Survey) -> None:
    for each in files.sources:
        if each.source.format == "text" and not is_yaml(each):
            raise DataError(
                f"{each.source.name}: plain text does not say who speaks; give .jsonl with messages, a table with "
                "question and answer, or YAML dialogues (.yml)"
            )


# ---------------------------------------------------------------- reading


def read_dialogues(files: Survey, data: DataConfig, layout: Layout, *, labelled: bool = True) -> Iterator[Dialogue]:
    """The dialogues of every source; `labelled` ones have an answer, others end with a question.

    Raises DataError naming file and line, unless `data.skip_bad_records`.
    """
    trouble = Trouble(data.skip_bad_records)
    _refuse_text(files)
    for surveyed in files.sources:
        if is_yaml(surveyed):
            found = _from_yaml(surveyed, data, trouble)
        else:
            wanted = {*WANTED, *(each for each in layout[1:3] if isinstance(each, str))}
            rows = table_rows(surveyed, data, wanted, trouble)
            found = (each for row in rows if (each := _from_row(row, layout, trouble)) is not None)
        for messages, where in found:
            if (said := wrong_with(messages, labelled=labelled, joins=layout.joins)) is not None:
                trouble.report(f"{where}: {said}")
                continue
            yield Dialogue(tuple(joined(messages) if layout.joins else messages), where)


Found = tuple[list[Message], str]


def _from_row(row: TableRow, layout: Layout, trouble: Trouble) -> Found | None:
    cells = row.cells
    try:
        if layout.form in ("messages", "sharegpt"):
            return _spoken(cells, layout.form), row.where
        if layout.form == "alpaca":
            return _alpaca(cells), row.where
        return _pair(cells, layout), row.where
    except _Wrong as error:
        trouble.report(f"{row.where}: {error}")
        return None


class _Wrong(Exception):
    """What is wrong with a record."""


def _text(value: object, name: str) -> str:
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        if other := [str(part.get("type")) for part in value if part.get("type", "text") != "text"]:
            raise _Wrong(f"{name} holds {other[0]!r}; only texts can be read")
        return "".join(_text(part.get("text"), name) for part in value)
    if not isinstance(value, str):
        raise _Wrong(f"{name} is {kind_of(value)}, not text")
    return value


def _spoken(cells: Mapping[str, Any], form: str) -> list[Message]:
    key = next((key for key in (KEYS[form], "messages", "conversations", "conversation") if key in cells), None)
    if key is None:
        raise _Wrong(f"no {KEYS[form]!r} in this record; it has: {', '.join(map(str, list(cells)[:8])) or 'nothing'}")
    if not isinstance(cells[key], list):
        raise _Wrong(f"{key!r} is {kind_of(cells[key])}, not a list of messages")
    messages = _system(cells)
    for number, said in enumerate(cells[key], 1):
        if not isinstance(said, Mapping):
            raise _Wrong(f"message {number} is {kind_of(said)}, where an object was expected")
        speaker, content = ("from", "value") if "from" in said else ("role", "content")
        if used := [tool for tool in TOOLS if said.get(tool)]:
            raise _Wrong(f"message {number} has {used[0]!r}: calls of tools cannot be learned")
        if said.get("weight", 1) != 1:
            raise _Wrong(f"message {number} has a weight of {said['weight']!r}: weights of messages are not read")
        for name in (speaker, content):
            if name not in said:
                raise _Wrong(
                    f"message {number} has no {name!r}; it has: {', '.join(map(str, list(said)[:8])) or 'nothing'}"
                )
        role = ROLES.get(str(said[speaker]).strip().lower())
        if role is None:
            raise _Wrong(f"message {number}: unknown role {said[speaker]!r}; there are system, user and assistant")
        messages.append(Message(role, _text(said[content], f"message {number}")))
    return messages


def _system(cells: Mapping[str, Any]) -> list[Message]:
    value = cells.get("system")
    return [] if value is None or value == "" else [Message("system", _text(value, "'system'"))]


def _alpaca(cells: Mapping[str, Any]) -> list[Message]:
    messages = _system(cells)
    history = cells.get("history") or []
    if not isinstance(history, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in history):
        raise _Wrong("'history' is not a list of [question, answer]")
    for question, answer in history:
        messages += [Message("user", _text(question, "'history'")), Message("assistant", _text(answer, "'history'"))]
    if "instruction" not in cells:
        raise _Wrong(f"no 'instruction' in this record; it has: {', '.join(map(str, list(cells)[:8])) or 'nothing'}")
    asked = [_text(cells.get(key) or "", repr(key)) for key in ("instruction", "input")]
    messages.append(Message("user", "\n".join(part for part in asked if part)))
    if "output" in cells:
        messages.append(Message("assistant", _text(cells["output"], "'output'")))
    return messages


def _pair(cells: Mapping[str, Any], layout: Layout) -> list[Message]:
    messages = _system(cells)
    for name, role in ((layout.question, "user"), (layout.answer, "assistant")):
        if name is None or (role == "assistant" and name not in cells):
            continue
        if name not in cells:
            has = ", ".join(map(str, list(cells)[:8]))
            raise _Wrong(f"no {name!r} in this row{did_you_mean(name, cells)}; it has: {has} (task.question)")
        messages.append(Message(role, _text(cells[name], repr(name))))  # type: ignore[arg-type]
    return messages


# ---------------------------------------------------------------- YAML


def _from_yaml(surveyed: Surveyed, data: DataConfig, trouble: Trouble) -> Iterator[Found]:
    name, held = surveyed.source.name, list[str]()
    for piece in decoded(surveyed, data):
        held.append(piece)
        if sum(map(len, held)) > RECORD:
            raise DataError(f"{name}: more than {RECORD >> 20} million characters of YAML in one file; divide it")
    try:
        root = yaml.compose("".join(held), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise DataError(f"{name}{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(
            f"{name}: not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}"
        ) from None
    for turns in _conversations(root, name):
        where = f"{name}:{turns.start_mark.line + 1}"
        if not isinstance(turns, yaml.SequenceNode):
            trouble.report(f"{where}: a dialogue is a list of texts, and this is one text; begin it with `- - `")
            continue
        if wrong := [turn for turn in turns.value if not isinstance(turn, yaml.ScalarNode)]:
            trouble.report(
                f"{name}:{wrong[0].start_mark.line + 1}: a turn is a text; put it in quotation marks if it has a colon"
            )
            continue
        said = [turn.value for turn in turns.value]
        yield [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(said)], where


def _conversations(root: Any, name: str) -> list[Any]:
    if isinstance(root, yaml.MappingNode):
        keys = [key.value for key, _ in root.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise DataError(f"{name}: {twice[0]!r} is there twice")
        found = next((value for key, value in root.value if key.value == "conversations"), None)
        if found is None:
            raise DataError(f"{name}: no 'conversations'; it has: {', '.join(map(str, keys[:8])) or 'nothing'}")
        root = found
    if not isinstance(root, yaml.SequenceNode):
        raise DataError(f"{name}: a list of dialogues was expected, each a list of texts")
    conversations: list[Any] = root.value
    return conversations


# ---------------------------------------------------------------- checking


def joined(messages: Sequence[Message]) -> list[Message]:
    """Messages of the same speaker in a row as one, a line each."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role == message.role:
            found[-1] = Message(message.role, found[-1].content + "\n" + message.content)
        else:
            found.append(message)
    return found


def wrong_with(messages: Sequence[Message], *, labelled: bool, joins: bool = False) -> str | None:
    """What is wrong with a dialogue; None if it can be used."""
    for number, message in enumerate(messages, 1):
        if not message.content.strip():
            return f"message {number} ({message.role}) is empty"
        if (at := next((i for i, c in enumerate(message.content) if "\ud800" <= c <= "\udfff"), None)) is not None:
            return f"message {number}: character {at + 1} is half of a pair (\\u{ord(message.content[at]):04x})"
    said = joined(messages) if joins else list(messages)
    turns = said[1:] if said and said[0].role == "system" else said
    if not turns:
        return "no message in this dialogue"
    for number, (message, role) in enumerate(zip(turns, ("user", "assistant") * len(turns), strict=False)):
        if message.role != role:
            place = number + 1 + len(said) - len(turns)
            if number == 0:
                return f"message {place} is the {message.role}'s, where the user begins"
            mend = "; task.joins=true makes one of them" if message.role == turns[number - 1].role else ""
            return (
                f"message {place} is the {message.role}'s, where one of the {role} was expected: they alternate{mend}"
            )
    if labelled and len(turns) < 2:
        return "no answer of the assistant in this dialogue: there is nothing to learn"
    return None

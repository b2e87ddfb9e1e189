"""Dialogue: answers to what a user says, learned from dialogues by a model that reads from left to right.

A dialogue is written out by a chat template (`chat_template`), and the loss is that of the assistant's answers and their
end marks alone (Ouyang et al. 2022, section 3.5): the gradient of `prefix_lm` on each of them behind its prompt. What is
measured is how probable held-out answers are, in bits per byte, so that models of other tokenizers can be compared.

B dialogues (or rows of several), T tokens, D hidden size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.corpus.first_fit import first_fit
from yuyan.errors import ConfigError, DataError, InputError
from yuyan.generate import Request, Sampling
from yuyan.generate.sampling import Samples
from yuyan.metrics import bits_per_byte, perplexity, ratio_interval
from yuyan.metrics.interval import Interval
from yuyan.metrics.likelihood import total
from yuyan.metrics.score import NONE, Scores, Value
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.device import device_of, moved
from yuyan.nn.head import LabelHead
from yuyan.objectives import collate
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks, packing, shifted, sparse_token_loss
from yuyan.tasks.base import Item, Pieces, by_length, too_long
from yuyan.tasks.chat import Overflow, asked, asking, ends_of_chat, messages_of
from yuyan.tasks.chat_template import (
    MARKS,
    ChatTemplate,
    Learn,
    Message,
    Rendered,
    named_template,
    with_template,
)
from yuyan.tasks.dialogue_text import Dialogue, Form, Layout, layout_of, read_dialogues
from yuyan.tasks.writing import Writer, completions
from yuyan.text import DataConfig
from yuyan.text.survey import Survey
from yuyan.tokens import Tokenizer
from yuyan.tokens.tokenizer import TEMPLATE

AT_ONCE = 32  # answers under way together


class Converse(Config):
    """Answer what a user says, in a dialogue of any length."""

    kind: Literal["converse"] = "converse"
    form: Form | None = None
    """How files hold dialogues: messages, sharegpt, alpaca, pairs or dialogues (YAML); by default found and written down."""
    question: str | None = None
    """For pairs: the column of the questions; by default found and written down."""
    answer: str | None = None
    """For pairs: the column of the answers; by default found and written down."""
    joins: bool = False
    """Whether messages of the same speaker in a row become one; otherwise they are an error."""
    template: Literal["own", "chatml", "headers", "plain"] | None = None
    """What stands around messages: the model's own template, ChatML, Llama 3's headers, or plain names; by default the
    model's own, else chatml where a tokenizer is trained, else plain."""
    learn: Learn = "all"
    """Which answers of a dialogue are learned and measured: all, or the last."""
    system: str | None = Field(None, min_length=1)
    """A system text before every dialogue that has none."""
    pack: bool = False
    """Several dialogues in a row, which do not see each other: fuller rows, the same loss."""
    too_long: Literal["error", "truncate", "split", "skip"] = "error"
    """Dialogues longer than the model reads: stop and count them, leave out the oldest turns, divide them, or pass over them."""
    generate: Samples = Samples()
    """How answers are written."""

    @property
    def layout(self) -> Layout:
        """Where the dialogues are."""
        return Layout(self.form, self.question, self.answer, self.joins)

    def found(self, files: Survey, data: DataConfig) -> Converse:
        """With the form of these files. Raises DataError."""
        return self.model_copy(update=layout_of(files, data, self.layout)._asdict())

    def found_texts(self, files: Survey, data: DataConfig) -> Converse:
        """With the form of files without answers, which may be another. Raises DataError."""
        loose = self.layout._replace(form=None, answer=None)
        return self.model_copy(update=layout_of(files, data, loose, labelled=False)._asdict())

    def read(self, files: Survey, data: DataConfig, *, labelled: bool = True) -> list[Dialogue]:
        """The dialogues; without labels each ends with what is to be answered. Raises DataError naming file and line."""
        found = list(read_dialogues(files, data, self.layout, labelled=labelled))
        return found if labelled else [asking(dialogue) for dialogue in found]

    def with_labels(self, records: Sequence[Dialogue]) -> Converse:
        """As it is: nothing is told apart."""
        return self

    def suited(self, network: Network) -> Converse:
        """As it is. Raises ConfigError for a model that does not read from left to right."""
        if network.decoder is None or network.encoder is not None or isinstance(network.head, LabelHead):
            raise ConfigError(
                "task.kind converse: the model must read from left to right; choose gpt, llama, lstm, ..."
            )
        return self

    def records_of(self, texts: Sequence[Any]) -> list[Dialogue]:
        """Texts, or lists of messages, to be answered. Raises InputError for anything else."""
        return [Dialogue(tuple(messages_of(each, f"text {i}")), f"text {i}", asks=True) for i, each in enumerate(texts)]

    def record(self, plain: dict[str, Any]) -> Dialogue:
        """A record as it was stored."""
        return Dialogue(tuple(Message(*message) for message in plain["messages"]), plain["where"], plain["asks"])

    @property
    def unsettled(self) -> bool:
        """Nothing is chosen on the validation data."""
        return False

    def texts(self, records: Sequence[Dialogue]) -> list[str]:
        """What a tokenizer learns: what is said, with the names that templates put before it."""
        return [record.spelled for record in records]

    @property
    def control(self) -> tuple[str, ...]:
        """Control tokens that a tokenizer which is trained for this gets."""
        return () if self.template == "own" else MARKS[self.template or "chatml"]

    def equipped(self, tokenizer: Tokenizer) -> tuple[Converse, Tokenizer]:
        """With the template chosen, and the tokenizer that has it. Raises ConfigError."""
        name = self.template
        if name is None:
            known = {tokenizer.vocabulary[i] for i in tokenizer.special.control}
            name = (
                "own"
                if tokenizer.settings.get(TEMPLATE)
                else "chatml"
                if known.issuperset(MARKS["chatml"])
                else "plain"
            )
        if name != "own":
            tokenizer = with_template(tokenizer, named_template(name, tokenizer))
        ChatTemplate.of(tokenizer)
        return self.model_copy(update={"template": name}), tokenizer

    def build(self, tokenizer: Tokenizer, length: int | None) -> ConverseTask:
        """The task; `length` is how many tokens the network reads. Raises ConfigError for a tokenizer without a template."""
        return ConverseTask(self, tokenizer, length, ChatTemplate.of(tokenizer))


class Reply(NamedTuple):
    """What was written as an answer."""

    text: str
    ended: bool
    """Whether the model ended it, and not a limit."""

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {"answer": self.text, "unfinished": not self.ended}


class Heard(NamedTuple):
    """How probable the model finds the answers of a dialogue."""

    nats: float
    tokens: int
    bytes: int

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {"bits_per_byte": round(bits_per_byte(self.nats, self.bytes), 6), "tokens": self.tokens}


@dataclass(frozen=True)
class ConverseTask:
    """The task; see the module."""

    config: Converse
    tokenizer: Tokenizer
    length: int | None
    template: ChatTemplate
    labels: ClassVar[tuple[str, ...]] = ()
    looks: ClassVar[int | None] = None
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def head(self, like: NetworkModule) -> None:
        """The network keeps its own."""

    # ------------------------------------------------------------ training

    def items(self, records: Sequence[Dialogue], *, labelled: bool = True) -> Pieces:
        """Dialogues as tokens and what of them is learned; with `pack` several in an item, owned by the first."""
        if not labelled:
            prompts = [self.prompt(record.messages) for record in records]
            items: list[Item] = [{"input_ids": np.array(ids, np.int64)} for ids in prompts]
            return Pieces(items, list(range(len(items))), max(map(len, prompts), default=0), 0)
        pieces = self._pieces(records)
        if not self.config.pack or self.length is None:
            return pieces
        items, owners = first_fit(pieces.items, pieces.owners, self.length + 1)
        return pieces._replace(items=items, owners=owners)

    def _pieces(self, records: Sequence[Dialogue]) -> Pieces:
        """One item a dialogue, or several where it is too long. Raises DataError, with places and counts."""
        whole = [self._rendered(record.messages, record.where) for record in records]
        sizes = [len(each.ids) - 1 for each in whole]
        over = {i for i, size in enumerate(sizes) if self.length is not None and size > self.length}
        if over and self.config.too_long == "error":
            raise too_long(sizes, self.length, records, "truncate (leave out the oldest turns), split or skip")
        parts = [self._fitting(records[i]) if i in over else [each] for i, each in enumerate(whole)]
        items: list[Item] = [
            {"input_ids": np.array(part.ids, np.int64), "scored": np.array(part.scored, bool), "bytes": part.bytes}
            for each in parts
            for part in each
        ]
        owners = [number for number, each in enumerate(parts) for _ in each]
        return Pieces(items, owners, max(sizes, default=0), len(over))

    def _rendered(self, messages: Sequence[Message], where: str) -> Rendered:
        """A dialogue up to its last answer."""
        said = self._with_system(messages)
        end = max(i for i, message in enumerate(said) if message.role == "assistant")
        try:
            return self.template.rendered(said[: end + 1], self.config.learn)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def _with_system(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        if self.config.system is None or messages[0].role == "system":
            return tuple(messages)
        return (Message("system", self.config.system), *messages)

    def _fitting(self, record: Dialogue) -> list[Rendered]:
        """A dialogue that is too long, in pieces of whole exchanges that fit: the newest one, all of them, or none.

        Raises DataError where not even one exchange fits.
        """
        assert self.length is not None
        if self.config.too_long == "skip":
            return []
        said = record.messages
        system = [message for message in said[:1] if message.role == "system"]
        starts = [i for i, message in enumerate(said) if message.role == "user" and i + 1 < len(said)]
        stop, pieces = starts[-1] + 2, list[Rendered]()
        while stop > starts[0]:
            best = None
            for start in reversed([i for i in starts if i < stop]):
                piece = self._rendered([*system, *said[start:stop]], record.where)
                if len(piece.ids) - 1 > self.length:
                    break
                best = start, piece
            if best is None:
                last = self._rendered([*system, *said[stop - 2 : stop]], record.where)
                raise DataError(
                    f"{record.where}: one question with its answer has {len(last.ids) - 1:,} tokens, and the model reads "
                    f"{self.length:,}: train with a longer train.context, or pass over such with task.too_long=skip"
                )
            stop, piece = best
            pieces.insert(0, piece)
            if self.config.too_long == "truncate":
                break
        return pieces if self.config.learn == "all" else pieces[-1:]

    def example(self, item: Item, random: np.random.Generator | None = None) -> Example:
        """Each token is predicted from those before it, and scored where it is a part of an answer; nothing is drawn."""
        found = shifted(item["input_ids"], item["scored"])
        return found if "document_ids" not in item else {**found, "document_ids": item["document_ids"][:-1]}

    def hidden(self, model: Any, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder, which never looks right, where the padding is: it needs no mask."""
        states: Tensor = model.decode(batch["input_ids"], **packing(batch))
        return states

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Cross-entropy in nats; the count is that of the answers' tokens and end marks."""
        return sparse_token_loss(model, self.hidden(model, batch), batch["labels"])

    @torch.no_grad()
    def marks(self, model: Any, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token of an answer."""
        loss = self.loss(model, batch)
        return {"loss": loss, "perplexity": loss}

    def drawn(self, pieces: Pieces) -> None:
        """Every item once an epoch."""

    # ------------------------------------------------------------ saying

    def described(self, parts: Mapping[str, Sequence[Dialogue]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: how many dialogues, turns and answers, in which scripts."""
        rows: dict[str, list[str]] = {}
        for part in parts.values():
            answers = [message.content for record in part for message in record.messages if message.role == "assistant"]
            questions = [message for record in part for message in record.messages if message.role == "user"]
            chinese = sum(any("\u4e00" <= c <= "\u9fff" for c in answer) for answer in answers)
            for name, value in (
                ("dialogues", len(part)), ("questions", len(questions)), ("answers", len(answers)),
                ("answers with Chinese characters", chinese), ("characters of answers", sum(map(len, answers))),
            ):  # fmt: skip
                rows.setdefault(name, []).append(f"{value:,}")
        return ["", *parts], [[name, *values] for name, values in rows.items()]

    def remarks(self, parts: Mapping[str, Sequence[Dialogue]]) -> list[str]:
        """What is odd about the data: questions that nobody answers, dialogues that are there twice."""
        said = []
        for name, part in parts.items():
            if open_ := [record for record in part if record.messages[-1].role == "user"]:
                said.append(
                    f"{name}: {len(open_):,} dialogues end with the user, such as {open_[0].where}; that message is left out"
                )
        times = Counter(record.messages for record in parts["train"])
        if again := [record for record in parts["train"] if times[record.messages] > 1]:
            count = len(again) - len({record.messages for record in again})
            said.append(f"{count:,} training dialogues are there more than once, such as {again[0].where}")
        return said

    # ------------------------------------------------------------ answering

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads before it answers."""
        return self.template.prompt(self._with_system(messages))

    def answer(self, network: NetworkModule, records: Sequence[Dialogue]) -> list[Any]:
        """What is said to dialogues that ask (`Reply`); of others how probable their answers are (`Heard`)."""
        was_training = network.training
        network.eval()
        found = self._replies(network, records) if records and records[0].asks else self._heard(network, records)
        network.train(was_training)
        return found

    def _replies(self, network: NetworkModule, records: Sequence[Dialogue]) -> list[Any]:
        writer = Writer(network, self.tokenizer, self.length, ends=ends_of_chat(self.tokenizer))
        settings = self.settings
        overflow: Overflow = "error" if self.config.too_long in ("error", "skip") else "drop"
        order = sorted(range(len(records)), key=lambda i: -len(records[i].text))

        def request(record: Dialogue) -> Request:
            said = self._with_system(record.messages)
            try:
                return writer.requested(asked(self.template, said, settings, writer.context, overflow).ids, settings)
            except (InputError, DataError) as error:
                raise type(error)(f"{record.where}: {error}") from None

        found: dict[int, Reply] = {}
        for place, texts in completions(writer.engine(), (request(records[i]) for i in order), AT_ONCE):
            found[order[place]] = Reply(texts[0].text, texts[0].reason == "stop")
        return [found[i] for i in range(len(records))]

    @torch.no_grad()
    def _heard(self, network: NetworkModule, records: Sequence[Dialogue]) -> list[Any]:
        pieces = self._pieces(records)
        sums = np.zeros((3, len(records)))
        for numbers, _ in by_length(pieces.items):
            loss = self.loss(
                network, moved(collate([self.example(pieces.items[n]) for n in numbers]), device_of(network))
            )
            for number, nats, tokens in zip(numbers, loss.total.tolist(), loss.count.tolist(), strict=True):
                sums[:, pieces.owners[number]] += nats, tokens, int(pieces.items[number]["bytes"])
        return [Heard(float(nats), int(tokens), int(size)) for nats, tokens, size in sums.T]

    @property
    def settings(self) -> Sampling:
        """How answers are written."""
        return Sampling(**dict(self.config.generate))

    def settled(self, answers: Sequence[Any], records: Sequence[Dialogue]) -> Converse:
        """As it is."""
        return self.config

    # ------------------------------------------------------------ measuring

    def scores(self, answers: Sequence[Any], records: Sequence[Dialogue], *, draws: int) -> Scores:
        """Bits for a byte of the answers, their end marks counted too, and the perplexity of a token; intervals over dialogues."""
        if not any(each.bytes for each in answers):
            raise DataError(f"{records[0].where}: no answer in these {len(records):,} dialogues fits the model")
        nats, tokens, sizes = (np.array([each[i] for each in answers], float) for i in range(3))
        bits = nats / np.log(2)
        per_byte = ratio_interval(bits, sizes, draws=draws) if draws else NONE
        per_token = ratio_interval(nats, tokens, draws=draws) if draws else NONE
        whole, count = total(nats), float(tokens.sum())
        values = {
            "answer_bits_per_byte": Value(bits_per_byte(whole, float(sizes.sum())), per_byte),
            "answer_perplexity": Value(perplexity(whole, count), Interval(*np.exp(per_token).tolist())),
        }
        each = tuple(zip(bits.tolist(), sizes.tolist(), strict=True))
        return Scores(values, int(count), {}, unit="tokens", each=each, lower=True)

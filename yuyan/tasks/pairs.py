"""What all tasks share that read a text and write another: rewriting, summaries, translation.

An encoder and decoder reads the source between the marks of its tokenizer and writes the target from its start token on. A
lone decoder reads `<s> source </s>` and goes on with `target </s>`. Either is trained on the target and its end alone
(Sutskever et al. 2014; Raffel et al. 2020, section 2), and either folder answers in transformers by `generate` on the
tokenized source. Answers are the likeliest texts, by beam search or one token after the other.

B pairs, S tokens of a source, T tokens that the decoder reads, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.console import progress
from yuyan.errors import ConfigError, InputError
from yuyan.generate import Beam, Greedy, Request
from yuyan.generate.engine import DEFAULT_TOKENS
from yuyan.generate.strategy import Settings
from yuyan.metrics.score import Scores
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.linear_cross_entropy import PLAIN, CrossEntropy
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks, shifted, sparse_token_loss
from yuyan.tasks.base import Item, Pieces, too_long
from yuyan.tasks.paired_text import (
    Languages,
    Layout,
    Lines,
    Paired,
    language_code,
    layout_of,
    read_pairs,
    source_column,
)
from yuyan.tasks.writing import Completion, Writer, completions, why_silent
from yuyan.text import DataConfig
from yuyan.text.language import identify
from yuyan.text.survey import Survey
from yuyan.text.tmx import same_language
from yuyan.tokens import Tokenizer

AT_ONCE = 32  # answers under way together
LONG = 64  # answers that take a bar
LOOKED_AT, LONG_ENOUGH, SURE = 5000, 36, 0.9  # texts of a side, bytes of one, and certainty to say its language


class PairConfig(Config):
    """The keys of a task that writes; each kind says what its answers are measured by."""

    source: str | None = None
    """The column that is read; by default found and written down."""
    target: str | None = None
    """The column that is to be written; a list, or NAME1, NAME2, ..., are several right answers."""
    lines: Lines | None = None
    """How plain text holds pairs: two files, line by line (parallel), or a tab in each line."""
    languages: Languages | None = None
    """Of source and target, as two letters: which file or column is which, and how answers are compared."""
    reads: Literal["encoder", "decoder"] | None = None
    """What reads the source: an encoder, or the decoder itself before it answers; follows from the model."""
    prompt: str | None = Field(None, min_length=1)
    """Put before every source, as `summarize: ` for published T5."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label that is spread evenly over the vocabulary; 0.1 is usual."""
    too_long: Literal["error", "truncate"] = "error"
    """Texts longer than the model reads: stop and count them, or read the beginning only."""
    beams: int = Field(1, ge=1, le=64)
    """How many beginnings of an answer are followed; 1 takes the likeliest token at each step."""
    length_penalty: float = Field(1.0, allow_inf_nan=False)
    """With several beams: the larger, the longer the answer."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer; by default what the model can hold, at most 200."""
    looks: int = Field(0, ge=0)
    """How many validation records are answered at each look, whose first measure then picks the best model; 0 picks it by
    the loss, which is much faster. At the end all are answered."""

    @property
    def layout(self) -> Layout:
        """Where the texts are."""
        return Layout(self.source, self.target, self.lines, self.languages)

    def found(self, files: Survey, data: DataConfig) -> Self:
        """With columns and format of these files. Raises DataError."""
        layout = layout_of(files, data, self.layout, lenient=self.reads is not None)
        return self.model_copy(update=layout._asdict())

    def found_texts(self, files: Survey, data: DataConfig) -> Self:
        """With the column of the sources in files without answers. Raises DataError."""
        return self.model_copy(update={"source": source_column(files, data, self.layout)})

    def read(self, files: Survey, data: DataConfig, *, labelled: bool = True) -> list[Paired]:
        """The pairs. Raises DataError naming file and line."""
        return list(read_pairs(files, data, self.layout, labelled=labelled))

    def with_labels(self, records: Sequence[Paired]) -> Self:
        """With the languages of the training pairs."""
        if self.languages is not None:
            return self
        texts = ("\n".join(r.text for r in records[:500]), "\n".join(r.targets[0] for r in records[:500]))
        return self.model_copy(update={"languages": tuple(identify(text).code for text in texts)})

    def suited(self, network: Network) -> Self:
        """With what follows from the model. Raises ConfigError for one that cannot write."""
        if (why := why_silent(network)) is not None:
            raise ConfigError(f"task: this model cannot write: {why}; choose t5, seq2seq or gpt")
        return self.model_copy(update={"reads": "decoder" if network.encoder is None else "encoder"})

    def records_of(self, texts: Sequence[str]) -> list[Paired]:
        """Texts to be answered. Raises InputError for what is no text, or an empty one."""
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"text {number}: " + ("it is empty" if isinstance(text, str) else "expected a text"))
        return [Paired(text, (), f"text {number}") for number, text in enumerate(texts)]

    def texts(self, records: Sequence[Paired]) -> list[str]:
        """What a tokenizer is trained on: what is read, and what is to be written."""
        return [text for record in records for text in (record.text, *record.targets)]

    def record(self, plain: dict[str, Any]) -> Paired:
        """A record as it was stored."""
        return Paired(plain["text"], tuple(plain["targets"]), plain["where"])

    @property
    def unsettled(self) -> bool:
        """Nothing is chosen on the validation data."""
        return False

    def build(self, tokenizer: Tokenizer, length: int | None) -> PairTask:
        """The task; `length` is how many tokens the network reads. Raises ConfigError for a tokenizer without an end mark."""
        assert self.reads is not None, "suited"
        if tokenizer.special.eos is None:
            raise ConfigError("task: the tokenizer has no end mark (eos), so an answer would never end")
        return PairTask(self, tokenizer, length)

    def language(self, records: Sequence[Paired]) -> str:
        """Of what is written: as the config says, else as the right answers look."""
        said = None if self.languages is None else language_code(self.languages[1])
        return said or identify("\n".join(r.targets[0] for r in records[:200])).code

    def measured(self, answers: Sequence[str], records: Sequence[Paired], draws: int) -> Scores:
        """What answers are worth."""
        raise NotImplementedError


class Written(NamedTuple):
    """What was written for a text."""

    text: str
    unfinished: bool
    """Whether it was cut at its longest length."""

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {"answer": self.text, "unfinished": self.unfinished}


@dataclass(frozen=True)
class PairTask:
    """The task; see the module."""

    config: PairConfig
    tokenizer: Tokenizer
    length: int | None
    labels: ClassVar[tuple[str, ...]] = ()
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def head(self, like: NetworkModule) -> None:
        """The network keeps its own."""

    @property
    def looks(self) -> int:
        """How many validation records are answered at a look; 0 looks at the loss."""
        return self.config.looks

    @property
    def both(self) -> bool:
        """Whether an encoder reads and a decoder writes."""
        return self.config.reads == "encoder"

    @property
    def start(self) -> int | None:
        """What a decoder with an encoder begins with."""
        return self.tokenizer.special.start if self.both else None

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """What a source stands between; behind it there is always a mark where the decoder reads it."""
        begin, end = self.tokenizer.frame
        eos = self.tokenizer.special.eos
        assert eos is not None
        return begin, end if end or self.both else [eos]

    # ------------------------------------------------------------ training

    def items(self, records: Sequence[Paired], *, labelled: bool = True) -> Pieces:
        """An item for each right answer; one for each source where `labelled` is false."""
        sources, targets = self._encoded(records, labelled=labelled)
        owners = [i for i, each in enumerate(targets) for _ in each]
        sizes = [self._size(sources[i], target) for i, each in enumerate(targets) for target in each]
        over = sum(self.length is not None and size > self.length for size in sizes)
        if over and self.config.too_long == "error":
            raise too_long(sizes, self.length, [records[i] for i in owners], "truncate")
        items = [self._item(sources[i], target) for i, each in enumerate(targets) for target in each]
        return Pieces(items, owners, max(sizes, default=0), over)

    def _encoded(
        self, records: Sequence[Paired], *, labelled: bool
    ) -> tuple[list[list[int]], list[list[list[int] | None]]]:
        """The bare ids of each source, and of its targets: None for a source alone."""
        before = self.config.prompt or ""
        sources = self.tokenizer.encode_batch([before + record.text for record in records])
        if not labelled:
            return sources, [[None] for _ in records]
        flat = iter(self.tokenizer.encode_batch([target for record in records for target in record.targets]))
        return sources, [[next(flat) for _ in record.targets] for record in records]

    def _size(self, source: list[int], target: list[int] | None) -> int:
        """Tokens that the model has to hold: of the longer side, or of both together."""
        begin, end = self.frame
        read, written = len(begin) + len(source) + len(end), 1 if target is None else len(target) + 1
        return max(read, written) if self.both else read + written - 1

    def _item(self, source: list[int], target: list[int] | None) -> Item:
        (begin, end), eos = self.frame, self.tokenizer.special.eos
        written = None if target is None else [*target, eos]
        if self.length is not None and self._size(source, target) > self.length:
            room = self.length if self.both else max(1, self.length // 2)  # of an answer, where not all of it fits
            written = None if written is None else written[:room]
            held = (
                0 if self.both else min(room, self.config.max_tokens or room) if written is None else len(written) - 1
            )
            source = source[: max(1, self.length - held - len(begin) - len(end))]
        read = np.array([*begin, *source, *end], np.int64)
        if written is None:
            return {"input_ids": read}
        labels = np.array(written, np.int64)
        if self.both:
            return {
                "input_ids": read,
                "decoder_input_ids": np.array([self.start, *written[:-1]], np.int64),
                "labels": labels,
            }
        ids = np.concatenate([read, labels])
        return dict(shifted(ids, np.arange(len(ids)) >= len(read)))

    def example(self, item: Item, random: np.random.Generator) -> Example:
        """Nothing is drawn: the item is the example."""
        return dict(item)

    def hidden(self, model: Any, batch: Batch) -> Tensor:
        """(B, T, D) states of the decoder."""
        states: Tensor
        if self.both:
            mask = batch.get("attention_mask")
            memory = model.encode(batch["input_ids"], mask)
            states = model.decode(batch["decoder_input_ids"], memory=memory, memory_mask=mask)
        else:
            states = model.decode(batch["input_ids"])  # it never looks right, where the padding is
        return states

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Nats; the count is that of the target's tokens and its end."""
        smoothing = self.config.label_smoothing
        trained = CrossEntropy(label_smoothing=smoothing) if smoothing else PLAIN
        return sparse_token_loss(model, self.hidden(model, batch), batch["labels"], trained)

    @torch.no_grad()
    def marks(self, model: Any, batch: Batch) -> Marks:
        """The loss, and the perplexity of a token."""
        loss = self.loss(model, batch)
        return {"loss": loss, "perplexity": loss}

    def drawn(self, pieces: Pieces) -> None:
        """Every item once an epoch."""

    # ------------------------------------------------------------ saying

    def described(self, parts: Mapping[str, Sequence[Paired]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: how many pairs, how long."""
        means = {
            "source": lambda part: f"{np.mean([len(r.text) for r in part]):,.0f}",
            "target": lambda part: f"{np.mean([len(t) for r in part for t in r.targets]):,.0f}",
        }
        answers = {name: sum(len(r.targets) for r in part) for name, part in parts.items()}
        rows = [["pairs", *(f"{len(part):,}" for part in parts.values())]]
        if any(answers[name] > len(part) for name, part in parts.items()):
            rows.append(["right answers", *(f"{answers[name]:,}" for name in parts)])
        for side, code in zip(means, self.config.languages or ("unknown", "unknown"), strict=True):
            rows.append([f"characters of a {side} ({code})", *(means[side](part) for part in parts.values())])
        return ["", *parts], rows

    def remarks(self, parts: Mapping[str, Sequence[Paired]]) -> list[str]:
        """What is odd about the data: pairs that are there twice, texts in another language than the others."""
        said, places = [], dict[tuple[str, tuple[str, ...]], list[str]]()
        for record in parts["train"]:
            places.setdefault((record.text, record.targets), []).append(record.where)
        if again := [found for found in places.values() if len(found) > 1]:
            more = sum(len(found) - 1 for found in again)
            said.append(f"{more:,} training pairs are there more than once, such as {again[0][0]} and {again[0][1]}")
        for side, code in zip(("sources", "targets"), self.config.languages or (), strict=False):
            said += _foreign(side, code, {
                name: [(r.text if side == "sources" else r.targets[0], r.where) for r in part] for name, part in parts.items()
            })  # fmt: skip
        return said

    # ------------------------------------------------------------ answering

    def settings(self, prompt: int) -> Settings:
        """How an answer behind so many tokens is searched."""
        room = DEFAULT_TOKENS if self.config.max_tokens is None else self.config.max_tokens
        if self.length is not None:
            room = min(room, self.length - prompt + 1)
        if self.config.beams == 1:
            return Greedy(max_tokens=room)
        return Beam(beams=self.config.beams, length_penalty=self.config.length_penalty, max_tokens=room)

    def answer(self, network: NetworkModule, records: Sequence[Paired]) -> list[Written]:
        """One text for each source; what is written does not depend on the others."""
        was_training = network.training
        network.eval()
        items = self.items(records, labelled=False).items
        engine = Writer(network, self.tokenizer, self.length, start=self.start).engine()
        order = sorted(range(len(items)), key=lambda i: -len(items[i]["input_ids"]))
        requests = (self._request(items[i]["input_ids"].tolist()) for i in order)
        found: dict[int, Completion] = {}
        bar = progress("writing", float(len(items))) if len(items) >= LONG else nullcontext()
        with bar as shown:
            for place, texts in completions(engine, requests, AT_ONCE):
                found[order[place]] = texts[0]
                if shown is not None:
                    shown.advance(1)
        network.train(was_training)
        return [Written(found[i].text.strip(), found[i].reason == "length") for i in range(len(items))]

    def _request(self, ids: list[int]) -> Request:
        if not self.both:
            return Request(ids, self.settings(len(ids)))
        assert self.start is not None
        return Request([self.start], self.settings(1), ids)

    def settled(self, answers: Sequence[Written], records: Sequence[Paired]) -> PairConfig:
        """As it is."""
        return self.config

    # ------------------------------------------------------------ measuring

    def scores(self, answers: Sequence[Written], records: Sequence[Paired], *, draws: int) -> Scores:
        """By the measures of the kind, and how many answers were cut."""
        found = self.config.measured([answer.text for answer in answers], records, draws)
        if cut := sum(answer.unfinished for answer in answers):
            found = found._replace(
                notes=(*found.notes, f"{cut:,} of {len(answers):,} answers were cut at their longest length")
            )
        return found


def _foreign(side: str, code: str, parts: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """A line about texts that are surely in another language than `code`; of a large part some thousands are looked at."""
    counts, places = list[str](), list[str]()
    for name, texts in parts.items() if language_code(code) is not None else ():
        looked = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, min(len(texts), LOOKED_AT)).astype(int))]
        found = [(each.code, where) for text, where in looked if len(text.encode()) >= LONG_ENOUGH for each in [identify(text)]
                 if each.certain >= SURE and each.code != "unknown" and not same_language(code, each.code)]  # fmt: skip
        if found:
            of = f"{len(looked):,}" + (" looked at" if len(looked) < len(texts) else "")
            counts.append(f"{name} {len(found):,} of {of}")
            places += [f"{where} ({other})" for other, where in found[: 5 - len(places)]]
    return (
        [f"{side} in another language than {code}: {', '.join(counts)}, such as {', '.join(places)}"] if counts else []
    )

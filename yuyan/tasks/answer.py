"""Answers to questions that stand in a text, word for word, or are not there at all.

The network reads `begin question middle context end` and scores every token as the first and as the last of the answer
(Devlin et al. 2019, section 4.2); the first token of all stands for "no answer" (section 4.3). A context that is too long
is read in windows that overlap. The best span is the one with the highest sum of its two scores, over all windows, that
does not end before it begins and is not too long; no answer is given where its score, the least of all windows, is above
the best span's by more than a threshold, which is chosen on the validation data.

B windows, T tokens, C tokens of a context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from yuyan.config import Config
from yuyan.console import warn
from yuyan.errors import DataError, InputError
from yuyan.hub.families import label_head
from yuyan.hub.labels import SPAN
from yuyan.metrics.answers import Marks as AnswerMarks
from yuyan.metrics.answers import Way, mark, score_answers, silence_threshold, way_of
from yuyan.metrics.score import Scores
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.head import LabelHead
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks
from yuyan.tasks.base import Item, Pieces, label_scores, segments, too_long
from yuyan.tasks.context import Read, best_spans, read_contexts, say_unlearned, tokens_of, windows_of
from yuyan.tasks.question_text import NOWHERE, Form, Given, Layout, Misplaced, Question, layout_of, read_questions
from yuyan.text import DataConfig
from yuyan.text.survey import Survey
from yuyan.tokens import Tokenizer

PUBLISHED_LONGEST = 150  # characters; a published folder does not say it
SHOWN = 3


class FindAnswer(Config):
    """Where in a text the answer to a question stands, or that it has none there."""

    kind: Literal["answer"] = "answer"
    form: Form | None = None
    """How files are written: squad (articles, paragraphs, questions), or rows; by default found and written down."""
    question: str | None = None
    """The name of the questions; by default found."""
    context: str | None = None
    """The name of the texts that they are asked about; by default found."""
    answer: str | None = None
    """The name of the answers; by default found."""
    start: str | None = None
    """In rows, the name of the number of an answer's first character; without it the answer's first place is taken."""
    id: str | None = None
    """The name of what a question is known by; by default found; without one it is its place in the file."""
    misplaced: Misplaced = "error"
    """Answers that do not stand where they are said to: stop and say where they do, or take the nearest place; one that
    stands nowhere is then measured by, but not learned."""
    unanswerable: bool | None = None
    """Whether a question may have no answer; by default whether one of the training data has none."""
    longest: int | None = Field(None, gt=0)
    """Characters of the longest answer to give; by default those of the longest in the training data."""
    threshold: float | None = None
    """How far the score of no answer must be above the best answer's; by default chosen on the validation data."""
    n_best: int = Field(5, ge=1)
    """How many answers to say, likeliest first."""
    compare: Literal["context", "words", "characters"] = "context"
    """How answers are compared with the right ones: by words, by characters, or as the language of the context asks."""
    too_long: Literal["error", "window"] = "error"
    """Contexts longer than the model reads: stop and count them, or read them in windows that overlap."""
    overlap: int | None = Field(None, ge=0)
    """Tokens that neighbouring windows share; by default a third of the room for the context."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the scores, where the model's family has it."""

    def found(self, files: Survey, data: DataConfig) -> FindAnswer:
        """With form and names of these files. Raises DataError."""
        return self._found(files, data, labelled=True)

    def found_texts(self, files: Survey, data: DataConfig) -> FindAnswer:
        """With the names in files whose answers are not known. Raises DataError."""
        return self._found(files, data, labelled=False)

    def _found(self, files: Survey, data: DataConfig, *, labelled: bool) -> FindAnswer:
        trained = self.longest is not None  # other files may be written in another way
        return self.model_copy(
            update=layout_of(files, data, self._layout, labelled=labelled, lenient=trained)._asdict()
        )

    @property
    def _layout(self) -> Layout:
        return Layout(self.form, self.question, self.context, self.answer, self.start, self.id)

    def read(self, files: Survey, data: DataConfig, *, labelled: bool = True) -> list[Question]:
        """The records. Raises DataError naming file and line, or the question."""
        records, odd = read_questions(files, data, self._layout, self.misplaced, labelled=labelled)
        for places, said in (
            (odd.moved, "answers do not stand where they are said to, and were looked for: the nearest place is taken"),
            (odd.nowhere, "answers stand nowhere in their context: measured by, not learned"),
            (odd.ambiguous, f"answers stand at several places of their context, and no {self.start or 'answer_start'} says "
             "at which: the first is taken"),
        ):  # fmt: skip
            if places:
                warn(f"{places[0]}: {len(places):,} {said}; this is the first")
        if odd.passed_over.bad:
            warn(f"{odd.passed_over.bad:,} records are passed over; the first: {odd.passed_over.samples[0]}")
        return records

    def records_of(self, asked: Sequence[Any]) -> list[Question]:
        """Questions to be answered, as mappings with question and context. Raises InputError for what is none."""
        found = []
        for number, each in enumerate(asked):
            if not isinstance(each, Mapping) or not {"question", "context"} <= each.keys():
                raise InputError(f"question {number}: expected a mapping with `question` and `context`")
            for key in ("question", "context"):
                if not isinstance(each[key], str) or not each[key].strip():
                    raise InputError(
                        f"question {number}: its {key} is " + ("empty" if isinstance(each[key], str) else "not a text")
                    )
            ident, where = str(each.get("id", number)), f"question {number}"
            found.append(Question(ident, each["question"], each["context"], (), where))
        return found

    def with_labels(self, records: Sequence[Question]) -> FindAnswer:
        """With what the training answers are like. Raises DataError where there is none to learn."""
        there = [len(given.text) for record in records for given in record.answers if given.start != NOWHERE]
        if not there:
            raise DataError(f"{records[0].where}: no answer in {len(records):,} questions; there is nothing to learn")
        none = any(not record.answers for record in records)
        if none and self.unanswerable is False:
            first = next(record for record in records if not record.answers)
            raise DataError(f"{first.where}: it has no answer, and task.unanswerable is false")
        return self.model_copy(
            update={
                "unanswerable": none if self.unanswerable is None else self.unanswerable,
                "longest": self.longest or max(there),
            }
        )

    def suited(self, network: Network) -> FindAnswer:
        """Any network can be given a head for this."""
        return self

    @property
    def unsettled(self) -> bool:
        """Whether something is to be chosen on the validation data."""
        return bool(self.unanswerable) and self.threshold is None

    def texts(self, records: Sequence[Question]) -> list[str]:
        """What a tokenizer is trained on: each context and each question once."""
        return list(dict.fromkeys(text for record in records for text in (record.context, record.question)))

    def record(self, plain: dict[str, Any]) -> Question:
        """A record as it was stored."""
        return Question(**plain | {"answers": tuple(Given(*each) for each in plain["answers"])})

    def build(self, tokenizer: Tokenizer, length: int | None) -> FindAnswerTask:
        """The task; `length` is how many tokens the network reads."""
        return FindAnswerTask(self, tokenizer, length)

    def way(self, record: Question) -> Way:
        """How answers to this question are compared."""
        return way_of(record.context) if self.compare == "context" else self.compare


class Span(NamedTuple):
    """A stretch of a context: characters `start` to `end`, which is exclusive, and its score."""

    text: str
    start: int
    end: int
    score: float


class Said(NamedTuple):
    """What is said to a question: its best spans, the score of no answer above that of the best, and whether that is said."""

    question: str
    id: str
    spans: tuple[Span, ...]
    null: float
    none: bool
    unanswerable: bool

    @property
    def text(self) -> str | None:
        """The answer; None where there is none."""
        return None if self.none else self.spans[0].text

    def plain(self) -> dict[str, Any]:
        """As JSON can say it; probabilities are shares among the best spans and, where it may be said, no answer."""
        scores = np.array([span.score for span in self.spans] + [self.spans[0].score + self.null] * self.unanswerable)
        powers = np.exp(scores - scores.max())
        shares = (powers / powers.sum()).tolist()
        best = [
            {"answer": span.text, "start": span.start, "end": span.end, "probability": round(share, 6)}
            for span, share in zip(self.spans, shares, strict=False)
        ]
        nothing = {"answer": None, "start": None, "end": None, "probability": round(shares[-1], 6)}
        first = nothing if self.none else best[0]
        said = {"id": self.id, "question": self.question, **first}
        return said | ({"no_answer": round(shares[-1], 6)} if self.unanswerable else {}) | {"best": best}


@dataclass(frozen=True)
class FindAnswerTask:
    """The task; see the module."""

    config: FindAnswer
    tokenizer: Tokenizer
    length: int | None
    labels: ClassVar[tuple[str, ...]] = ()
    looks: ClassVar[int | None] = None
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "texts"

    def head(self, like: NetworkModule) -> LabelHead:
        """Scores of each token, as first and as last of the answer."""
        start = self.tokenizer.special.start
        return label_head(like.config, SPAN, tokens=True, start=start, dropout=self.config.dropout)

    # ------------------------------------------------------------ training

    def items(self, records: Sequence[Question], *, labelled: bool = True) -> Pieces:
        """Windows of the contexts, each behind its question. Where `labelled`, questions whose answers stand nowhere are
        left out, and it is said how many answers cannot be learned as they are.
        """
        frame = self.tokenizer.pair_frame
        around = len(frame.begin) + len(frame.middle) + len(frame.end)
        texts = list(dict.fromkeys(record.question for record in records))
        questions = dict(zip(texts, self.tokenizer.encode_batch(texts), strict=True))
        contexts = read_contexts(self.tokenizer, [record.context for record in records])
        sizes = [around + len(questions[r.question]) + len(contexts[r.context].ids) for r in records]
        over = sum(self.length is not None and size > self.length for size in sizes)
        if over and self.config.too_long == "error":
            raise too_long(sizes, self.length, records, "window")
        items, owners = list[Item](), list[int]()
        lost, cut = list[str](), list[str]()
        for owner, record in enumerate(records):
            context, question = contexts[record.context], questions[record.question]
            room = None if self.length is None else self.length - around - len(question)
            windows = list(windows_of(len(context.ids), room, self.config.overlap, record.where))
            span = None
            if labelled and record.answers:
                given, span = tokens_of(context, record.answers)
                if span is None or not any(start <= span[0] and span[1] < stop for start, stop in windows):
                    lost.append(record.where)
                    continue
                if (context.starts[span[0]], context.ends[span[1]]) != (given.start, given.start + len(given.text)):
                    cut.append(record.where)
            for start, stop in windows:
                items.append(self._item(question, context, start, stop, span, labelled=labelled))
                owners.append(owner)
        say_unlearned(lost, cut)
        return Pieces(items, owners, max(sizes, default=0), over)

    def _item(
        self, question: list[int], context: Read, start: int, stop: int, span: tuple[int, int] | None, *, labelled: bool
    ) -> Item:
        frame = self.tokenizer.pair_frame
        parts = (frame.begin, question, frame.middle, context.ids[start:stop], frame.end)
        ids = np.array([number for part in parts for number in part], np.int32)  # half the memory of a large data set
        first = sum(map(len, parts[:3]))
        allowed = np.zeros(len(ids), bool)
        allowed[first : first + stop - start] = context.ends[start:stop] > context.starts[start:stop]
        allowed[0] = True  # no answer
        item: Item = {
            "input_ids": ids, "answer_mask": allowed, "first": first,
            "token_type_ids": np.repeat(np.array(frame.segments, np.int32), [len(part) for part in parts]),
            "starts": context.starts[start:stop], "ends": context.ends[start:stop],
        }  # fmt: skip
        if labelled:
            inside = span is not None and start <= span[0] and span[1] < stop
            places = (span[0] - start + first, span[1] - start + first) if inside and span is not None else (0, 0)
            item["start_positions"], item["end_positions"] = (np.array(place, np.int64) for place in places)
        return item

    def example(self, item: Item, random: np.random.Generator) -> Example:
        """Nothing is drawn: the item is the example."""
        ids = {name: item[name].astype(np.int64) for name in ("input_ids", "token_type_ids")}
        return ids | {name: item[name] for name in ("answer_mask", "start_positions", "end_positions")}

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Nats, the mean of those of the beginning and of the end; the count is 1 a window.

        Only what can be answered is a choice: the tokens of the context, and no answer.
        """
        starts, ends = self._scores(model, batch)
        each = (F.cross_entropy(starts, batch["start_positions"], reduction="none")
                + F.cross_entropy(ends, batch["end_positions"], reduction="none")) / 2  # fmt: skip
        return Loss(each, torch.ones_like(batch["start_positions"]))

    def _scores(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T) each."""
        scores = model.classify(batch["input_ids"], batch.get("attention_mask"), segments(model, batch)).float()
        starts, ends = scores.masked_fill(~batch["answer_mask"][:, :, None], float("-inf")).unbind(-1)
        return starts, ends

    @torch.no_grad()
    def marks(self, model: Any, batch: Batch) -> Marks:
        """The loss, and the share of windows whose beginning and end are right."""
        starts, ends = self._scores(model, batch)
        right = (starts.argmax(1) == batch["start_positions"]) & (ends.argmax(1) == batch["end_positions"])
        loss = self.loss(model, batch)
        return {"loss": loss, "accuracy": Loss(right.float(), loss.count)}

    def drawn(self, pieces: Pieces) -> np.ndarray | None:
        """Every window once an epoch."""
        return None

    # ------------------------------------------------------------ saying

    def described(self, parts: Mapping[str, Sequence[Question]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: questions, contexts, those without an answer, the longest answer."""
        counts = {
            "questions": [len(part) for part in parts.values()],
            "contexts": [len({record.context for record in part}) for part in parts.values()],
            "without an answer": [sum(not record.answers for record in part) for part in parts.values()],
            "characters of the longest answer": [
                max((len(given.text) for record in part for given in record.answers), default=0)
                for part in parts.values()
            ],
        }
        return ["", *parts], [[name, *(f"{number:,}" for number in row)] for name, row in counts.items()]

    def remarks(self, parts: Mapping[str, Sequence[Question]]) -> list[str]:
        """What is odd about the data: parts in two languages, questions without an answer that training does not have."""
        said = []
        ways = {name: {way_of(record.context) for record in part} for name, part in parts.items()}
        if self.config.compare == "context":
            mixed = [name for name, found in ways.items() if len(found) > 1]
            said += [f"{name}: some contexts are Chinese and some are not; answers are compared by characters in the first, "
                     "by words in the others (task.compare)" for name in mixed]  # fmt: skip
        for name, part in parts.items():
            none = [record for record in part if not record.answers]
            if none and not self.config.unanswerable:
                said.append(f"{name}: {len(none):,} questions have no answer, which training does not have: they count as "
                            f"wrong; the first is {none[0].where}")  # fmt: skip
        return said

    # ------------------------------------------------------------ answering

    def answer(self, network: NetworkModule, records: Sequence[Question]) -> list[Said]:
        """The best spans of each question's context, from all its windows."""
        pieces = self.items(records, labelled=False)
        spans: list[dict[tuple[int, int], float]] = [{} for _ in records]
        nulls = np.full(len(records), np.inf)
        for owner, item, scores in zip(pieces.owners, pieces.items, label_scores(network, pieces.items), strict=True):
            nulls[owner] = min(nulls[owner], scores[0].sum())
            for start, end, score in self._best(item, scores):
                spans[owner][start, end] = max(score, spans[owner].get((start, end), -np.inf))
        return [self._said(*each) for each in zip(records, spans, nulls.tolist(), strict=True)]

    def _best(self, item: Item, scores: np.ndarray) -> list[tuple[int, int, float]]:
        """The best spans of a window, as characters, and their scores."""
        first, count = item["first"], len(item["starts"])
        allowed = item["answer_mask"][first : first + count]
        begin, stop = (np.where(allowed, scores[first : first + count, side], -np.inf) for side in (0, 1))
        longest = item["ends"].max(initial=0) if self.config.longest is None else self.config.longest
        until = np.searchsorted(item["ends"], item["starts"] + longest, "right")
        return [
            (int(item["starts"][i]), int(item["ends"][j]), float(begin[i] + stop[j]))
            for i, j in best_spans(begin, stop, until, self.config.n_best)
        ]

    def _said(self, record: Question, spans: dict[tuple[int, int], float], null: float) -> Said:
        best = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[: self.config.n_best]
        if not best:
            raise DataError(f"{record.where}: no token of its context is one that an answer can consist of")
        above = null - best[0][1]
        none = bool(self.config.unanswerable) and above > (self.config.threshold or 0.0)
        said = tuple(Span(record.context[start:end], start, end, score) for (start, end), score in best)
        return Said(record.question, record.id, said, above, none, bool(self.config.unanswerable))

    def settled(self, answers: Sequence[Said], records: Sequence[Question]) -> FindAnswer:
        """With the threshold by which the mean F1 on validation questions is highest."""
        above = np.array([answer.null for answer in answers])
        given = np.array([self._mark(answer.spans[0].text, r).f1 for answer, r in zip(answers, records, strict=True)])
        silent = np.array([self._mark(None, record).f1 for record in records])
        return self.config.model_copy(update={"threshold": silence_threshold(above, given, silent)})

    # ------------------------------------------------------------ measuring

    def _mark(self, text: str | None, record: Question) -> AnswerMarks:
        return mark(text, [given.text for given in record.answers], self.config.way(record))

    def scores(self, answers: Sequence[Said], records: Sequence[Question], *, draws: int) -> Scores:
        """F1 and exact match, over all and over questions with and without an answer."""
        marks = [self._mark(answer.text, record) for answer, record in zip(answers, records, strict=True)]
        return score_answers(marks, [bool(r.answers) for r in records], [not a.none for a in answers], draws)

"""Tagging: a label for each word; labels of spans (entities, chunks) or of words (parts of speech).

A word is scored at its first piece, as in Devlin et al. 2019, section 5.3; the best sequence of labels is that without a
span which starts inside (Viterbi over the scores, forbidden steps left out).

B texts, T tokens, W words, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from yuyan.config import Config
from yuyan.console import warn
from yuyan.errors import DataError, InputError
from yuyan.hub.families import label_head
from yuyan.metrics.score import Scores
from yuyan.metrics.spans import OUTSIDE, Scheme, parted, score_spans, score_words, spans_of
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.head import LabelHead
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks
from yuyan.tasks.base import Item, Pieces, and_others, label_scores, too_long
from yuyan.tasks.labelled_text import Layout as TextLayout
from yuyan.tasks.labelled_text import read_labelled, text_column
from yuyan.tasks.tagged_text import Layout, Sentence, are_columns, layout_of, read_tagged, words_of
from yuyan.text import DataConfig
from yuyan.text.survey import Survey
from yuyan.tokens import Tokenizer

MOST_SHOWN = 20  # labels in a table


class Tag(Config):
    """Which label each word of a text has."""

    kind: Literal["tag"] = "tag"
    words: int | str | None = None
    """The column of the words: a number from 1 in columns, a name in JSON; by default found and written down."""
    tags: int | str | None = None
    """The column of the tags; by default the last."""
    text: str | None = None
    """In JSON with spans, the name of the text."""
    spans: str | None = None
    """In JSON with spans, the name of their list: each has start, end and label, in characters of the text."""
    joint: str | None = None
    """What stands between words: a space, or nothing where words are characters; by default found."""
    scheme: Scheme | None = None
    """How spans are written: iob1, bio or bioes; none for labels of words. By default found; answers are in bio."""
    labels: tuple[str, ...] | None = None
    """What is told apart; by default found in the training data."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the scores."""
    too_long: Literal["error", "split"] = "error"
    """Sentences longer than the model reads: stop and count them, or read them in parts."""

    def found(self, files: Survey, data: DataConfig) -> Tag:
        """With columns and scheme of these files. Raises DataError."""
        given = self._layout
        if self.labels is not None:  # other files may be written in another way
            given = Layout(tags=self.tags if isinstance(self.tags, int) else None, joint=self.joint)
        return self.model_copy(update=layout_of(files, data, given)._asdict())

    def found_texts(self, files: Survey, data: DataConfig) -> Tag:
        """With the column of the texts in files whose tags are not known. Raises DataError."""
        return self.model_copy(update={"text": text_column(files, data, self.text)})

    @property
    def _layout(self) -> Layout:
        return Layout(self.words, self.tags, self.text, self.spans, self.joint, self.scheme)

    def read(self, files: Survey, data: DataConfig, *, labelled: bool = True) -> list[Sentence]:
        """The records. Raises DataError naming file and line."""
        if not labelled:
            texts = list(read_labelled(files, data, TextLayout(text=self.text), labelled=False))
            if are_columns([text for text, _, _ in texts], self.labels or ()):
                raise DataError(
                    f"{texts[0].where}: a word and its tag in each line, where a text in each was expected; a file with tags is "
                    "measured on (yuyan evaluate)"
                )
            return [self._sentence(text, where) for text, _, where in texts]
        records, odd = read_tagged(files, data, self._layout)
        if odd:
            warn(f"{odd[0]}: a span starts inside or does not end as {self.scheme} has it; it is read as conlleval does "
                 f"({len(odd):,} such sentences)")  # fmt: skip
        return records

    def _sentence(self, text: str, where: str) -> Sentence:
        words = tuple(word for word, _ in words_of(text))
        return Sentence(words, (), where, " " if self.joint is None else self.joint, text)

    def suited(self, network: Network) -> Tag:
        """Any network can be given labels."""
        return self

    def records_of(self, texts: Sequence[str]) -> list[Sentence]:
        """Texts to be answered, cut into words. Raises InputError for what is no text, or an empty one."""
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"text {number}: " + ("it is empty" if isinstance(text, str) else "expected a text"))
        return [self._sentence(text, f"text {number}") for number, text in enumerate(texts)]

    def with_labels(self, records: Sequence[Sentence]) -> Tag:
        """With the labels of the training records; of spans in BIO, O first. Raises DataError."""
        there = {tag for record in records for tag in record.tags}
        if self.scheme != "none":
            types = sorted({parted(tag)[1] for tag in there if tag != OUTSIDE})
            every = (OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI"))
        else:
            every = tuple(sorted(there))
        labels = self.labels if self.labels is not None else every
        if len(every) < 2:
            raise DataError(
                f"{records[0].where}: only the tag {every[0]!r} in {len(records):,} sentences; there is nothing to learn"
            )
        if unknown := sorted(there - set(labels)):
            first = next(record for record in records if unknown[0] in record.tags)
            raise DataError(f"{first.where}: tag {unknown[0]!r} is not one of task.labels: {', '.join(labels[:12])}")
        return self.model_copy(update={"labels": labels})

    @property
    def unsettled(self) -> bool:
        """Nothing is to be chosen on the validation data."""
        return False

    def texts(self, records: Sequence[Sentence]) -> list[str]:
        """What a tokenizer is trained on."""
        return [record.text for record in records]

    def record(self, plain: dict[str, Any]) -> Sentence:
        """A record as it was stored."""
        return Sentence(tuple(plain["words"]), tuple(plain["tags"]), plain["where"], plain["joint"])

    def build(self, tokenizer: Tokenizer, length: int | None) -> TagTask:
        """The task; `length` is how many tokens the network reads."""
        assert self.labels is not None, "with_labels"
        return TagTask(self, self.labels, tokenizer, length)


class Tagged(NamedTuple):
    """A sentence and the label of each of its words; spans are read from them."""

    sentence: Sentence
    tags: tuple[str, ...]
    of_spans: bool
    sure: float = 1.0
    """The probability of the least sure of the tags."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the sentence."""
        return self.sentence.words

    def plain(self) -> dict[str, Any]:
        """As JSON can say it; spans count words from 0, their ends are exclusive."""
        tags = {"text": self.sentence.shown, "words": list(self.words), "tags": list(self.tags),
                "probability": round(self.sure, 6)}  # fmt: skip
        if not self.of_spans:
            return tags
        return tags | {
            "spans": [
                {"type": span.type, "start": span.start, "end": span.end,
                 "text": self.sentence.part(span.start, span.end)}
                for span in spans_of(self.tags)
            ]
        }  # fmt: skip


@dataclass(frozen=True)
class TagTask:
    """The task; see the module."""

    config: Tag
    labels: tuple[str, ...]
    tokenizer: Tokenizer
    length: int | None
    looks: ClassVar[int | None] = None
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "tokens"

    def head(self, like: NetworkModule) -> LabelHead:
        """Scores of each token."""
        start = self.tokenizer.special.start
        return label_head(like.config, self.labels, tokens=True, start=start, dropout=self.config.dropout)

    # ------------------------------------------------------------ training

    def items(self, records: Sequence[Sentence], *, labelled: bool = True) -> Pieces:
        """Sentences between the control tokens, words in pieces; `first` says where each word begins, -1 if nowhere."""
        begin, end = self.tokenizer.frame
        room = None if self.length is None else max(1, self.length - len(begin) - len(end))
        items, owners, sizes = list[Item](), list[int](), list[int]()
        encoded = self._encoded(records)
        numbers = {label: number for number, label in enumerate(self.labels)}
        for owner, (record, words) in enumerate(zip(records, encoded, strict=True)):
            sizes.append(sum(map(len, words)) + len(begin) + len(end))
            for start, stop in _parts([len(word) for word in words], room):
                item = self._item(words[start:stop], begin, end)
                if labelled:
                    labels = np.full(len(item["input_ids"]), IGNORE, np.int64)
                    for first, tag in zip(item["first"], record.tags[start:stop], strict=True):
                        if first >= 0:
                            labels[first] = numbers.get(tag, IGNORE)
                    item["labels"] = labels
                items.append(item)
                owners.append(owner)
        over = sum(self.length is not None and size > self.length for size in sizes)
        if over and self.config.too_long == "error":
            raise too_long(sizes, self.length, records, "split")
        return Pieces(items, owners, max(sizes, default=0), over)

    def _encoded(self, records: Sequence[Sentence]) -> list[list[list[int]]]:
        """The pieces of each word, each different one encoded once."""
        spaced = [[(record.joint if i else "") + word for i, word in enumerate(record.words)] for record in records]
        distinct = list(dict.fromkeys(word for words in spaced for word in words))
        ids = dict(zip(distinct, self.tokenizer.encode_batch(distinct), strict=True))
        return [[ids[word] for word in words] for words in spaced]

    def _item(self, words: Sequence[Sequence[int]], begin: Sequence[int], end: Sequence[int]) -> Item:
        ids, first = list(begin), list[int]()
        for pieces in words:
            blank = next((i for i, piece in enumerate(pieces) if self.tokenizer.pieces.join([piece]).strip()), 0)
            first.append(len(ids) + blank if pieces else -1)
            ids += pieces
        return {"input_ids": np.array([*ids, *end], np.int64), "first": first}

    def example(self, item: Item, random: np.random.Generator) -> Example:
        """Nothing is drawn: the item is the example."""
        return {"input_ids": item["input_ids"], "labels": item["labels"]}

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Nats, summed over the words of a text; the count is how many they are."""
        scores = model.classify(batch["input_ids"], batch.get("attention_mask")).float()
        labels = batch["labels"]
        each = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none")
        return Loss(each.view(labels.shape).sum(1), (labels != IGNORE).sum(1))

    @torch.no_grad()
    def marks(self, model: Any, batch: Batch) -> Marks:
        """The loss, and the share of words with the right label."""
        scores, labels = model.classify(batch["input_ids"], batch.get("attention_mask")), batch["labels"]
        right = (scores.argmax(-1) == labels).float().sum(1)
        return {"loss": self.loss(model, batch), "accuracy": Loss(right, (labels != IGNORE).sum(1))}

    def drawn(self, pieces: Pieces) -> np.ndarray | None:
        """Every item once an epoch."""
        return None

    # ------------------------------------------------------------ saying

    def described(self, parts: Mapping[str, Sequence[Sentence]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: how many spans (or words) of each type are in each part."""
        counts = {
            name: Counter(kind for record in part for kind in self._types(record)) for name, part in parts.items()
        }
        names = sorted({kind for each in counts.values() for kind in each}, key=lambda n: (-counts["train"][n], n))
        rows = [[kind, *(f"{counts[part][kind]:,}" for part in parts)] for kind in names[:MOST_SHOWN]]
        if len(names) > MOST_SHOWN:
            rows.append([f"... {len(names) - MOST_SHOWN} more", *("" for _ in parts)])
        rows.append(["sentences", *(f"{len(part):,}" for part in parts.values())])
        return ["type" if self._of_spans else "tag", *parts], rows

    def _types(self, record: Sentence) -> Sequence[str]:
        return [span.type for span in spans_of(record.tags)] if self._of_spans else record.tags

    @property
    def _of_spans(self) -> bool:
        return self.config.scheme != "none"

    def remarks(self, parts: Mapping[str, Sequence[Sentence]]) -> list[str]:
        """What is odd about the data: tags that cannot be learned, a part without a span to be found."""
        said = []
        for name, part in parts.items():
            unknown = Counter(tag for record in part for tag in record.tags if tag not in self.labels)
            if unknown:
                tag = unknown.most_common(1)[0][0]
                first = next(record.where for record in part if tag in record.tags)
                said.append(f"{name}: {sum(unknown.values()):,} tags that training does not have count as wrong: {tag!r} "
                            f"{unknown[tag]} times, first in {first}{and_others(len(unknown) - 1)}")  # fmt: skip
            if name != "train" and self._of_spans and not any(spans_of(record.tags) for record in part):
                chooses = ", and the looks choose nothing" if name == "validation" else ""
                said.append(f"{name}: no span in its {len(part):,} sentences: F1 is 1 where none is found, else 0"
                            f"{chooses}; give sentences with spans (data.{name}, data.split.{name})")  # fmt: skip
        return said

    # ------------------------------------------------------------ answering

    def answer(self, network: NetworkModule, records: Sequence[Sentence]) -> list[Tagged]:
        """A label for each word; a word without a token has O, or the first label where there is none."""
        pieces = self.items(records, labelled=False)
        rows: list[list[np.ndarray]] = [[] for _ in records]
        silent = np.zeros(len(self.labels))
        silent[self.labels.index(OUTSIDE) if OUTSIDE in self.labels else 0] = 1.0
        for owner, item, scores in zip(pieces.owners, pieces.items, label_scores(network, pieces.items), strict=True):
            rows[owner] += [scores[first] if first >= 0 else silent for first in item["first"]]
        allowed = self._steps()
        return [self._tagged(record, np.array(row), allowed) for record, row in zip(records, rows, strict=True)]

    def _tagged(self, record: Sentence, scores: np.ndarray, allowed: np.ndarray) -> Tagged:
        """The best path through `scores` (T, L), and the least probability on it."""
        path = best_path(scores, allowed)
        logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        sure = float(np.exp(logs[np.arange(len(path)), path].min(initial=0.0)))
        return Tagged(record, tuple(self.labels[i] for i in path), self._of_spans, sure)

    def _steps(self) -> np.ndarray:
        """(L + 1, L): which label may follow which; the last row is the beginning. I-X follows B-X and I-X only, but for a
        published model that has no B-X.
        """
        allowed = np.ones((len(self.labels) + 1, len(self.labels)), bool)
        if self._of_spans:
            for column, label in enumerate(self.labels):
                letter, kind = parted(label)
                if letter == "I" and f"B-{kind}" in self.labels:
                    allowed[:, column] = [*(parted(each) in (("B", kind), ("I", kind)) for each in self.labels), False]
        return allowed

    def settled(self, answers: Sequence[Tagged], records: Sequence[Sentence]) -> Tag:
        """There is nothing to choose on validation data."""
        return self.config

    # ------------------------------------------------------------ measuring

    def scores(self, answers: Sequence[Tagged], records: Sequence[Sentence], *, draws: int) -> Scores:
        """Precision, recall and F1 of spans; of labels of words the share of right ones."""
        measure = score_spans if self._of_spans else score_words
        return measure([record.tags for record in records], [answer.tags for answer in answers], draws)


def _parts(sizes: Sequence[int], room: int | None) -> list[tuple[int, int]]:
    """Words in parts of at most `room` tokens; a word longer than that is a part of its own."""
    parts, start, held = list[tuple[int, int]](), 0, 0
    for number, size in enumerate(sizes):
        if room is not None and held + size > room and number > start:
            parts.append((start, number))
            start, held = number, 0
        held += size
    return [*parts, (start, len(sizes))]


def best_path(scores: np.ndarray, allowed: np.ndarray) -> list[int]:
    """The labels of (W, L) scores with the highest sum whose steps are all `allowed`."""
    if not len(scores):
        return []
    if allowed.all():
        return [int(i) for i in scores.argmax(1)]
    penalty = np.where(allowed, 0.0, -np.inf)
    norm = scores - scores.max(1, keepdims=True)
    logs = norm - np.log(np.exp(norm).sum(1, keepdims=True))
    best, back = logs[0] + penalty[-1], []
    for row in logs[1:]:
        through = best[:, None] + penalty[:-1]
        back.append(through.argmax(0))
        best = through.max(0) + row
    path = [int(best.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return path[::-1]

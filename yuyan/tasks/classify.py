"""Classification: one label a text, or several; texts that belong to none of the labels may be told apart.

The loss is cross-entropy, of one label among all or of each label by itself; what is outside of the labels is known by
the model's doubt: one minus its largest probability (Hendrycks & Gimpel 2017), or the energy -logsumexp of its scores
(Liu et al. 2020, equation 4).

B texts, T tokens, L labels, N records.
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
from yuyan.metrics.classify import SLOW_DRAWS, WeightedAuroc, auroc, score_labels, score_sets
from yuyan.metrics.interval import resampled
from yuyan.metrics.score import Scores, Value
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.head import LabelHead
from yuyan.objectives.base import Batch, Counted, Example, Loss, Marks
from yuyan.tasks.base import Item, Pieces, and_others, label_scores, too_long
from yuyan.tasks.labelled_text import Labelled, Layout, layout_of, read_labelled, text_column
from yuyan.text import DataConfig
from yuyan.text.survey import Survey
from yuyan.tokens import Tokenizer

MOST_SHOWN = 20  # labels in a table


class Classify(Config):
    """Which label a text has, or which labels."""

    kind: Literal["classify"] = "classify"
    text: str | None = None
    """The column of the texts; by default found and written down."""
    label: str | None = None
    """The column of the labels; by default found and written down."""
    separator: str | None = Field(None, min_length=1)
    """What divides several labels in one cell."""
    lines: Literal["first", "tab_first", "tab_last", "prefix"] | None = None
    """Where a line of plain text has its label: its first word, before or after the tab, words with __label__."""
    several: bool | None = None
    """Whether a text may have any number of labels; by default found and written down."""
    labels: tuple[str, ...] | None = None
    """What is told apart; by default found in the training data, in the order of the alphabet."""
    counts: tuple[int, ...] | None = None
    """How many training texts have each label; found."""
    outside: str | None = None
    """The label of texts that belong to none: not learned, but told apart by the model's doubt."""
    doubt: Literal["softmax", "energy"] = "softmax"
    """What the doubt is: one minus the largest probability, or the energy of the scores."""
    threshold: float | None = None
    """Doubt from which a text is outside; by default chosen on the validation data."""
    pool: Literal["first", "last", "mean"] | None = None
    """What stands for a text; by default as the model's family has it, else the mean."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the scores."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Rare labels count more (N / (L n), n texts with the label), or are drawn more often."""
    too_long: Literal["error", "window", "truncate"] = "error"
    """Texts longer than the model reads: stop and count them; read all of it in windows, whose probabilities are averaged;
    read the beginning only."""

    def found(self, files: Survey, data: DataConfig) -> Classify:
        """With columns and format of these files. Raises DataError."""
        layout = layout_of(files, data, self._layout, lenient=self.labels is not None)
        return self.model_copy(update=layout._asdict())

    def found_texts(self, files: Survey, data: DataConfig) -> Classify:
        """With the column of the texts in files whose labels are not known. Raises DataError."""
        return self.model_copy(update={"text": text_column(files, data, self.text)})

    @property
    def _layout(self) -> Layout:
        return Layout(self.text, self.label, self.lines, self.several, self.separator)

    def read(self, files: Survey, data: DataConfig, *, labelled: bool = True) -> list[Labelled]:
        """The records. Raises DataError naming file and line."""
        return list(read_labelled(files, data, self._layout, labelled=labelled))

    def with_labels(self, records: Sequence[Labelled]) -> Classify:
        """With the labels of the training records. Raises DataError where there is nothing to tell apart."""
        several = bool(self.several)
        there = Counter(label for record in records for label in record.labels if label != self.outside)
        labels = self.labels if self.labels is not None else tuple(sorted(there))
        if len(labels) < (1 if several else 2):
            only = f"only the label {labels[0]!r}" if labels else "no label"
            raise DataError(f"{records[0].where}: {only} in {len(records):,} texts; there is nothing to tell apart")
        if unknown := sorted(there.keys() - set(labels)):
            first = next(record for record in records if unknown[0] in record.labels)
            raise DataError(f"{first.where}: label {unknown[0]!r} is not one of task.labels: {', '.join(labels[:12])}")
        counts = tuple(there[label] for label in labels)
        if missing := [label for label, count in zip(labels, counts, strict=True) if not count]:
            warn(f"no training text has the label {', '.join(map(repr, missing[:5]))}")
        return self.model_copy(update={"labels": labels, "counts": counts, "several": several})

    def suited(self, network: Network) -> Classify:
        """Any network can be given labels."""
        return self

    def records_of(self, texts: Sequence[str]) -> list[Labelled]:
        """Texts to be answered. Raises InputError for what is no text, or an empty one."""
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"text {number}: " + ("it is empty" if isinstance(text, str) else "expected a text"))
        return [Labelled(text, (), f"text {number}") for number, text in enumerate(texts)]

    @property
    def unsettled(self) -> bool:
        """Whether something is to be chosen on the validation data."""
        return self.outside is not None and self.threshold is None

    def texts(self, records: Sequence[Labelled]) -> list[str]:
        """What a tokenizer is trained on."""
        return [record.text for record in records]

    def record(self, plain: dict[str, Any]) -> Labelled:
        """A record as it was stored."""
        return Labelled(plain["text"], tuple(plain["labels"]), plain["where"])

    def build(self, tokenizer: Tokenizer, length: int | None) -> ClassifyTask:
        """The task; `length` is how many tokens the network reads."""
        assert self.labels is not None, "with_labels"
        return ClassifyTask(self, self.labels, tokenizer, length)


class Verdict(NamedTuple):
    """What is said of a text: its labels, likeliest first, the probability of every label, and the doubt."""

    labels: tuple[str, ...]
    probabilities: dict[str, float]
    doubt: float
    several: bool

    def plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        shown = {label: round(value, 6) for label, value in self.probabilities.items()}
        if self.several:
            return {"labels": list(self.labels), "probabilities": shown}
        (label,) = self.labels
        return {"label": label, "probability": round(max(self.probabilities.values()), 6), "probabilities": shown}


@dataclass(frozen=True)
class ClassifyTask:
    """The task; see the module."""

    config: Classify
    labels: tuple[str, ...]
    tokenizer: Tokenizer
    length: int | None
    looks: ClassVar[int | None] = None
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "texts"

    def head(self, like: NetworkModule) -> LabelHead:
        """Scores of a text."""
        pool = {} if self.config.pool is None else {"pool": self.config.pool}
        return label_head(
            like.config,
            self.labels,
            tokens=False,
            start=self.tokenizer.special.start,
            several=bool(self.config.several),
            dropout=self.config.dropout,
            **pool,
        )

    # ------------------------------------------------------------ training

    def items(self, records: Sequence[Labelled], *, labelled: bool = True) -> Pieces:
        """Texts with the control tokens of the tokenizer; those outside are not learned, and left out where `labelled`."""
        begin, end = self.tokenizer.frame
        numbers = [i for i, record in enumerate(records) if not labelled or self._truth(record) is not None]
        encoded = self.tokenizer.encode_batch([records[i].text for i in numbers])
        sizes = [len(begin) + len(ids) + len(end) for ids in encoded]
        over = sum(self.length is not None and size > self.length for size in sizes)
        if over and self.config.too_long == "error":
            raise too_long(sizes, self.length, [records[i] for i in numbers], "window or truncate")
        items, owners = list[Item](), list[int]()
        for i, ids in zip(numbers, encoded, strict=True):
            for piece in self._cut(ids, len(begin) + len(end)):
                item: Item = {"input_ids": np.array([*begin, *piece, *end], np.int64)}
                if labelled:
                    item["labels"] = self._truth(records[i])
                items.append(item)
                owners.append(i)
        return Pieces(items, owners, max(sizes, default=0), over)

    def _cut(self, ids: list[int], frame: int) -> list[list[int]]:
        """The text, its beginning, or windows of equal length that overlap as little as that allows."""
        room = len(ids) if self.length is None else max(1, self.length - frame)
        if len(ids) <= room:
            return [ids]
        if self.config.too_long == "truncate":
            return [ids[:room]]
        count = -(-len(ids) // room)
        starts = np.linspace(0, len(ids) - room, count).round().astype(int)
        return [ids[start : start + room] for start in starts]

    def _truth(self, record: Labelled) -> np.ndarray | None:
        """The number of the label, or (L,) of 0 and 1; None for a text outside, or with a label that is not known."""
        if self.config.several:
            return np.array([label in record.labels for label in self.labels], np.float32)
        (label,) = record.labels
        return np.array(self.labels.index(label), np.int64) if label in self.labels else None

    def example(self, item: Item, random: np.random.Generator) -> Example:
        """Nothing is drawn: the item is the example."""
        return dict(item)

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Nats; the count is 1 a text. Of several labels the mean over them."""
        scores = model.classify(batch["input_ids"], batch.get("attention_mask")).float()
        labels = batch["labels"]
        if self.config.several:
            each = F.binary_cross_entropy_with_logits(scores, labels, reduction="none").mean(1)
        else:
            each = F.cross_entropy(scores, labels, reduction="none")
            if self.config.balance == "weights":
                each = each * self._weights(scores)[labels]
        return Loss(each, torch.ones_like(labels if labels.ndim == 1 else labels[:, 0], dtype=torch.int64))

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        counts = like.new_tensor(self.config.counts or [1] * len(self.labels))
        return counts.sum() / (len(counts) * counts.clamp(min=1))

    @torch.no_grad()
    def marks(self, model: Any, batch: Batch) -> Marks:
        """The loss, and the share of right labels."""
        scores, loss = model.classify(batch["input_ids"], batch.get("attention_mask")), self.loss(model, batch)
        if self.config.several:
            right = ((scores > 0) == (batch["labels"] > 0.5)).float().mean(1)
        else:
            right = (scores.argmax(1) == batch["labels"]).float()
        return {"loss": loss, "accuracy": Loss(right, loss.count)}

    def drawn(self, pieces: Pieces) -> np.ndarray | None:
        """The items of an epoch, where each label is to come equally often; None is every item once."""
        if self.config.balance != "sampling" or self.config.several:
            return None
        labels = np.array([int(item["labels"]) for item in pieces.items])
        most = int(np.bincount(labels).max())
        return np.concatenate([np.resize(np.flatnonzero(labels == label), most) for label in np.unique(labels)])

    # ------------------------------------------------------------ saying

    def described(self, parts: Mapping[str, Sequence[Labelled]]) -> tuple[list[str], list[list[str]]]:
        """Head and rows of a table: how often each label is in each part; of many labels the most and the least frequent."""
        counts = {name: Counter(label for record in part for label in record.labels) for name, part in parts.items()}
        names = sorted({label for each in counts.values() for label in each}, key=lambda n: (-counts["train"][n], n))
        shown = names if len(names) <= MOST_SHOWN else [*names[: MOST_SHOWN - 4], *names[-3:]]
        rows = [[label, *(f"{counts[part][label]:,}" for part in parts)] for label in shown]
        if len(names) > MOST_SHOWN:
            rows.insert(MOST_SHOWN - 4, [f"... {len(names) - len(shown)} more", *("" for _ in parts)])
        return ["label", *parts], rows

    def remarks(self, parts: Mapping[str, Sequence[Labelled]]) -> list[str]:
        """What is odd about the data: labels that cannot be learned, texts with two truths."""
        said = []
        for name, part in parts.items():
            unknown = Counter(
                label for r in part for label in r.labels if label not in (*self.labels, self.config.outside)
            )
            if unknown:
                label, count = unknown.most_common(1)[0]
                first = next(record.where for record in part if label in record.labels)
                said.append(f"{name}: {sum(unknown.values()):,} labels that training does not have count as wrong: "
                            f"{label!r} {count} times, first in {first}{and_others(len(unknown) - 1)}")  # fmt: skip
        truths: dict[str, Labelled] = {}
        doubtful = [r for r in parts["train"] if truths.setdefault(r.text, r).labels != r.labels]
        if doubtful:
            said.append(f"{len(doubtful):,} training texts have another label elsewhere, such as {doubtful[0].where} and "
                        f"{truths[doubtful[0].text].where}")  # fmt: skip
        return said

    # ------------------------------------------------------------ answering

    def answer(self, network: NetworkModule, records: Sequence[Labelled]) -> list[Verdict]:
        """One verdict a text; the probabilities of windows are averaged."""
        pieces = self.items(records, labelled=False)
        sums = np.zeros((len(records), len(self.labels)))
        doubts, counts = np.zeros(len(records)), np.zeros(len(records))
        for owner, scores in zip(pieces.owners, label_scores(network, pieces.items), strict=True):
            highest = scores.max()
            powers = np.exp(scores - highest)
            sums[owner] += 1 / (1 + np.exp(-scores)) if self.config.several else powers / powers.sum()
            doubts[owner] -= highest + np.log(powers.sum())
            counts[owner] += 1
        shares = sums / counts[:, None]
        doubts = doubts / counts if self.config.doubt == "energy" else 1 - shares.max(1)
        return [self._verdict(row, float(doubt)) for row, doubt in zip(shares, doubts, strict=True)]

    def _verdict(self, shares: np.ndarray, doubt: float) -> Verdict:
        several, config = bool(self.config.several), self.config
        order = np.argsort(-shares, kind="stable")
        chosen = [i for i in order if shares[i] > 0.5] if several else [order[0]]
        labels = tuple(self.labels[i] for i in chosen)
        if config.outside is not None and config.threshold is not None and doubt >= config.threshold:
            labels = (config.outside,)
        return Verdict(labels, {self.labels[i]: float(shares[i]) for i in order}, doubt, several)

    def settled(self, answers: Sequence[Verdict], records: Sequence[Labelled]) -> Classify:
        """With the threshold of doubt: where validation texts inside and outside are told apart best (the mean of the two
        shares of right decisions), else what 95 % of those inside stay below.
        """
        doubts = np.array([answer.doubt for answer in answers])
        outside = np.array([self.config.outside in record.labels for record in records])
        if not outside.any():
            return self.config.model_copy(update={"threshold": float(np.quantile(doubts, 0.95))})
        candidates = np.unique(doubts)
        right = [np.mean(doubts[outside] >= t) + np.mean(doubts[~outside] < t) for t in candidates]
        return self.config.model_copy(update={"threshold": float(candidates[int(np.argmax(right))])})

    # ------------------------------------------------------------ measuring

    def scores(self, answers: Sequence[Verdict], records: Sequence[Labelled], *, draws: int) -> Scores:
        """Accuracy and its kin over the texts that are not outside, and how well those outside are told apart."""
        outside = np.array([self.config.outside in record.labels for record in records])
        inside = [i for i in range(len(records)) if not outside[i]]
        if not inside:
            raise DataError(f"{records[0].where}: no text has one of the labels {', '.join(self.labels[:12])}")
        shares = np.array([[answers[i].probabilities[label] for label in self.labels] for i in inside])
        kept = [records[i] for i in inside]
        measure = score_sets if self.config.several else score_labels
        found = measure(self.labels, [record.labels for record in kept], shares, draws)
        if outside.any():
            doubts = np.array([answer.doubt for answer in answers])
            found.values["outside_auroc"] = Value(
                auroc(outside, doubts),
                resampled(len(doubts), WeightedAuroc(outside, doubts), draws=min(draws, SLOW_DRAWS)),
            )
        return found

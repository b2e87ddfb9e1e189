"""Connectionist temporal classification: a label sequence from more frames, without knowing where each label is.

    loss = -log of the sum, over all paths that become the labels, of the product over frames of p(symbol of the path)

A path becomes labels by first merging equal neighbours, then dropping blanks. So n labels, of which r equal the one before
them, need at least n + r frames; an example with fewer is skipped: its total and its count are 0 (`too_long` finds them).

Source: Graves et al. 2006, sections 3.1 and 4.1.
Relations: with as many frames as labels and no repetition it is the cross-entropy of each frame with its label.

B examples, T frames, U labels, V symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yuyan.config import Config
from yuyan.errors import ConfigError, DataError
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives.base import Batch, Counted, Example, LanguageNetwork, Loss, Marks, Vocabulary, as_ids, field_of


class Ctc(Config):
    """Label frames without an alignment."""

    kind: Literal["ctc"] = "ctc"

    def build(self, tokenizer: Vocabulary) -> CtcObjective:
        """With the blank, which is the pad token as in published models. Raises ConfigError if there is none."""
        if tokenizer.special.pad is None:
            raise ConfigError("objective: the tokenizer has no pad token, which ctc uses as the blank")
        return CtcObjective(tokenizer.special.pad)


@dataclass(frozen=True)
class CtcObjective:
    """The objective; see the module."""

    blank: int
    independent: ClassVar[bool] = True
    counted: ClassVar[Counted] = "texts"

    def example(self, item: Mapping[str, Any], random: np.random.Generator) -> Example:
        """`inputs`, T ids or (T, features) frames, and `labels`, bare ids.

        They become `input_ids` or `input_features`, and `labels`. Raises DataError for other items, no frames, or a blank
        among the labels.
        """
        inputs, labels = np.asarray(field_of(item, "inputs", "ctc")), as_ids(field_of(item, "labels", "ctc"))
        if not len(inputs):
            raise DataError("objective ctc: no frames")
        if (labels == self.blank).any():
            raise DataError(f"objective ctc: {self.blank} is the blank and cannot be a label")
        if inputs.ndim == 1:
            return {"input_ids": as_ids(inputs), "labels": labels}
        return {"input_features": inputs.astype(np.float32), "labels": labels}

    def loss(self, model: LanguageNetwork, batch: Batch) -> Loss:
        """Nats; the count is 1 for each example that was scored. The model keeps the number of frames."""
        return self._loss(*self._read(model, batch), batch["labels"])

    def marks(self, model: LanguageNetwork, batch: Batch) -> Marks:
        """The loss, and the errors of the best path (Graves et al. 2006, section 3.2) for each label: an edit distance."""
        log_probs, frames = self._read(model, batch)
        wanted = [row[row != IGNORE].tolist() for row in batch["labels"]]
        errors = [
            edit_distance(collapsed(path[:size].tolist(), self.blank), labels)
            for path, size, labels in zip(log_probs.argmax(-1), frames.tolist(), wanted, strict=True)
        ]
        counts = torch.tensor([len(labels) for labels in wanted])
        loss = self._loss(log_probs, frames, batch["labels"])
        return {"loss": loss, "label_error_rate": Loss(torch.tensor(errors, dtype=torch.float32), counts)}

    def _read(self, model: LanguageNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, V) logarithms of probabilities, and (B,) how many frames are real."""
        inputs, mask = batch.get("input_ids"), batch.get("attention_mask")
        inputs = batch["input_features"] if inputs is None else inputs
        log_probs = model.score(model.encode(inputs, mask)).float().log_softmax(-1)
        whole = torch.full((len(log_probs),), log_probs.shape[1], device=log_probs.device)
        return log_probs, whole if mask is None else mask.sum(1)

    def _loss(self, log_probs: Tensor, frames: Tensor, labels: Tensor) -> Loss:
        scored = ~too_long(labels, frames)
        total = F.ctc_loss(
            log_probs.transpose(0, 1), labels.clamp(min=0), frames, (labels != IGNORE).sum(1),
            blank=self.blank, reduction="none", zero_infinity=True,
        )  # fmt: skip
        return Loss(total.masked_fill(~scored, 0.0), scored.long())


def collapsed(path: Sequence[int], blank: int) -> list[int]:
    """The labels that a path of symbols becomes: equal neighbours merged, then blanks dropped."""
    return [symbol for symbol, _ in groupby(path) if symbol != blank]


def edit_distance(found: Sequence[int], wanted: Sequence[int]) -> int:
    """How many symbols to put in, take out or change to make one of the other (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for i, symbol in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (symbol != other))
    return row[-1]


def too_long(labels: Tensor, frames: Tensor) -> Tensor:
    """(B,) True for the examples whose `labels` (B, U), padded with -100, do not fit into their `frames` (B,)."""
    real = labels != IGNORE
    repeated = (labels[:, 1:] == labels[:, :-1]) & real[:, 1:]
    return real.sum(1) + repeated.sum(1) > frames

"""How many operations a batch of records takes: counted from what is in it, whose rows are of different lengths.

Tokens that are padding do not count, though the processor does them too: what it does with them is no use. A frozen
companion (the reference of a preference, a teacher) counts with its forward pass, weights that are frozen without the
product that would be their gradient. Texts of a batch count as if each had their mean length.

B rows, T tokens of a row, K documents of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from yuyan.models.cost import flops_per_pair, flops_per_token
from yuyan.models.network import Network, NetworkModule
from yuyan.models.pair import Pair
from yuyan.nn.head import WORDS, LabelHead
from yuyan.nn.linear_cross_entropy import IGNORE
from yuyan.objectives import Batch
from yuyan.objectives.base import MASK_OF

TARGET = "decoder_input_ids"


@dataclass
class Work:
    """Of one network, so many times a forward pass; what a length costs is remembered."""

    network: Network
    passes: float
    _known: dict[tuple[str, tuple[int, ...]], float] = field(default_factory=dict)

    def of(self, batch: Batch) -> float | None:
        """Operations; None for what is no text."""
        sources = [key for key in batch if key.endswith("input_ids") and key != TARGET]
        if not sources:
            return None
        total = 0.0
        for key in sources:
            lengths = lengths_of(batch, key)
            total += self._read(lengths, batch) + self._scored(lengths, batch, key) * self._cost("score")
        return self.passes * total

    def _read(self, lengths: Tensor, batch: Batch) -> float:
        rows, tokens = len(lengths), int(lengths.sum())
        length = round(tokens / max(1, rows))
        if self.network.encoder is None or self.network.decoder is None:
            return tokens * self._cost("read", length)
        target = length if TARGET not in batch else round(int(lengths_of(batch, TARGET).sum()) / max(1, rows))
        return rows * self._cost("pair", length, target)

    def _scored(self, lengths: Tensor, batch: Batch, key: str) -> int:
        """Places of the texts under `key` that the head is asked at."""
        head, labels = self.network.head, batch.get(_labels(key))
        if isinstance(head, LabelHead):
            return int(lengths.sum()) if head.pool == "none" else len(lengths)
        if not isinstance(head, WORDS) or labels is None:
            return 0
        places = batch.get(TARGET, batch[key])
        return int((labels != IGNORE).sum()) if labels.shape == places.shape else int(lengths.sum())

    def _cost(self, what: str, *lengths: int) -> float:
        known = (what, lengths)
        if known not in self._known:
            bare = self.network.model_copy(update={"head": None})
            if what == "pair":
                self._known[known] = flops_per_pair(self.network, *lengths)
            elif what == "read":
                self._known[known] = flops_per_token(bare, *lengths)
            else:
                self._known[known] = flops_per_token(self.network, 1) - flops_per_token(bare, 1)
        return self._known[known]


def works_of(model: nn.Module) -> list[Work] | None:
    """One for each network of what is trained; None for what is no network."""
    networks: Sequence[nn.Module] = (model.model, model.companion) if isinstance(model, Pair) else (model,)
    found = [Work(each.config, passes_of(each)) for each in networks if isinstance(each, NetworkModule)]
    return found if len(found) == len(networks) else None


def passes_of(network: nn.Module) -> float:
    """Forward passes that an update costs as much as: 3 where all is trained, 1 where nothing is; in between the gradient of
    a matrix that is frozen is saved. That nothing below the lowest trained block needs one at all is left out."""
    tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    matrices = [p for p in network.parameters() if p.ndim > 1 and id(p) not in tables]
    if not any(p.requires_grad for p in network.parameters()):
        return 1.0
    whole = sum(p.numel() for p in matrices)
    return 2.0 + sum(p.numel() for p in matrices if p.requires_grad) / whole if whole else 3.0


def lengths_of(batch: Batch, key: str) -> Tensor:
    """(N,) the real tokens of each text under `key`, (B, T) or (B, K, T): by its mask; of a decoder's text, whose padding
    comes last, up to its last label. Texts that are padding as a whole are left out."""
    ids, labels = batch[key], batch.get(_labels(key))
    mask = batch.get(MASK_OF.get(key, ""))
    if mask is not None:
        lengths = mask.flatten(0, -2).sum(1)
    elif labels is not None and key not in MASK_OF and labels.shape == ids.shape:
        lengths = ((labels != IGNORE) * torch.arange(1, ids.shape[1] + 1)).amax(1)
    else:
        lengths = torch.full((ids.numel() // ids.shape[-1],), ids.shape[-1])
    return lengths[lengths > 0]


def _labels(key: str) -> str:
    """The name of the labels of a text: `labels` or, of one of several, `chosen_labels`."""
    return key.removeprefix("decoder_").replace("input_ids", "labels")

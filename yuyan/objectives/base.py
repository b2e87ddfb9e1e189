"""What a model is asked to do. An objective is two halves: `example` makes the question, `loss` marks the answer.

A member of the union is a config; `build(tokenizer)` adds the ids it cannot know and gives the objective itself.
`example` runs in the data thread: pure, its randomness handed in, so that it is a function of (seed, epoch, position).
`loss` runs in the step and gives a total and a count for each example of the batch, never a mean: whoever called it
decides what to divide by. Accumulation, ranks of unequal length, metrics and privacy all rest on that.

An item is a row of a corpus, T + 1 ids of which next-token prediction uses the last as a label only (objectives that
read a whole text leave it out), or a mapping of named rows of bare ids, to which the objective adds control tokens. A
`PackedRow` says to which document each of its ids belongs; nothing is then read or predicted across documents.

B examples, T tokens, D hidden size, V vocabulary, N tokens scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from yuyan.errors import DataError, InputError
from yuyan.models.pair import Pair
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy
from yuyan.nn.sampled_softmax import SampledSoftmax, sampled_cross_entropy
from yuyan.tokens.pieces import Pieces
from yuyan.tokens.special import Special

SCORED_AT_ONCE = 256  # tokens whose scores are in memory together
Batch = dict[str, Tensor]
Example = dict[str, np.ndarray]
Counted = Literal["tokens", "pairs", "texts"]


class Loss(NamedTuple):
    """`total` (B,) float32, summed over what was scored in each example; `count` (B,), how many things that was."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # shadows tuple.count, which nobody needs of a loss


Marks = dict[str, Loss]
"""Marks by name, each a total and a count for every example. A mean of a `..._perplexity` is in nats, and is shown as the
perplexity it stands for; `..._accuracy` and `..._recall` are shares."""


class LanguageNetwork(Protocol):
    """The three methods of a network, its loss, and the last layer by itself."""

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, document_ids: Tensor | None = None
    ) -> Tensor: ...

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor: ...

    def score(self, hidden: Tensor) -> Tensor: ...

    def token_losses(self, hidden: Tensor, labels: Tensor, trained: CrossEntropy = PLAIN) -> Tensor: ...

    def before_projection(self, hidden: Tensor) -> Tensor: ...

    def output_projection(self) -> tuple[Tensor, Tensor | None]: ...


class Vocabulary(Protocol):
    """What an objective asks of a tokenizer: its size, its control tokens, what each token stands for."""

    def __len__(self) -> int: ...

    @property
    def special(self) -> Special: ...

    @property
    def pieces(self) -> Pieces: ...


class Objective(Protocol):
    """One file in this package each; the contract is `tests/contracts/test_objectives.py`.

    Items and models are `Any` here: a corpus gives rows and a table gives mappings, and objectives with two networks
    take a `Pair`; each member says which.
    """

    independent: ClassVar[bool]
    """Whether the loss of an example is the same in any batch."""

    counted: ClassVar[Counted]
    """What the counts of a loss are counts of."""

    def example(self, item: Any, random: np.random.Generator) -> Example: ...

    def loss(self, model: Any, batch: Batch) -> Loss: ...

    def marks(self, model: Any, batch: Batch) -> Marks:
        """What a model is measured by on held-out examples: `loss`, in nats, and what else says how good it is."""
        ...


class TokenObjective(Objective, Protocol):
    """An objective that is cross-entropy at `batch["labels"]`: what distillation can be based on."""

    def hidden(self, model: LanguageNetwork, batch: Batch) -> Tensor:
        """(B, T, D): what the network makes of the question, one state for each label."""
        ...


class ObjectiveSettings(Protocol):
    """A member of the union, before it knows the tokenizer."""

    def build(self, tokenizer: Vocabulary) -> Objective: ...


# ---------------------------------------------------------------- losses


def token_loss(model: LanguageNetwork, hidden: Tensor, labels: Tensor, trained: CrossEntropy = PLAIN) -> Loss:
    """Cross-entropy of the scores of `hidden` (B, T, D) against `labels` (B, T); -100 is not scored.

    Per token -log p(label), p = softmax of the scores: the language-model objective (Bengio et al. 2003, section 2).
    What `trained` adds is in the gradient alone.
    """
    each = model.token_losses(hidden.flatten(0, 1), labels.flatten(), trained).view(labels.shape)
    return Loss(each.sum(1), (labels != IGNORE).sum(1))


def sampled_token_loss(model: LanguageNetwork, hidden: Tensor, labels: Tensor, softmax: SampledSoftmax) -> Loss:
    """`token_loss`, estimated from the labels' scores and those of a few words that are drawn."""
    weight, bias = model.output_projection()
    flat = model.before_projection(hidden).flatten(0, 1)
    each = sampled_cross_entropy(flat, weight, bias, labels.flatten(), softmax).view(labels.shape)
    return Loss(each.sum(1), (labels != IGNORE).sum(1))


def sparse_token_loss(model: LanguageNetwork, hidden: Tensor, labels: Tensor, trained: CrossEntropy = PLAIN) -> Loss:
    """`token_loss`, with scores made only where there is a label: faster when most labels are -100."""
    scored = labels != IGNORE
    each = model.token_losses(hidden[scored], labels[scored], trained)
    total = each.new_zeros(labels.shape).masked_scatter(scored, each)
    return Loss(total.sum(1), scored.sum(1))


@torch.no_grad()
def right_tokens(model: LanguageNetwork, hidden: Tensor, labels: Tensor) -> Loss:
    """How many of the labels (B, T) that are not -100 are what the model finds likeliest, and how many labels there are."""
    scored = labels != IGNORE
    states, wanted = hidden[scored], labels[scored]
    parts = (slice(at, at + SCORED_AT_ONCE) for at in range(0, max(1, len(wanted)), SCORED_AT_ONCE))
    right = [model.score(states[part]).argmax(-1) == wanted[part] for part in parts]
    total = torch.zeros(labels.shape, device=labels.device).masked_scatter(scored, torch.cat(right).float())
    return Loss(total.sum(1), scored.sum(1))


def packing(batch: Batch) -> dict[str, Tensor]:
    """What a network has to be told of a packed batch, if it is one."""
    return {"document_ids": batch["document_ids"]} if "document_ids" in batch else {}


def pair_of(model: object, kind: str) -> Pair:
    """The model, which has to be two. Raises InputError."""
    if not isinstance(model, Pair):
        raise InputError(f"objective {kind}: needs two networks; make a pair of the model (yuyan.models.pair)")
    return model


# ---------------------------------------------------------------- examples


def as_ids(values: Any) -> np.ndarray:
    """(T,) int64 from an array or a list of ids."""
    return np.asarray(values, dtype=np.int64).reshape(-1)


def field_of(item: Mapping[str, Any], name: str, kind: str) -> Any:
    """The named part of an item. Raises DataError that says what there is instead."""
    if not isinstance(item, Mapping):
        raise DataError(f"objective {kind}: needs examples with named parts ({name}, ...), not rows of a corpus")
    if name not in item:
        raise DataError(
            f"objective {kind}: no {name!r} in the example; there are: {', '.join(map(str, item)) or 'none'}"
        )
    return item[name]


def framed(ids: np.ndarray, special: Special) -> np.ndarray:
    """A text between the control tokens of its tokenizer: [CLS] ... [SEP] where there are such, else <s> ... </s>."""
    first = special.bos if special.cls is None else special.cls
    last = special.eos if special.sep is None else special.sep
    return np.concatenate([as_ids([] if first is None else [first]), ids, as_ids([] if last is None else [last])])


def answered(prompt: np.ndarray, answer: np.ndarray, special: Special) -> Example:
    """`<s> prompt answer </s>` for a decoder, scored on the answer and its end."""
    first = as_ids([] if special.bos is None else [special.bos])
    last = as_ids([] if special.eos is None else [special.eos])
    ids = np.concatenate([first, prompt, answer, last])
    return shifted(ids, np.arange(len(ids)) >= len(first) + len(prompt))


def shifted(ids: np.ndarray, scored: np.ndarray) -> Example:
    """Each token of `ids` (T + 1,) is predicted from those before it, and is a label where `scored` is true.

    A text of one token predicts nothing. Raises DataError for an empty text.
    """
    if len(ids) == 0:
        raise DataError("an empty text: there is nothing to read")
    if len(ids) == 1:
        return {"input_ids": ids, "labels": np.full(1, IGNORE, np.int64)}
    return {"input_ids": ids[:-1], "labels": np.where(scored[1:], ids[1:], IGNORE)}


# ---------------------------------------------------------------- batches

MASK_OF = {
    "input_ids": "attention_mask",
    "input_features": "attention_mask",
    "query_input_ids": "query_attention_mask",
    "document_input_ids": "document_attention_mask",
}
"""What marks the real ones of each input that is padded. Rows of a decoder need no mask: padding comes last."""


def collate(examples: Sequence[Example]) -> Batch:
    """Examples of any lengths as one batch: padded on the right, labels with -100, all else with 0.

    An attention mask (True for real tokens) is there only when something is padded: without one, attention is faster.
    """
    batch: Batch = {}
    for key in examples[0]:
        arrays = [example[key] for example in examples]
        batch[key] = torch.from_numpy(pad_right(arrays, IGNORE if key.endswith("labels") else 0))
        mask = MASK_OF.get(key)
        if mask is not None and mask not in examples[0]:
            features = key == "input_features"  # (T, features) a text, where ids are (T,)
            real = [np.ones(a.shape[:-1] if features else a.shape, bool) for a in arrays]
            batch[mask] = torch.from_numpy(pad_right(real, 0))
    for mask in set(MASK_OF.values()) & batch.keys():
        if bool(batch[mask].all()):
            del batch[mask]
    return batch


def pad_right(arrays: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """Arrays of as many axes as one array with one axis more; each is filled up at the end of every axis."""
    shape = tuple(np.max([array.shape for array in arrays], axis=0)) if arrays[0].ndim else ()
    if all(array.shape == shape for array in arrays):
        return np.stack(arrays)
    padded = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(0, size) for size in array.shape)] = array
    return padded

"""From hidden states to scores: what is asked of a token, in two steps.

`before_projection` is all but the last product, `output_projection` the weights of the last one, so that a loss can
fuse it with the cross-entropy and never hold all scores at once.

Shapes: B batch, T tokens, D hidden size, E embedding size, V vocabulary or number of labels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.errors import InputError
from yuyan.nn.drop import Dropout
from yuyan.nn.ffn import ACTIVATIONS, Activation
from yuyan.nn.linear import Linear, linear
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy, linear_cross_entropy
from yuyan.nn.norm import LayerNorm, Norm

Projection = tuple[Tensor, Tensor | None]


class LanguageModelHead(Config):
    """A score for every token of the vocabulary."""

    kind: Literal["language_model"] = "language_model"
    tied: bool = True
    """Whether a token is scored by its own embedding (Press and Wolf 2017)."""
    scaled: bool = False
    """Whether hidden states are divided by the root of their width first (T5 v1.0)."""
    bias: bool = False
    """Whether each token has a bias."""

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return LanguageModelHeadModule(self, vocab_size, hidden_size, embedding_size)


class AdaptiveHead(Config):
    """Scores by classes of frequency: the likeliest tokens and the classes at once, the tokens of a class only where one of
    them is the label, behind a narrower layer for each class (Grave et al. 2017). For ids in the order of falling frequency.
    """

    kind: Literal["adaptive"] = "adaptive"
    cutoffs: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Where the classes begin, ascending; none is a twelfth and a third of the vocabulary."""
    reduction: float = Field(default=4.0, ge=1)
    """By how much the layer of a class is narrower than that of the class before."""

    def bounds(self, vocab_size: int) -> list[int]:
        """0, the cutoffs, the vocabulary. Raises ValueError for cutoffs that do not ascend below it."""
        bounds = [0, *(self.cutoffs or dict.fromkeys((max(1, vocab_size // 12), max(1, vocab_size // 3)))), vocab_size]
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"head.cutoffs: {bounds[1:-1]} do not ascend below the vocabulary of {vocab_size}")
        return bounds

    def widths(self, vocab_size: int, hidden_size: int) -> list[int]:
        """Of the layer of each class."""
        return [max(1, int(hidden_size / self.reduction ** (i + 1))) for i in range(len(self.bounds(vocab_size)) - 2)]

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return AdaptiveHeadModule(self, vocab_size, hidden_size)


class MaskedHead(Config):
    """BERT's: one more layer, then the score of every token with a bias."""

    kind: Literal["masked"] = "masked"
    activation: Activation = "gelu"
    """The function of the extra layer."""
    norm: Norm = LayerNorm(eps=1e-12)
    """The norm after it."""
    tied: bool = True
    """Whether a token is scored by its own embedding."""
    dense_bias: bool = True
    """Whether the extra layer has a bias."""

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return MaskedHeadModule(self, vocab_size, hidden_size, embedding_size)


class ReplacedHead(Config):
    """ELECTRA's discriminator: one score a token, positive if it was replaced."""

    kind: Literal["replaced"] = "replaced"
    activation: Activation = "gelu"
    """The function of the layer before the score."""

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return ReplacedHeadModule(self, hidden_size)


class PoolerHead(Config):
    """BERT's pooler: a layer with tanh; its value at the first token stands for the text. Its scores are hidden states."""

    kind: Literal["pooler"] = "pooler"

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return PoolerHeadModule(hidden_size)


class LabelHead(Config):
    """A score for each label: of every token, or of the text by what `pool` makes of its tokens."""

    kind: Literal["labels"] = "labels"
    labels: tuple[str, ...] = Field(min_length=1)
    """What is told apart, in the order of the scores."""
    pool: Literal["none", "first", "last", "mean"] = "first"
    """What stands for a text: its first token, its last, their mean; with none every token is scored."""
    activation: Activation | None = None
    """The function of one more layer before the scores; null is no such layer."""
    layer_bias: bool = True
    """Whether that layer has a bias."""
    norm: Norm | None = None
    """A norm after that layer."""
    bias: bool = True
    """Whether each label has a bias."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the scores."""
    several: bool = False
    """Whether a text may have several of the labels at once, each scored by itself, or exactly one."""
    start: int | None = Field(default=None, ge=0)
    """In a network with both sides, the token before the text as the decoder reads it, moved right by one (T5, BART)."""

    def build(self, vocab_size: int, hidden_size: int, embedding_size: int) -> HeadModule:
        return LabelHeadModule(self, hidden_size)


Head = Annotated[
    LanguageModelHead | AdaptiveHead | MaskedHead | ReplacedHead | PoolerHead | LabelHead,
    Field(discriminator="kind"),
]
WORDS = (LanguageModelHead, AdaptiveHead, MaskedHead)
"""Heads that score the tokens of the vocabulary."""


def pool(hidden: Tensor, attention_mask: Tensor | None, how: Literal["none", "first", "last", "mean"]) -> Tensor:
    """(B, T, D) hidden states to (B, D), over real tokens only; with "none" they are left as they are."""
    if how == "none":
        return hidden
    if attention_mask is None:
        return hidden.mean(1) if how == "mean" else hidden[:, 0 if how == "first" else -1]
    real = attention_mask.bool()
    if how == "mean":
        weight = real.to(hidden.dtype)[:, :, None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    places = torch.arange(hidden.shape[1], device=hidden.device)
    chosen = real.long().argmax(1) if how == "first" else (places * real).argmax(1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), chosen]


class HeadModule(nn.Module):
    """What every head can do."""

    def before_projection(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to what the last product multiplies."""
        return hidden

    def output_projection(self, embedding: Tensor) -> Projection:
        """Weight and bias of the last product; `embedding` (V, E) is the token table, for tied heads."""
        raise NotImplementedError

    def last_weights(self, embedding: Tensor) -> tuple[Tensor | None, ...]:
        """The weights that scores are made with."""
        return self.output_projection(embedding)

    def scores(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(..., D) hidden states to (..., V) scores, the logarithms of unnormalised probabilities."""
        return linear(self.before_projection(hidden), *self.output_projection(embedding))

    def token_losses(self, hidden: Tensor, labels: Tensor, embedding: Tensor, trained: CrossEntropy) -> Tensor:
        """-log p(label) of each token, float32 (N,), 0 where the label (N,) is -100; `hidden` is (N, D)."""
        weight, bias = self.output_projection(embedding)
        return linear_cross_entropy(self.before_projection(hidden), weight, bias, labels, trained)


class LanguageModelHeadModule(HeadModule):
    """One product, after a projection to the embedding's width where a tied one needs it."""

    def __init__(self, config: LanguageModelHead, vocab_size: int, hidden_size: int, embedding_size: int):
        super().__init__()
        self.scale = hidden_size**-0.5 if config.scaled else 1.0
        down = config.tied and embedding_size != hidden_size
        self.proj = Linear(hidden_size, embedding_size, bias=False) if down else nn.Identity()
        self.output = None if config.tied else Linear(hidden_size, vocab_size, bias=config.bias)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if config.bias and config.tied else None

    def before_projection(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.proj(hidden if self.scale == 1.0 else hidden * self.scale)
        return out

    def output_projection(self, embedding: Tensor) -> Projection:
        return (embedding, self.bias) if self.output is None else (self.output.weight, self.output.bias)


class AdaptiveHeadModule(HeadModule):
    """p(w) = p(w | first) for a likely token, p(class | first) p(w | class) for another."""

    def __init__(self, config: AdaptiveHead, vocab_size: int, hidden_size: int):
        super().__init__()
        self.bounds = config.bounds(vocab_size)
        widths = config.widths(vocab_size, hidden_size)
        sizes = [high - low for low, high in pairwise(self.bounds)]
        self.first = Linear(hidden_size, sizes[0] + len(widths), bias=False)
        self.narrow = nn.ModuleList(Linear(hidden_size, width, bias=False) for width in widths)
        self.classes = nn.ModuleList(
            Linear(width, size, bias=False) for width, size in zip(widths, sizes[1:], strict=True)
        )

    def _classes(self) -> list[tuple[Linear, Linear]]:
        """The narrower layer of each class, and the product with its tokens."""
        pairs = zip(self.narrow, self.classes, strict=True)
        return [(a, b) for a, b in pairs if isinstance(a, Linear) and isinstance(b, Linear)]

    def output_projection(self, embedding: Tensor) -> Projection:
        raise InputError("a head of kind adaptive has no one last product; use a head of kind language_model")

    def last_weights(self, embedding: Tensor) -> tuple[Tensor | None, ...]:
        return (self.first.weight, *(words.weight for _, words in self._classes()))

    def scores(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        first = self.first(hidden).float().log_softmax(-1)
        parts = [first[..., : self.bounds[1]]]
        for number, (narrow, words) in enumerate(self._classes()):
            inside = words(narrow(hidden)).float().log_softmax(-1)
            parts.append(inside + first[..., self.bounds[1] + number, None])
        return torch.cat(parts, -1)

    def token_losses(self, hidden: Tensor, labels: Tensor, embedding: Tensor, trained: CrossEntropy) -> Tensor:
        if trained != PLAIN:
            raise InputError(
                "a head of kind adaptive knows no label_smoothing or z_loss; leave objective.cross_entropy away"
            )
        inner = torch.tensor(self.bounds[1:-1], device=labels.device)
        group = torch.bucketize(labels, inner, right=True)  # 0 for likely tokens and -100
        first = torch.where(group == 0, labels, self.bounds[1] + group - 1)
        losses = linear_cross_entropy(hidden, self.first.weight, None, first)
        for number, (narrow, words) in enumerate(self._classes(), 1):
            here = group == number
            rows = here.nonzero().flatten()
            if not len(rows):  # one that is not scored, if there is any: or the class's gradient were missing
                rows = labels.new_zeros(min(1, len(labels)))
            wanted = torch.where(here, labels - self.bounds[number], IGNORE)[rows]
            losses = losses.index_add(0, rows, linear_cross_entropy(narrow(hidden[rows]), words.weight, None, wanted))
        return losses


class MaskedHeadModule(HeadModule):
    """dense, activation, norm; then the product."""

    def __init__(self, config: MaskedHead, vocab_size: int, hidden_size: int, embedding_size: int):
        super().__init__()
        self.dense = Linear(hidden_size, embedding_size, bias=config.dense_bias)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = config.norm.build(embedding_size)
        self.output = None if config.tied else Linear(embedding_size, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def before_projection(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.norm(self.activation(self.dense(hidden)))
        return out

    def output_projection(self, embedding: Tensor) -> Projection:
        return embedding if self.output is None else self.output.weight, self.bias


class ReplacedHeadModule(HeadModule):
    """dense, activation; then one number."""

    def __init__(self, config: ReplacedHead, hidden_size: int):
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.activation = ACTIVATIONS[config.activation]
        self.output = Linear(hidden_size, 1)

    def before_projection(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.activation(self.dense(hidden))
        return out

    def output_projection(self, embedding: Tensor) -> Projection:
        return self.output.weight, self.output.bias


class PoolerHeadModule(HeadModule):
    """tanh(W h + b), read at the first token."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)

    def output_projection(self, embedding: Tensor) -> Projection:
        return self.dense.weight, self.dense.bias

    def scores(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        return torch.tanh(super().scores(hidden, embedding))


class LabelHeadModule(HeadModule):
    """Dropout, layer, activation, norm, dropout; then a product with as many rows as labels."""

    def __init__(self, config: LabelHead, hidden_size: int):
        super().__init__()
        layer = config.activation is not None
        self.dense = Linear(hidden_size, hidden_size, bias=config.layer_bias) if layer else nn.Identity()
        self.activation = ACTIVATIONS[config.activation] if config.activation else nn.Identity()
        self.norm = config.norm.build(hidden_size) if config.norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.output = Linear(hidden_size, len(config.labels), bias=config.bias)

    def before_projection(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.norm(self.activation(self.dense(hidden))))
        return out

    def output_projection(self, embedding: Tensor) -> Projection:
        return self.output.weight, self.output.bias

"""Two networks that are trained as one: the one that is kept, and a companion that helps to train it.

A companion is trained beside it (ELECTRA's generator) or frozen (the teacher of a distillation, the reference of a
preference): then it has no gradients, is always in evaluation mode, and is not among the weights an optimizer sees.

The objective takes the pair; whoever saves or measures a model takes `pair.model`.
"""

from __future__ import annotations

import copy

from torch import nn

from yuyan.errors import InputError
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import MaskedHead
from yuyan.nn.initialise import Initialisation
from yuyan.nn.position import LearnedPosition
from yuyan.nn.stack import Stack, StackModule


class Pair(nn.Module):
    """`model` is what is wanted; `companion` is frozen or trained with it."""

    def __init__(self, model: NetworkModule, companion: NetworkModule, *, frozen: bool):
        super().__init__()
        if frozen and {id(p) for p in model.parameters()} & {id(p) for p in companion.parameters()}:
            raise InputError("a frozen companion cannot share weights with the model that is trained; copy it first")
        self.model, self.companion, self.frozen = model, companion, frozen
        if frozen:
            companion.requires_grad_(False)
            companion.eval()

    def train(self, mode: bool = True) -> Pair:
        """As every module's, but a frozen companion never trains."""
        super().train(mode)
        if self.frozen:
            self.companion.eval()
        return self


def with_reference(model: NetworkModule) -> Pair:
    """The model and a frozen copy of it as it is now (Rafailov et al. 2023, section 4)."""
    return Pair(model, copy.deepcopy(model), frozen=True)


def with_teacher(model: NetworkModule, teacher: NetworkModule) -> Pair:
    """The model and a frozen teacher. Raises InputError if they have different tokens."""
    if model.config.vocab_size != teacher.config.vocab_size:
        raise InputError(
            f"the teacher has {teacher.config.vocab_size} tokens and the student {model.config.vocab_size}; "
            "they need the same tokenizer"
        )
    return Pair(model, teacher, frozen=True)


def with_generator(
    model: NetworkModule, fraction: float = 0.25, seed: int = 0, initialisation: Initialisation | None = None
) -> Pair:
    """The model and a smaller generator that shares its embeddings (Clark et al. 2020, section 3.2)."""
    generator = generator_of(model.config, fraction).build(seed, initialisation)
    share_embeddings(model, generator)
    return Pair(model, generator, frozen=False)


def generator_of(network: Network, fraction: float = 0.25) -> Network:
    """A masked language model like `network`'s encoder with `fraction` of its width: hidden size, heads, feed-forward.

    Layers and embeddings stay as they are. Raises InputError for a network that is not a Transformer encoder.
    """
    side = network.encoder
    if not isinstance(side, Stack) or network.decoder is not None:
        raise InputError("a generator is made for a network with an encoder of kind stack, and no decoder")
    heads = side.heads.filled(network.hidden_size)
    assert heads.head_size and heads.key_value_heads
    count, groups = max(1, round(heads.count * fraction)), max(1, round(heads.key_value_heads * fraction))
    groups = max(g for g in range(1, groups + 1) if count % g == 0)
    smaller = side.model_copy(
        update={
            "heads": heads.model_copy(update={"count": count, "key_value_heads": groups}),
            "ffn": _smaller_ffn(side.ffn, fraction),
        }
    )
    return network.model_copy(
        update={
            "hidden_size": max(heads.head_size, round(network.hidden_size * fraction)), "encoder": smaller,
            "embedding": network.embedding.model_copy(update={"size": network.embedding_size}),
            "head": MaskedHead(norm=side.norm),
        }
    )  # fmt: skip


def _smaller_ffn(ffn: Mlp | Gated, fraction: float) -> Mlp | Gated:
    return ffn.model_copy(update={"intermediate_size": max(1, round(ffn.intermediate_size * fraction))})


def share_embeddings(model: NetworkModule, companion: NetworkModule) -> None:
    """Let the companion use the model's own vectors of tokens, segments and learned positions.

    Raises InputError when the sizes differ.
    """
    theirs, ours = companion.embedding, model.embedding
    if theirs.token.weight.shape != ours.token.weight.shape:
        raise InputError(
            f"embeddings of {tuple(theirs.token.weight.shape)} and {tuple(ours.token.weight.shape)} cannot be shared"
        )
    theirs.token.weight = ours.token.weight
    if theirs.token_type is not None and ours.token_type is not None:
        theirs.token_type.weight = ours.token_type.weight
    for mine, other in ((model.encoder, companion.encoder), (model.decoder, companion.decoder)):
        if isinstance(mine, StackModule) and isinstance(other, StackModule):
            _share_positions(mine.position, other.position)


def _share_positions(mine: nn.Module, other: nn.Module) -> None:
    if isinstance(mine, LearnedPosition) and isinstance(other, LearnedPosition):
        other.table.weight = mine.table.weight

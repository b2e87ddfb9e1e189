"""Two networks as one module: what is trained, what is frozen, what is shared."""

from __future__ import annotations

import pytest
import torch
from toy_objectives import decoder, discriminator, encoder

from yuyan.errors import InputError
from yuyan.models.network import Network
from yuyan.models.pair import Pair, generator_of, with_generator, with_reference, with_teacher
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated
from yuyan.nn.head import MaskedHead
from yuyan.nn.mask import Full
from yuyan.nn.position import Learned
from yuyan.nn.recurrent import Recurrent
from yuyan.nn.stack import Stack


def test_a_frozen_companion_stays_as_it_is() -> None:
    pair = with_reference(decoder().build())
    assert all(p.requires_grad for p in pair.model.parameters())
    assert not any(p.requires_grad for p in pair.companion.parameters())
    pair.train()
    assert pair.model.training and not pair.companion.training
    pair.eval()
    assert not pair.model.training
    with torch.no_grad():
        next(pair.model.parameters()).add_(1.0)
    assert not torch.equal(next(pair.model.parameters()), next(pair.companion.parameters()))


def test_a_companion_that_is_trained_trains() -> None:
    pair = with_generator(discriminator().build(), 0.5).train()
    assert pair.companion.training and all(p.requires_grad for p in pair.parameters())


def test_a_model_cannot_be_its_own_frozen_reference() -> None:
    model = decoder().build()
    with pytest.raises(InputError, match="cannot share"):
        Pair(model, model, frozen=True)


def test_a_teacher_has_the_same_tokens() -> None:
    other = decoder().model_copy(update={"vocab_size": 50})
    with pytest.raises(InputError, match="50 tokens"):
        with_teacher(decoder().build(), other.build())


def bert() -> Network:
    side = Stack(
        num_layers=3, heads=Heads(count=8, key_value_heads=4), ffn=Gated(intermediate_size=64), mask=Full(),
        position=Learned(max_position_embeddings=20),
    )  # fmt: skip
    return Network(
        vocab_size=30, hidden_size=64, encoder=side, embedding=Embedding(size=24, type_vocab_size=2),
        head=discriminator().head,
    )  # fmt: skip


def test_a_generator_is_narrower_and_shares_the_embeddings() -> None:
    small = generator_of(bert(), 0.25)
    assert isinstance(small.encoder, Stack) and isinstance(small.head, MaskedHead)
    assert small.hidden_size == 16 and small.embedding_size == 24
    assert small.encoder.num_layers == 3 and small.encoder.ffn.intermediate_size == 16
    assert (small.encoder.heads.count, small.encoder.heads.key_value_heads, small.encoder.heads.head_size) == (2, 1, 8)
    pair = with_generator(bert().build(), 0.25)
    ours, theirs = pair.model, pair.companion
    assert theirs.embedding.token.weight is ours.embedding.token.weight
    assert theirs.embedding.token_type.weight is ours.embedding.token_type.weight
    assert theirs.encoder.position.table.weight is ours.encoder.position.table.weight
    assert theirs.output_projection()[0] is ours.embedding.token.weight
    names = [name for name, _ in pair.named_parameters()]
    assert sum("token.weight" in name for name in names) == 1


def test_only_an_encoder_has_a_generator() -> None:
    for network in (
        decoder(),
        Network(vocab_size=9, hidden_size=8, encoder=Recurrent(num_layers=1, bidirectional=True)),
    ):
        with pytest.raises(InputError, match="encoder of kind stack"):
            generator_of(network)


def test_a_generator_of_full_size() -> None:
    assert generator_of(encoder(), 1.0).hidden_size == encoder().hidden_size

"""Recurrent sequence-to-sequence networks: they learn to reverse a text, and write it through the one engine."""

from __future__ import annotations

import pytest
import torch

from yuyan.generate import Beam, Greedy
from yuyan.models.classic import Seq2Seq
from yuyan.models.network import NetworkModule
from yuyan.nn.recurrent import Additive, FirstState, Multiplicative, Recurrent
from yuyan.objectives.base import token_loss
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig

LETTERS = "abcdefgh"
KINDS = {"additive": Additive, "multiplicative": Multiplicative, "none": FirstState}


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_seams(cell: str, attention: str) -> None:
    network = Seq2Seq(cell=cell, attention=attention, hidden_size=8, num_layers=2, dropout=0.1).network(20)  # type: ignore[arg-type]
    assert isinstance(network.encoder, Recurrent) and isinstance(network.decoder, Recurrent)
    assert network.encoder.bidirectional and network.encoder.cross is None and not network.decoder.bidirectional
    assert isinstance(network.decoder.cross, KINDS[attention]) and network.decoder.cell == network.encoder.cell == cell


def reverse(model: LanguageModel, texts: list[str], steps: int) -> None:
    """Train it to write each text backwards."""
    network, special = model.network, model.tokenizer.special
    assert isinstance(network, NetworkModule) and model.start is not None and special.eos is not None
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    first, last = model.tokenizer.frame  # the engine reads a text between its marks
    texts_ids = [model.tokenizer.encode(text) for text in texts]
    source = torch.tensor([[*first, *ids, *last] for ids in texts_ids])
    target = torch.tensor([[*ids[::-1], special.eos] for ids in texts_ids])
    seen = torch.cat([torch.full((len(texts), 1), model.start), target[:, :-1]], 1)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        token_loss(network, network.decode(seen, memory=network.encode(source)), target).total.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_it_learns_to_write_backwards_and_beams_find_it_too(attention: str) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(iter([LETTERS]), CharConfig())
    draw = torch.Generator().manual_seed(1)
    texts = ["".join(LETTERS[int(i)] for i in torch.randint(0, 8, (6,), generator=draw)) for _ in range(200)]
    network = Seq2Seq(attention=attention, hidden_size=32).build(len(tokenizer), 0)  # type: ignore[arg-type]
    model = LanguageModel(network, tokenizer, None, start=tokenizer.special.bos)
    reverse(model, texts[:180], 150)
    held_out = texts[180:]
    written = [model.generate(text, Greedy(max_tokens=12)) for text in held_out]
    right = sum(got == text[::-1] for got, text in zip(written, held_out, strict=True))
    assert right >= 16, list(zip(held_out, written, strict=True))[:5]
    beams = [model.generate(text, Beam(beams=3, max_tokens=12)) for text in held_out]
    assert sum(got == text[::-1] for got, text in zip(beams, held_out, strict=True)) >= right - 1

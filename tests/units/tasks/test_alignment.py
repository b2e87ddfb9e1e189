"""The alignment is the attention that the network used: its formula, its rows, its picture, its command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_runs import command

from yuyan.commands.align import align_command
from yuyan.errors import InputError
from yuyan.models.classic import Lstm, Seq2Seq
from yuyan.models.network import NetworkModule
from yuyan.models.presets import T5
from yuyan.nn.attention import Attention
from yuyan.nn.recurrent import RecurrentModule
from yuyan.tasks.alignment import alignment, attentions
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig

TEXTS = ["the cat sat on the mat", "\u732b\u5750\u5728\u57ab\u5b50\u4e0a"] * 3
SOURCE, TARGET = [5, 9, 11, 7], [0, 8, 6, 12]
MODELS = {
    "additive": Seq2Seq(hidden_size=16, attention="additive"),
    "multiplicative": Seq2Seq(hidden_size=16, attention="multiplicative"),
    "t5": T5(hidden_size=16, num_layers=3, num_heads=2),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, BytePairConfig(vocab_size=300))


def built(name: str, tokenizer: Tokenizer) -> NetworkModule:
    network = MODELS[name].network(len(tokenizer)).build(seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_shares_of_the_source_one_for_each_token_written(name: str, tokenizer: Tokenizer) -> None:
    found = alignment(built(name, tokenizer), tokenizer, SOURCE, TARGET)
    written = len(TARGET) - (tokenizer.special.eos is None)
    assert found.weights.shape == (written, len(SOURCE)) == (len(found.target), len(found.source))
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    assert found.weights.std() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_they_are_what_the_network_used(name: str, tokenizer: Tokenizer) -> None:
    """The weights times the values, through what follows them, is what the module gave."""
    network = built(name, tokenizer)
    modules = attentions(network)
    module = modules[max(0, len(modules) - 2)]
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    found = alignment(network, tokenizer, SOURCE, TARGET)
    hook.remove()
    given = torch.cat(outputs, 1)[0].detach()
    memory = network.encode(torch.tensor([SOURCE])).detach()
    if isinstance(module, Attention):
        heads: list[Tensor] = []
        hook = module.register_forward_pre_hook(lambda module, arguments: heads.append(module.weights(*arguments)))
        network.decode(torch.tensor([TARGET]), memory=memory)
        hook.remove()
        value = module.v_proj(memory).view(1, len(SOURCE), -1, module.head_size).transpose(1, 2)
        expected = module.o_proj((heads[0] @ value).transpose(1, 2).flatten(2))[0]
        np.testing.assert_allclose(heads[0].mean(1)[0].detach()[: len(found.target)], found.weights, rtol=1e-5)
    else:
        assert isinstance(network.decoder, RecurrentModule)
        expected = torch.tensor(found.weights).float() @ memory[0]
    torch.testing.assert_close(expected.detach()[: len(found.target)], given[: len(found.target)], rtol=1e-4, atol=1e-5)


def test_a_model_that_reads_no_source_is_refused(tokenizer: Tokenizer) -> None:
    model = LanguageModel(Lstm(hidden_size=8).network(len(tokenizer)).build(0), tokenizer, 16)
    with pytest.raises(InputError, match="does not read a source by attention"):
        model.alignment("the cat")
    plain = Seq2Seq(hidden_size=8, attention="none").network(len(tokenizer)).build(0)
    with pytest.raises(InputError, match="seq2seq with attention"):
        attentions(plain)


@pytest.mark.parametrize("target", ["\u732b <b>", None])
def test_the_command_draws_it(
    target: str | None, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = LanguageModel(built("additive", tokenizer), tokenizer, 24, start=tokenizer.special.bos)
    model.save(tmp_path / "model")
    out = tmp_path / "picture.svg"
    align_command(tmp_path / "model", "the cat & <i>mat</i>", target, out)
    drawn = out.read_text(encoding="utf-8")
    assert drawn.startswith("<svg") and "<i>" not in drawn and "\u2190" in drawn
    assert str(out) in capsys.readouterr().err
    with pytest.raises(InputError, match=r"ends in \.svg"):
        align_command(tmp_path / "model", "the cat", target, tmp_path / "picture.png")


def test_the_picture_has_a_name_of_its_own(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LanguageModel(built("additive", tokenizer), tokenizer, 24, start=tokenizer.special.bos).save(tmp_path / "model")
    assert command("align", "model", "the cat", "the mat") == 0
    assert (tmp_path / "alignment.svg").read_text(encoding="utf-8").startswith("<svg")

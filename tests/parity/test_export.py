"""Exported models against the engines they are for, and what is refused."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.sides import ALL, decoder, strong
from contracts.test_tokenizers import KINDS, TEXTS
from typer.testing import CliRunner
from units.generate.writers import model as any_model

from yuyan.cli import app
from yuyan.errors import InputError, YuyanError
from yuyan.export import export, export_model
from yuyan.export.parity import Case, Parity, cases_of, measure, read_by_us, written_by_reading
from yuyan.models.network import Network
from yuyan.models.presets import T5, Gpt
from yuyan.nn.attention import Heads
from yuyan.nn.ffn import Mlp
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Learned
from yuyan.tasks import Classify
from yuyan.tasks.chat_template import named_template, with_template
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import ends_of
from yuyan.tokens import Tokenizer, train_tokenizer

ENGINES = {"gguf": "xllamacpp", "ctranslate2": "ctranslate2", "onnx": "onnxruntime"}
NETWORKS: dict[str, Network] = {
    "gpt": Gpt(hidden_size=48, num_layers=2, num_heads=4, key_value_heads=2).network(300),
    "t5": T5(hidden_size=48, num_layers=2, num_heads=4).network(300),
    "gpt2": decoder(
        norm=LayerNorm(), position=Learned(max_position_embeddings=40), heads=Heads(count=4, bias=True),
        ffn=Mlp(intermediate_size=32, activation="gelu_tanh"),
    ),
}  # fmt: skip


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, KINDS["bpe"].model_copy(update={"mask": False, "sentinels": 0}))


def made(name: str) -> LanguageModel:
    config = (ALL | NETWORKS)[name].model_copy(update={"vocab_size": len(tokenizer())})
    start = tokenizer().special.pad if name == "t5" else None
    return LanguageModel(strong(config), tokenizer(), 40, start=start)


def needs(to: str) -> None:
    if importlib.util.find_spec(ENGINES[to]) is None:
        pytest.skip(f"{ENGINES[to]} is not installed")


@pytest.mark.parametrize("name", ["gpt", "labels"])
def test_the_tokenizer_says_what_a_text_is_put_between(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuyan.export.onnx.write_onnx", lambda model, folder: None)
    task = Classify(labels=ALL["labels"].head.labels) if name == "labels" else None
    model = LanguageModel(made(name).network, tokenizer(), 40, task=task)
    export_model(model, "onnx", tmp_path / "out", name=name, check=False)
    model.save(tmp_path / "saved")
    assert '"TemplateProcessing"' in (tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "saved" / file).read_bytes()


def test_a_chat_template_goes_along(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    source = named_template("plain", tokenizer())
    talks = LanguageModel(made("gpt").network, with_template(tokenizer(), source), 40)
    export_model(talks, "gguf", tmp_path / "out", name="talks", check=False)
    found = gguf.GGUFReader(next((tmp_path / "out").glob("*.gguf"))).fields["tokenizer.chat_template"]
    assert bytes(found.parts[found.data[0]]).decode() == source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "name"),
    [("gguf", "gpt"), ("gguf", "gpt2"), ("gguf", "llama"), ("ctranslate2", "gpt"), ("ctranslate2", "gpt2"), ("ctranslate2", "t5"), ("onnx", "gpt"), ("onnx", "gpt2"), ("onnx", "bert")],
)  # fmt: skip
def test_the_engine_computes_the_same(to: Any, name: str, tmp_path: Path) -> None:
    needs(to)
    done = export_model(made(name), to, tmp_path / "out", name=name)
    assert done.parity is not None and done.parity.passed and done.parity.difference < (1e-2 if to == "gguf" else 1e-4)
    assert done.parity.largest > 1, "numbers that are all small prove nothing"
    assert done.parity.same_text == (None if name == "bert" else 16)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{done.parity.difference:.2e}" in text and done.parity.runtime in text


@pytest.mark.parametrize("damage", ["weights", "engine gone"])
def test_a_failure_leaves_nothing(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("ctranslate2")
    pytest.importorskip("transformers")
    model, out = made("gpt"), tmp_path / "out"
    if damage == "weights":
        right = export.ctranslate.write_ctranslate

        def wrong(given: LanguageModel, folder: Path) -> None:
            other = made("gpt")
            other.network.decoder.layers[0].ffn.inner.up_proj.weight.data.mul_(1.5)  # type: ignore[union-attr]
            right(other, folder)

        monkeypatch.setattr(export.ctranslate, "write_ctranslate", wrong)
        message = "computes another model; nothing was kept .*largest difference"
    else:
        monkeypatch.setitem(export._ENGINES, "ctranslate2", _gone)
        message = "parity could not be run: .*--no-check"
    with pytest.raises(YuyanError, match=message):
        export_model(model, "ctranslate2", out, name="x")
    assert list(tmp_path.iterdir()) == []


def _gone(model: LanguageModel, folder: Path) -> Any:
    raise export.RuntimeMissing("ctranslate2 is not installed; pip install ctranslate2")


def test_without_a_check_the_card_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.onnx, "write_onnx", lambda model, folder: (folder / "model.onnx").write_bytes(b"x"))
    done = export_model(made("gpt"), "onnx", tmp_path / "out", name="x", check=False)
    assert done.parity is None
    assert "Not checked" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        export_model(made("gpt"), "onnx", tmp_path / "out", name="x", check=False)


def test_a_verdict_needs_all_of_it() -> None:
    good = Parity("engine", "float32", 16, 1e-5, 3.0, 16, (90.0, 90.001))
    assert good.passed
    for change in ({"difference": 0.1}, {"difference": float("inf")}, {"same_text": 15}, {"perplexity": (90.0, 91.0)}):
        assert not Parity(**{**good.__dict__, **change}).passed


class Likeliest:
    """The model itself, as an engine that tells the ten likeliest tokens of each place only."""

    name, gives = "engine", "log_probs"

    def __init__(self, model: LanguageModel):
        self.model = model

    def read(self, case: Case) -> np.ndarray:
        logs = torch.from_numpy(read_by_us(self.model, case)).log_softmax(-1)
        return logs.masked_fill(logs < logs.topk(10).values[:, -1:], float("nan")).numpy()

    def write(self, case: Case, count: int) -> list[int]:
        return written_by_reading(self, case, count, ends_of(tokenizer()))


def test_a_perplexity_says_of_how_many_tokens_it_is() -> None:
    model = made("gpt")
    cases = cases_of(model, 2)
    parity = measure(model, Likeliest(model), cases, "float32")  # type: ignore[arg-type]
    some, all_of_them = parity.told or (0, 0)
    assert 0 < some < all_of_them == sum(len(case.ids) - 1 for case in cases)
    assert dict(parity.rows())["perplexity a token"].endswith(f", of {some} tokens of {all_of_them}")


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("ctranslate2", "lstm", "gpt2, llama, .*; this one is of no family; onnx may fit"),
        ("ctranslate2", "bert", "families gpt2"),
        ("gguf", "lstm", "carries decoders of the families"),
        ("onnx", "ngram", "table of counts"),
    ],
)
def test_what_a_format_cannot_carry(to: Any, name: str, message: str, tmp_path: Path) -> None:
    model = LanguageModel(any_model("ngram"), tokenizer(), None) if name == "ngram" else made(name)
    with pytest.raises(InputError, match=message):
        export_model(model, to, tmp_path / "out", name=name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_one_line(tmp_path: Path) -> None:
    made("gpt").save(tmp_path / "model")
    with pytest.raises(InputError, match=r"--to: expected one of .*; got 'zip'"):
        CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--to", "zip"], catch_exceptions=False)

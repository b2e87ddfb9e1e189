"""As a person does it: train a small model, adapt it to another text with few weights, write with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from yuyan.commands.outcome import Trained
from yuyan.commands.run import read_run_config
from yuyan.commands.settings import From
from yuyan.commands.train import train_command
from yuyan.errors import InputError, Interrupted
from yuyan.hub import read_adapter, read_model
from yuyan.models.surgery import fixed_scores, without_adapters
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens.train import BytePairConfig

TINY = Path(__file__).parents[2] / "configs" / "tiny"
SHORT = ["train.context=32", "train.batch_tokens=128", "train.threads=1", "evaluate.tokens=500"]
FURTHER = """
name: further
data: {{sources: [{text}], documents: section, section_characters: 300}}
model: {{kind: pretrained, path: {base}}}
train: {{steps: 24, save_steps: 10, optimizer: {{kind: adamw, lr: 0.01}}, precision: {precision}}}
evaluate: {{every: 12}}
adapt: {adapt}
"""
LORA = "{kind: lora, rank: 2, targets: [attention, ffn], dropout: 0.1}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base") / "run"
    config = read_run_config(TINY / "gpt.yaml", [*SHORT, "train.steps=20", "model.hidden_size=32"])
    train_command(config, out, resume=False)
    return out


def further(
    base: Path, out: Path, adapt: str = LORA, *overrides: str, precision: str = "float32", resume: bool = False
) -> Trained:
    file = out.with_suffix(".yaml")
    file.write_text(FURTHER.format(text=TINY / "stories.txt", base=base, adapt=adapt, precision=precision))
    return train_command(read_run_config(file, [*SHORT, *overrides]), out, resume=resume)


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "run"
    further(base, out)
    return out


def test_a_model_of_the_command_line_brings_its_tokenizer(base: Path) -> None:
    file = TINY / "gpt.yaml"  # which names a tokenizer, for a model from nothing
    assert "tokenizer" in read_run_config(file).model_fields_set
    model = f"model={{kind: pretrained, path: {base}}}"
    assert read_run_config(file, [model]).tokenizer == From(path=base / "model")
    assert read_run_config(file, [model, "tokenizer={kind: bpe}"]).tokenizer == BytePairConfig()


def test_the_adapted_model_is_better_on_its_text_and_writes(base: Path, adapted: Path) -> None:
    before, after = (json.loads((run / "reports" / f"{steps:08d}.json").read_text())["validation"]["bits_per_byte"]
                     for run, steps in ((base, 20), (adapted, 24)))  # fmt: skip
    assert after < before - 0.005
    model = LanguageModel.load(adapted)
    assert model.tokenizer.fingerprint == LanguageModel.load(base).tokenizer.fingerprint
    text = model.generate("Anna", temperature=0, max_tokens=5)
    assert text and text == model.generate("Anna", temperature=0, max_tokens=5)


def test_only_adapters_are_in_the_checkpoint(adapted: Path) -> None:
    newest = max((adapted / "state").iterdir())
    weights = load_file(newest / "weights.safetensors")
    assert weights and all(name.endswith((".down", ".up")) for name in weights)
    optimizer = load_file(newest / "optimizer.safetensors")
    assert {name.rpartition("/")[0] for name in optimizer if "/" in name} - {"random"} == set(weights)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_model_folder_is_the_base_with_its_adapter_merged(
    base: Path, adapted: Path, tmp_path: Path, precision: str
) -> None:
    if precision == "bfloat16":
        adapted = tmp_path / "run"
        further(base, adapted, precision="bfloat16")
    network = read_model(base / "model")
    with torch.no_grad():
        before = fixed_scores(network)
        read_adapter(network, adapted / "model" / "adapter")
        scores, merged = fixed_scores(network), fixed_scores(read_model(adapted / "model"))
        assert torch.allclose(merged, scores, atol=1e-5) and not torch.allclose(scores, before, atol=1e-2)
        assert torch.equal(fixed_scores(without_adapters(network)), merged)
    assert "low-rank adapters" in (adapted / "model" / "README.md").read_text()


def test_peft_puts_the_adapter_on_the_base(base: Path, adapted: Path) -> None:
    hf, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    theirs = hf.AutoModelForCausalLM.from_pretrained(base / "model", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(theirs, adapted / "model" / "adapter").eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, LanguageModel.load(adapted).logits(ids), atol=1e-5)


def test_stopped_and_resumed_is_bit_for_bit_the_same(
    base: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuyan.commands import train as command

    out, steps = tmp_path / "run", []

    def interrupt(session: object) -> None:
        steps.append(1)
        raise Interrupted("stopped")

    save = command.Session.save
    monkeypatch.setattr(command.Session, "save", lambda self: (save(self), interrupt(self)))
    with pytest.raises(Interrupted):
        further(base, out)
    monkeypatch.undo()
    torch.manual_seed(77)
    further(base, out, resume=True)
    for name in ("weights.safetensors", "optimizer.safetensors"):
        ours, other = (load_file(folder / "state" / "00000024" / name) for folder in (out, adapted))
        assert ours.keys() == other.keys() and all(torch.equal(ours[key], other[key]) for key in ours)
    files = ["model.safetensors", "adapter/adapter_model.safetensors"]
    assert all((out / "model" / f).read_bytes() == (adapted / "model" / f).read_bytes() for f in files)


def test_a_run_does_not_go_on_from_another_base(base: Path, tmp_path: Path) -> None:
    import shutil

    copy, out = tmp_path / "base", tmp_path / "run"
    shutil.copytree(base / "model", copy)
    (copy / "manifest.json").unlink()
    further(copy, out)
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="not those that the run began with"):
        further(copy, out, resume=True)


def test_frozen_weights_stay_and_new_blocks_are_trained(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    further(base, out, '{kind: freeze, names: ["embedding.*"]}', "model.add_blocks=1")
    before, after = read_model(base / "model"), read_model(out / "model")
    assert torch.equal(after.embedding.token.weight, before.embedding.token.weight)
    assert len(after.decoder.layers) == len(before.decoder.layers) + 1
    assert bool(after.decoder.layers[2].attention.inner.o_proj.weight.any())
    assert not (out / "model" / "adapter").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["adapt.targets=[attenion]"], ["adapt.targets", "attenion", "attention"]),
        (["tokenizer.kind=char"], ["tokenizer", "the model's own"]),
        (["model.path=nowhere"], ["nowhere", "no such model"]),
        (["model.add_blocks=1"], ["lora", "add_blocks"]),
        (["adapt.rank=0"], ["adapt.rank"]),
    ],
)
def test_mistakes_are_named(base: Path, tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        further(base, tmp_path / "run", LORA, *overrides)
    assert all(word in str(error.value) for word in words), error.value


def test_adapters_need_a_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs model\.kind pretrained"):
        read_run_config(TINY / "gpt.yaml", ["adapt.kind=lora"])

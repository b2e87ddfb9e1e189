"""What `yuyan train` writes opens in transformers as it is: the same token ids, the same logits, the same greedy text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yuyan.commands.run import read_run_config
from yuyan.commands.train import train_command
from yuyan.generate import Sampling
from yuyan.tasks.language_model import LanguageModel

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`: pip install 'yuyan[hf]'")
CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "gpt.yaml"
TEXT = "Anna found an old book. 小明在河边找到了一盏小灯。"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = ["train.steps=12", "train.context=64", "train.batch_tokens=256", "train.threads=1"]
    train_command(read_run_config(CONFIG, settings), out, resume=False)
    return out


def test_logits_are_equal(folder: Path) -> None:
    ours = LanguageModel.load(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    input_ids = torch.tensor([ours.tokenizer.encode(TEXT)])
    with torch.no_grad():
        difference = (ours.logits(input_ids) - theirs(input_ids).logits).abs().max()
    assert difference <= 1e-5, float(difference)


def test_token_ids_are_equal(folder: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder / "model")
    ours = LanguageModel.load(folder).tokenizer
    assert theirs(TEXT, add_special_tokens=False)["input_ids"] == ours.encode(TEXT)
    assert theirs.decode(ours.encode(TEXT)) == TEXT == ours.decode(ours.encode(TEXT))


def test_greedy_text_is_equal(folder: Path) -> None:
    ours = LanguageModel.load(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    bos = ours.tokenizer.special.bos
    assert bos is not None
    prompt = torch.tensor([[bos, *ours.tokenizer.encode("The sun was")]])
    written = theirs.generate(prompt, max_new_tokens=20, do_sample=False)[0, prompt.shape[1] :].tolist()
    eos = ours.tokenizer.special.eos
    written = written[: written.index(eos)] if eos in written else written
    expected = [
        event.id for event in ours.events("The sun was", Sampling(temperature=0, max_tokens=20)) if hasattr(event, "id")
    ]
    assert written == expected

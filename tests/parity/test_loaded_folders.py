"""`yuyan.load` of a folder as transformers leaves it, with its tokenizer: the same scores, and what `save` writes opens there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_transformers import BERT, MODELS, batch, close, hf, their_scores

import yuyan
from yuyan.commands.evaluate import evaluate_command
from yuyan.errors import InputError
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import CharConfig

NAMES = [
    "gpt2",
    "llama",
    "qwen3-tokens",
    "bert",
    "bert-sequence",
    "electra-discriminator",
    "t5",
    "t5-sequence",
    "t5-encoder",
]


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_what_is_saved(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = MODELS[name]().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    train_tokenizer(["abcdefgh ."], CharConfig(vocab_size=30)).save(tmp_path / "theirs")
    model = yuyan.load(tmp_path / "theirs")
    ids, mask = batch()
    written = ids[:, :9] if name == "t5" else None
    scores = model.hidden(ids, mask) if name == "t5-encoder" else model.logits(ids, mask, written)
    shown = scores if scores.ndim == 2 else scores.flatten(0, 1) if name == "t5" else scores[mask.bool()]
    close(shown, their_scores(theirs))
    assert model.embed(["ab", "c"]).shape == (2, model.network.config.hidden_size)
    assert model.tokenizer.decode(model.tokenizer.encode("abc")) == "abc"
    model.save(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours", pad_token_id=1, eos_token_id=2).eval()
    close(their_scores(again), their_scores(theirs))
    fast = hf.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "ours" / "tokenizer.json"))
    assert fast("abc", add_special_tokens=False)["input_ids"] == model.tokenizer.encode("abc")


def test_a_roberta_reads_as_many_tokens_as_it_has_positions(tmp_path: Path) -> None:
    theirs = MODELS["roberta-sequence"]()
    theirs.save_pretrained(tmp_path)
    train_tokenizer(["abcdefgh ."], CharConfig(vocab_size=30)).save(tmp_path)
    model = yuyan.load(tmp_path)
    assert model.context == theirs.config.max_position_embeddings - 2
    assert model.predict("abc " * 40, too_long="truncate") == model.predict("abc " * 30, too_long="truncate")


def test_one_number_is_no_label(tmp_path: Path) -> None:
    theirs = hf.BertForSequenceClassification(hf.BertConfig(**BERT | {"num_labels": 1, "problem_type": "regression"}))
    theirs.save_pretrained(tmp_path)
    train_tokenizer(["abcdefgh ."], CharConfig(vocab_size=30)).save(tmp_path)
    model = yuyan.load(tmp_path)
    with pytest.raises(InputError, match="gives a text one number and no label"):
        model.predict("abc")
    assert model.logits(batch()[0]).shape == (3, 1)


@pytest.mark.parametrize(("name", "why"), [("bert", "an encoder only"), ("t5", "writes one text for another")])
def test_a_text_that_has_no_probability(name: str, why: str, tmp_path: Path) -> None:
    MODELS[name]().save_pretrained(tmp_path)
    train_tokenizer(["abcdefgh ."], CharConfig(vocab_size=30)).save(tmp_path)
    (tmp_path / "text.txt").write_text("abc\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{tmp_path}: by this model a text has no probability: it .*{why}"):
        evaluate_command(tmp_path, [tmp_path / "text.txt"], [], as_json=True)


def test_a_published_tagger_whose_spans_begin_inside(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = hf.BertForTokenClassification(hf.BertConfig(**BERT | {"id2label": {0: "I-A", 1: "I-B", 2: "O"}})).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    train_tokenizer(["abcdefgh ."], CharConfig(vocab_size=30)).save(tmp_path)
    model = yuyan.load(tmp_path)
    words = ["a", "bc", "d", "gah", "e", "fff"]
    begin, end = model.tokenizer.frame
    ids = torch.tensor([begin + model.tokenizer.encode(" ".join(words)) + end])
    with torch.no_grad():
        labels = theirs(ids).logits[0].argmax(-1)
    places = [len(begin) + len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
    expected = tuple(theirs.config.id2label[int(labels[place])] for place in places)
    assert model.predict(" ".join(words)).tags == expected != ("O",) * len(words)

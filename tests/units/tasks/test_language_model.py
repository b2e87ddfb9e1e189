"""`yuyan.load` of every kind of folder: scores, hidden states, vectors of texts, generation where there is a decoder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from contracts.sides import ALL, PAIRS, VOCABULARY, strong

from yuyan.errors import YuyanError
from yuyan.generate import Greedy
from yuyan.hub import base_of, write_adapter
from yuyan.hub.sentence import Sentence, read_sentence, write_sentence
from yuyan.models.ngram import NGram
from yuyan.nn.adapt import Lora, adapt
from yuyan.nn.position import Learned
from yuyan.tasks import Converse, Rewrite
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import Writer
from yuyan.tokens import Tokenizer, load_tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig

TEXTS = ["abc", "a", "hello there", "", "zebra"]
KINDS = ["window", "lstm", "bert", "electra", "labels", "bilstm", "t5", "t5 labels", "transformer"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["abcdefghijklmnopqrstuvwxyz ."], CharConfig(vocab_size=VOCABULARY))


def made(name: str, tokenizer: Tokenizer, **settings: Any) -> LanguageModel:
    return LanguageModel(strong(ALL[name]), tokenizer, 30, **settings)


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded_it_is_the_same(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    sentence = Sentence(pooling="max", normalise=False, max_length=9, prompts={"query": "q "}, default_prompt="query")
    model = made(name, tokenizer, sentence=sentence, start=2 if name == "t5" else None)
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    assert (again.sentence, again.context, again.start) == (sentence, 30, model.start)
    assert torch.equal(again.embed(TEXTS), model.embed(TEXTS))
    assert again.network.config == model.network.config


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_every_token_that_the_folder_names_ends_a_text(file: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = made("llama", tokenizer)
    ((written,),) = model.complete(["abc"], kind="greedy", max_tokens=8)
    third = written.ids[2]
    first = written.ids.index(third)
    model.write(tmp_path)
    named, path = [tokenizer.special.eos, third, 10**6], tmp_path / file
    if file == "config.json":
        (tmp_path / "generation_config.json").unlink()
    plain = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plain | {"eos_token_id": named}), encoding="utf-8")
    again = LanguageModel.load(tmp_path)
    ((ended,),) = again.complete(["abc"], kind="greedy", max_tokens=8)
    assert (ended.ids, ended.reason) == (written.ids[:first], "stop")
    again.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text(encoding="utf-8"))
    assert saved["eos_token_id"] == [tokenizer.special.eos, third]
    assert LanguageModel.load(tmp_path / "saved").ends == again.ends == model.ends | {third}


@pytest.mark.parametrize("name", KINDS)
def test_logits_and_hidden_states_are_the_networks(name: str, tokenizer: Tokenizer) -> None:
    model = made(name, tokenizer)
    network, ids = model.network, torch.randint(4, 30, (2, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        if name in PAIRS:
            memory = network.encode(ids, mask)
            hidden = network.decode(ids[:, :3], memory=memory, memory_mask=mask)
            assert torch.equal(model.hidden(ids, mask, ids[:, :3]), hidden)
            assert torch.equal(model.logits(ids, mask, ids[:, :3]), network.score(hidden))
            assert torch.equal(model.hidden(ids, mask), memory)
        elif name in ("labels", "bilstm", "t5 labels"):
            assert torch.equal(model.logits(ids, mask), network.classify(ids, mask))
        else:
            hidden = network.read(ids, mask)
            assert torch.equal(model.hidden(ids, mask), hidden)
            assert torch.equal(model.logits(ids, mask), network.score(hidden))
    assert not model.hidden(ids).requires_grad


def test_what_a_model_has_not_is_said(tokenizer: Tokenizer) -> None:
    ids = torch.tensor([[5, 6]])
    for name, call, words in [
        ("t5", lambda m: m.logits(ids), "decoder_input_ids"),
        ("bert", lambda m: m.hidden(ids, None, ids), "one side only"),
        ("t5 labels", lambda m: m.logits(ids, None, ids), "decoder_input_ids: .* reads the text itself"),
        ("bert", lambda m: m.logits(ids, None, ids), "one side only"),
        ("labels", lambda m: m.logits(ids, None, ids), "one side only"),
        ("t5 labels", lambda m: m.generate("abc"), "scores labels"),
        ("pooler", lambda m: m.logits(ids), "no head"),
        ("t5 encoder", lambda m: m.logits(ids), "no head"),
        ("bert", lambda m: m.generate("abc"), "encoder only"),
        ("labels", lambda m: list(m.stream("abc")), "encoder only"),
        ("window", lambda m: m.embed("abc"), "list of texts"),
        ("window", lambda m: m.embed([3]), "list of texts"),
        ("window", lambda m: m.embed(["a"], prompt="query"), "prompt: 'query'"),
        ("window", lambda m: m.embed(["a"], batch=0), "batch: 0"),
    ]:
        with pytest.raises(YuyanError, match=words):
            call(made(name, tokenizer))


@pytest.mark.parametrize("name", KINDS)
def test_rows_without_a_token_and_other_masks_are_refused(name: str, tokenizer: Tokenizer) -> None:
    model, ids = made(name, tokenizer), torch.randint(4, 30, (3, 5))
    mask = torch.ones(3, 5)
    mask[1] = 0
    written = ids if name in PAIRS else None
    for call in (model.hidden, model.logits):
        with pytest.raises(YuyanError, match="attention_mask: row 1 is padding alone"):
            call(ids, mask, written)
        with pytest.raises(YuyanError, match="attention_mask: expected 1"):
            call(ids, torch.zeros(3, 5).masked_fill(mask == 0, -1e9), written)
        with pytest.raises(YuyanError, match="attention_mask"):
            call(ids, torch.ones(3, 4), written)
        with pytest.raises(YuyanError, match="input_ids: expected rows"):
            call(ids[:0], None, None if written is None else ids[:0])
        with pytest.raises(YuyanError, match="41 is not a token"):
            call(ids + 41 - ids, None, written)


def test_a_text_longer_than_the_positions_is_refused(tokenizer: Tokenizer) -> None:
    for name in ("bert", "gpt2"):
        with pytest.raises(YuyanError, match="41 tokens, but the model has positions for 40"):
            made(name, tokenizer).logits(torch.full((1, 41), 5))
    with pytest.raises(YuyanError, match="the model reads at most 30"):
        made("gpt2", tokenizer).generate("a" * 31)


def test_an_ngram_model_has_no_layers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens = np.array(tokenizer.encode("abcabcab"))
    special = tokenizer.special
    network = NGram.fit(
        tokens, np.array([0, len(tokens)]), order=2, vocab_size=len(tokenizer), bos=special.bos, eos=special.eos
    )
    LanguageModel(network, tokenizer, None).save(tmp_path / "ngram")
    assert said_to_others(tmp_path / "ngram") is None
    model = LanguageModel.load(tmp_path / "ngram")
    assert model.logits(torch.tensor([[5, 6]])).shape == (1, 2, len(tokenizer))
    told = json.loads(tokenizer.content) | {
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    }
    silent = Tokenizer(json.dumps(told), tokenizer.settings)  # its file puts no begin mark before a text
    prompts = [Writer(model, silent, 30).request("ab", Greedy()).prompt for model in (network, strong(ALL["window"]))]
    assert prompts == [[special.bos, *silent.encode("ab")], silent.encode("ab")]
    for call in (lambda: model.embed(["a"]), lambda: model.hidden(torch.tensor([[5]])), lambda: model.add_adapter("x")):
        with pytest.raises(YuyanError, match="n-gram"):
            call()


def said_to_others(folder: Path) -> list[str] | None:
    """What the file of a folder's tokenizer puts a text between."""
    template = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["post_processor"]
    if template is None:
        return None
    return [part["SpecialToken"]["id"] if "SpecialToken" in part else "text" for part in template["single"]]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("window", {}, ["<s>", "text"]),
        ("lstm", {}, ["<s>", "text"]),
        ("window", {"task": Rewrite()}, ["<s>", "text", "</s>"]),
        ("window", {"task": Converse(template="plain")}, None),
        ("window", {"sentence": Sentence()}, None),
        ("t5", {"start": 2}, None),
        ("bert", {}, None),
    ],
)
def test_a_folder_tells_others_what_a_text_stands_between(
    name: str, settings: dict[str, Any], said: list[str] | None, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The begin mark alone where a text is continued; here a task goes on from the tokenizer as it was."""
    made(name, tokenizer, **settings).save(tmp_path / "model")
    assert said_to_others(tmp_path / "model") == said
    again = load_tokenizer(tmp_path / "model")
    if "task" not in settings:
        assert (again.fingerprint, again.frame) == (tokenizer.fingerprint, tokenizer.frame)
    if name == "window" and not settings:
        LanguageModel(strong(ALL[name]), again, 30, task=Rewrite()).save(tmp_path / "tuned")
        assert said_to_others(tmp_path / "tuned") == ["<s>", "text", "</s>"]


# ---------------------------------------------------------------- folders that are not as they should be


@pytest.mark.parametrize("name", ["tokenizer.json", "yuyan.json", "generation_config.json", "1_Pooling"])
def test_no_file_of_a_folder_is_a_link_out_of_it(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    made("window", tokenizer, sentence=Sentence()).save(tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    (tmp_path / "model" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "model" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(YuyanError, match=f"{name}: is a symbolic link"):
        LanguageModel.load(tmp_path / "model")


def test_a_snapshot_of_a_hubs_cache_opens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    hub = tmp_path / "models--a--b"
    snapshot, model = hub / "snapshots" / "0a", made("bert", tokenizer, sentence=Sentence(pooling="cls"))
    (hub / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    model.write(snapshot)
    for number, file in enumerate([file for file in snapshot.rglob("*") if file.is_file()]):
        file.rename(hub / "blobs" / str(number))
        file.symlink_to(os.path.relpath(hub / "blobs" / str(number), file.parent))
    again = LanguageModel.load(snapshot)
    assert again.sentence == model.sentence and torch.equal(again.embed(TEXTS), model.embed(TEXTS))
    with pytest.raises(YuyanError, match=r"snapshots/REVISION, with REVISION one of 0a"):
        LanguageModel.load(hub)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, "null"])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "yuyan.json", "modules.json"])
def test_a_file_that_is_no_json_object_is_named(name: str, content: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    made("t5", tokenizer, sentence=Sentence()).save(tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    (tmp_path / "model" / name).write_text(content)
    if name == "generation_config.json":
        (tmp_path / "model" / "yuyan.json").unlink()
    with pytest.raises(YuyanError, match=name):
        LanguageModel.load(tmp_path / "model")


# ---------------------------------------------------------------- vectors of texts


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("name", ["window", "lstm", "bert", "t5"])
def test_vectors_by_the_formula(name: str, pooling: Any, tokenizer: Tokenizer) -> None:
    model = made(name, tokenizer, sentence=Sentence(pooling=pooling))
    special = tokenizer.special
    for text, vector in zip(TEXTS, model.embed(TEXTS, batch=3), strict=True):
        ids = [special.bos, *tokenizer.encode(text), special.eos]
        hidden = model.hidden(torch.tensor([ids]))[0].double()
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0), "lasttoken": hidden[-1]}[pooling]
        assert torch.allclose(vector.double(), expected / expected.norm(), atol=1e-5)


def test_vectors_do_not_depend_on_the_batch(tokenizer: Tokenizer) -> None:
    model = made("bert", tokenizer)
    together = model.embed(TEXTS, batch=32)
    assert torch.allclose(model.embed(TEXTS[::-1], batch=2).flip(0), together, atol=1e-6)
    assert together.shape == (5, 24) and torch.allclose(together.norm(dim=1), torch.ones(5))
    assert model.embed([]).shape == (0, 24)


def test_length_case_and_prompts_are_the_folders(tokenizer: Tokenizer) -> None:
    plain = made("bert", tokenizer).embed(["ab", "q: ab", "abcd"])
    sentence = Sentence(max_length=6, lower=True, prompts={"query": "q: ", "none": ""}, default_prompt="none")
    model = made("bert", tokenizer, sentence=sentence)
    assert torch.allclose(model.embed(["AB", "abcdefgh"]), plain[[0, 2]], atol=1e-6)
    model.sentence = sentence.model_copy(update={"max_length": None})
    assert torch.allclose(model.embed(["ab"], prompt="query"), plain[[1]], atol=1e-6)


def test_a_long_text_is_cut_where_the_positions_end(tokenizer: Tokenizer) -> None:
    model = made("bert", tokenizer)
    side = model.network.config.encoder
    assert isinstance(side.position, Learned)
    room = side.position.max_position_embeddings - 2
    assert torch.allclose(model.embed(["ab" * 500]), model.embed([("ab" * 500)[:room]]), atol=1e-6)


# ---------------------------------------------------------------- generation with an encoder


@pytest.mark.parametrize("start", [3, None])
@pytest.mark.parametrize("name", ["t5", "transformer", "bahdanau"])
@torch.no_grad()
def test_what_is_written_about_a_text_is_the_likeliest(name: str, start: int | None, tokenizer: Tokenizer) -> None:
    """Behind the mark that the folder names, else behind pad, as a T5 fills its gaps."""
    model, special = made(name, tokenizer, start=start), tokenizer.special
    source = torch.tensor([[special.bos, *tokenizer.encode("abc"), special.eos]])
    begin = special.pad if start is None else start
    assert model.writer().request("abc", Greedy()).prompt == [begin]
    ids, expected = [begin], []
    for _ in range(6):
        scores = model.logits(source, None, torch.tensor([ids]))[0, -1, : len(tokenizer)]
        ids.append(int(scores.argmax()))
        if ids[-1] in (special.eos, special.bos, special.pad):
            break
        expected.append(ids[-1])
    assert model.generate("abc", temperature=0, max_tokens=6) == tokenizer.decode(expected)


# ---------------------------------------------------------------- adapters


def test_an_adapter_folder_opens_with_its_base(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = made("window", tokenizer)
    model.save(tmp_path / "base")
    base = base_of(model.network, str(tmp_path / "base"))
    adapt(model.network, Lora(rank=2), 0)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.2)
    (tmp_path / "adapter").mkdir()
    write_adapter(model.network, tmp_path / "adapter", base)
    ids, opened = torch.tensor([[5, 6, 7]]), LanguageModel.load(tmp_path / "adapter")
    assert torch.allclose(opened.logits(ids), model.logits(ids), atol=1e-5)
    opened.save(tmp_path / "merged")
    assert torch.allclose(LanguageModel.load(tmp_path / "merged").logits(ids), model.logits(ids), atol=1e-5)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "someone/model"}))
    with pytest.raises(YuyanError, match=r"someone/model.*add_adapter"):
        LanguageModel.load(tmp_path / "adapter")


# ---------------------------------------------------------------- sentence files


def test_sentence_settings_round_trip(tmp_path: Path) -> None:
    assert read_sentence(tmp_path) is None
    for settings in (
        Sentence(),
        Sentence(
            pooling="lasttoken", normalise=False, max_length=7, lower=True, prompts={"a": "b"}, default_prompt="a"
        ),
    ):
        write_sentence(settings, tmp_path, 24)
        assert read_sentence(tmp_path) == settings


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}], "Dense"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../x"}], "folder"),
        (
            "modules.json",
            [{"type": "x.Transformer", "path": "0"}, {"type": "x.Pooling", "path": "1"}],
            "make that path empty",
        ),
        ("modules.json", {"a": 1}, "not a list"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "mean and max"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "weightedmean"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt"),
    ],
)
def test_steps_that_are_not_supported_are_named(tmp_path: Path, name: str, content: Any, word: str) -> None:
    write_sentence(Sentence(), tmp_path, 24)
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(YuyanError, match=word):
        read_sentence(tmp_path)


def test_new_names_of_pooling(tmp_path: Path) -> None:
    write_sentence(Sentence(), tmp_path, 24)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 24, "pooling_mode": "cls"}))
    found = read_sentence(tmp_path)
    assert found is not None and found.pooling == "cls"


@pytest.mark.parametrize(("tokenizer_says", "length_says", "found"), [(12, None, 12), (12, 7, 7), (10**30, None, None)])
def test_the_length_of_a_text_where_sentence_transformers_writes_it(
    tokenizer_says: int, length_says: int | None, found: int | None, tmp_path: Path
) -> None:
    write_sentence(Sentence(max_length=length_says), tmp_path, 24)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokenizer_says}))
    sentence = read_sentence(tmp_path)
    assert sentence is not None and sentence.max_length == found


# ---------------------------------------------------------------- published tokenizers


def published(folder: Path, *, settings: bool) -> Path:
    """A WordPiece tokenizer as BERT's is published, with its post-processor."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {name: i for i, name in enumerate([*names, "a", "b", "##b", "c"])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    inner.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.decoder = tokenizers.decoders.WordPiece()
    inner.add_special_tokens(names)
    inner.enable_padding(length=16)
    inner.enable_truncation(8)
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    if settings:
        (folder / "special_tokens_map.json").write_text(
            json.dumps({"cls_token": "[CLS]", "pad_token": {"content": "[PAD]"}})
        )
    return folder


@pytest.mark.parametrize("settings", [True, False])
def test_roles_and_frame_of_a_published_tokenizer(tmp_path: Path, settings: bool) -> None:
    found = load_tokenizer(published(tmp_path, settings=settings))
    assert (found.special.cls, found.special.pad) == (2, 0)
    assert (found.special.sep, found.special.mask) == ((None, None) if settings else (3, 4))
    assert found.frame == ([2], [3])
    assert found.encode("AB b [SEP] " + "a" * 3)[:3] == [5, 7, 6] and len(found.encode("a " * 30)) == 30
    (tmp_path / "again").mkdir()
    found.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").special == found.special


def test_the_frame_of_ours_is_begin_and_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.frame == ([tokenizer.special.bos], [tokenizer.special.eos])

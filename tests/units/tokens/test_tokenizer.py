"""Opening tokenizers, ours and published ones, and what can be wrong with their files."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from yuyan.errors import DataError, InputError
from yuyan.tokens import TextStream, Tokenizer, load_tokenizer
from yuyan.tokens.train import BytePairConfig, train_with_report


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    texts = ["the cat sat on the mat. 床前明月光"] * 20
    return train_with_report(texts, BytePairConfig(vocab_size=320)).tokenizer


def published(folder: Path, inner: tokenizers.Tokenizer, **settings: object) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(folder)


def sentencepiece_like() -> tokenizers.Tokenizer:
    """The layout of Llama 2: BPE with bytes to fall back on, a space before the text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "t", "h", "e", "▁t", "he", "▁the"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    return inner


def test_a_sentencepiece_layout_decodes_and_streams_like_the_library(tmp_path: Path) -> None:
    tokenizer = published(tmp_path / "sp", sentencepiece_like(), bos_token="<s>", eos_token={"content": "</s>"})
    assert (tokenizer.special.bos, tokenizer.special.eos, tokenizer.special.unk) == (1, 2, None)
    for text in ("the the", "the 月 the", "👩‍👩‍👧 the", " the", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == tokenizer._inner.decode(ids) == text
        stream = TextStream(tokenizer)
        parts = [stream.put(i) for i in ids] + [stream.finish()]
        assert "".join(parts) == text and "\ufffd" not in "".join(parts)
    assert not set(tokenizer.encode("</s>")) & tokenizer.special.control


def test_a_gpt2_layout_shares_one_control_token(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    end = "<|endoftext|>"
    tokenizer = published(tmp_path / "gpt2", inner, bos_token=end, eos_token=end, unk_token=end)
    assert tokenizer.special.bos == tokenizer.special.eos == tokenizer.special.unk == 256
    ids = tokenizer.encode("a<|endoftext|>b 月")
    assert 256 not in ids and tokenizer.decode([256, *ids, 256]) == "a<|endoftext|>b 月"


def test_a_bert_layout_has_its_roles(tmp_path: Path) -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
    inner = tokenizers.Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.add_special_tokens([AddedToken(name, special=True) for name in names[:5]])
    inner.enable_truncation(2)
    inner.enable_padding(length=9)
    tokenizer = published(
        tmp_path / "bert", inner,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert tokenizer.encode("the cats the cats") == [5, 6, 7, 5, 6, 7]  # neither cut nor filled up
    assert tokenizer.decode([2, 5, 6, 7, 3]) == "the cats"
    assert not {0, 2, 3, 4} & set(tokenizer.encode("[MASK] [CLS]"))


def test_a_pattern_of_others_is_not_cut(tmp_path: Path) -> None:
    """Cuts beforehand are exact for our patterns only; another tokenizer gets the whole text."""
    inner = tokenizers.Tokenizer(models.WordLevel({"a b": 0, "<unk>": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("a b"), "isolated")
    tokenizer = published(tmp_path / "other", inner)
    assert tokenizer.encode("a b" * 9000) == [0] * 9000


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not a tokenizer"), ("[]", "not a tokenizer"), ("", "not a tokenizer")]
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=rf"{tmp_path}/tokenizer.json: {said}"):
        load_tokenizer(tmp_path)


def test_merges_of_unknown_tokens_are_an_error(ours: Tokenizer, tmp_path: Path) -> None:
    ours.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["merges"][3] = ["never", "seen"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(tmp_path)


def test_missing_things_are_said(tmp_path: Path, ours: Tokenizer) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"tokenizer\.json: no such file"):
        load_tokenizer(tmp_path)
    ours.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(DataError, match=r"tokenizer_config\.json: not a JSON object"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8 at byte 0"):
        load_tokenizer(tmp_path)


def test_a_decoder_that_is_no_concatenation_is_refused(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    inner.decoder = decoders.BPEDecoder()
    with pytest.raises(DataError, match="the decoder BPEDecoder is not supported"):
        published(tmp_path / "old", inner).decode([0])


def test_ids_that_are_none_are_an_error(ours: Tokenizer) -> None:
    for i in (-1, len(ours)):
        with pytest.raises(IndexError):
            ours.decode([5, i])
        with pytest.raises(IndexError):
            TextStream(ours).put(i)


def test_settings_of_others_are_kept(tmp_path: Path, ours: Tokenizer) -> None:
    ours.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ x }}"}))
    load_tokenizer(tmp_path).save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"] == "{{ x }}"


def test_parts_come_in_order_and_at_least_one_for_each_text(ours: Tokenizer) -> None:
    texts = ["", "the cat", "", "月" * 50_000, "sat"]
    parts = list(ours.encode_parts(iter(texts)))
    assert [number for number, _ in parts] == sorted(number for number, _ in parts)
    assert {number for number, _ in parts} == set(range(5))
    for n, text in enumerate(texts):
        assert [i for number, ids in parts if number == n for i in ids] == ours._inner.encode(text).ids


def test_texts_are_taken_as_they_are_needed(ours: Tokenizer) -> None:
    taken = []

    def texts() -> object:
        for i in range(100):
            taken.append(i)
            yield "the cat sat on the mat " * 10_000

    next(ours.encode_parts(texts()))  # type: ignore[arg-type]
    assert len(taken) < 20


@pytest.mark.slow
def test_a_line_of_ten_million_characters_takes_little_memory(ours: Tokenizer) -> None:
    for text in ("a" * 10_000_000, "床前明月光" * 1_000_000):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = sum(len(ids) for _, ids in ours.encode_parts([text]))
        assert total > 1_000_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000  # kilobytes


def test_decoding_is_linear(ours: Tokenizer) -> None:
    ids = ours.encode("the cat sat on the mat. 床前明月光" * 2000)
    started = time.process_time()
    stream = TextStream(ours)
    text = "".join([stream.put(i) for i in ids]) + stream.finish()
    assert text == ours.decode(ids)
    assert time.process_time() - started < 2

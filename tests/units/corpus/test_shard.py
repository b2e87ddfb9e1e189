"""Shards hold what was encoded, say when they do not, and are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from yuyan.corpus import Shards, write_shards
from yuyan.errors import CheckpointCorrupt, DataError, InputError, StorageError
from yuyan.text.document import Document
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import BytePairConfig, CharConfig

TEXTS = ["the cat sat on the mat", "", "床前明月光，疑是地上霜", "a </s> b", "x" * 40_000 + " y", " "]


def documents(texts: list[str] = TEXTS) -> Iterator[Document]:
    return (Document(f"file {i}\n", text, {}) for i, text in enumerate(texts))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, BytePairConfig(vocab_size=280))


def test_every_document_comes_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = write_shards(documents(), tokenizer, tmp_path / "s")
    again = Shards.open(tmp_path / "s", tokenizer=tokenizer)
    for one in (shards, again):
        assert len(one) == len(TEXTS)
        assert [one.document(i).tolist() for i in range(len(one))] == [tokenizer.encode(text) for text in TEXTS]
        assert one.document_bytes.tolist() == [len(text.encode()) for text in TEXTS]
        assert one.bytes == sum(len(text.encode()) for text in TEXTS)
        assert one.tokens == sum(len(tokenizer.encode(text)) for text in TEXTS) == one.offsets[-1] == len(one.flat)
        assert list(one.ids()) == [f"file {i}\n" for i in range(len(TEXTS))]
        assert one.vocab_size == len(tokenizer) and one.fingerprint == tokenizer.fingerprint
        assert one.document(0).dtype == np.uint16 and one.unknown_rate == 0
    with pytest.raises(IndexError):
        again.document(len(TEXTS))
    with pytest.raises(IndexError):
        again.document(-1)


def test_documents_are_stored_bare(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = write_shards(documents(), tokenizer, tmp_path / "s")
    assert not set(shards.flat.tolist()) & tokenizer.special.control


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    text = "".join(chr(i) for i in range(0x20, 0x11000) if not 0xD800 <= i < 0xE000)
    tokenizer = train_tokenizer([text], CharConfig())
    shards = write_shards([Document("all", text, {})], tokenizer, tmp_path / "s")
    assert len(tokenizer) > 1 << 16 and shards.flat.dtype == np.uint32
    assert tokenizer.decode(shards.document(0).tolist()) == text


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["abc"], CharConfig())
    shards = write_shards(documents(["abcd", "xyza"]), tokenizer, tmp_path / "s")
    assert shards.index.unknown == 4 and shards.unknown_rate == 0.5


def test_another_tokenizer_is_refused_naming_both(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(documents(), tokenizer, tmp_path / "s")
    other = train_tokenizer(TEXTS, CharConfig())
    with pytest.raises(InputError, match=f"{tokenizer.fingerprint[:12]} there, {other.fingerprint[:12]} here"):
        Shards.open(tmp_path / "s", tokenizer=other)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "document_bytes.npy", "index.json", "ids.txt"])
def test_a_flipped_bit_a_cut_and_a_missing_file_are_found(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "s"
    write_shards(documents(), tokenizer, folder)
    good = (folder / name).read_bytes()
    for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 64])):
        (folder / name).write_bytes(bad)
        with pytest.raises(CheckpointCorrupt, match=name.replace(".", r"\.")):
            Shards.open(folder)
    (folder / name).unlink()
    with pytest.raises((CheckpointCorrupt, InputError)):
        Shards.open(folder)


def test_sizes_are_checked_even_without_hashes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_shards(documents(), tokenizer, folder)
    with (folder / "tokens.bin").open("ab") as file:
        file.write(b"xx")
    with pytest.raises(CheckpointCorrupt, match="sizes"):
        Shards.open(folder, verify=False)


def test_another_format_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_shards(documents(), tokenizer, folder)
    index = json.loads((folder / "index.json").read_text())
    for change, error in (
        ({"format": 9}, InputError),
        ({"dtype": "object"}, InputError),
        ({"more": 1}, CheckpointCorrupt),
    ):
        (folder / "index.json").write_text(json.dumps(index | change))
        with pytest.raises(error):
            Shards.open(folder, verify=False)


def test_no_text_is_an_error_and_leaves_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(DataError, match="no tokens to write"):
            write_shards(documents(texts), tokenizer, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokens here"):
        Shards.open(tmp_path / "nowhere")


def test_a_surrogate_names_the_document(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="document file 1\n: a lone surrogate"):
        write_shards(documents(["good", "a\ud800"]), tokenizer, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_the_old_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(documents(), tokenizer, tmp_path / "s")

    def failing() -> Iterator[Document]:
        yield from documents(["some text"] * 100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(failing(), tokenizer, tmp_path / "s")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert len(Shards.open(tmp_path / "s", tokenizer=tokenizer)) == len(TEXTS)


def test_a_place_that_cannot_be_written_is_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_shards(documents(), tokenizer, tmp_path / "file" / "s")


def test_documents_are_read_as_they_are_needed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Never all texts at once: when the first ids are written, later documents have not been asked for."""
    alive = 0

    class Noted(str):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def many() -> Iterator[Document]:
        nonlocal alive, most
        for i in range(90):
            alive += 1
            most = max(most, alive)
            yield Document(str(i), Noted("the cat sat on the mat. " * 2000), {})

    write_shards(many(), tokenizer, tmp_path / "s")
    assert most < 60

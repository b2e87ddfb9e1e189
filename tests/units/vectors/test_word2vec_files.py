"""Files of vectors: what is written comes back, and what is damaged is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from yuyan.errors import CheckpointCorrupt, DataError, InputError
from yuyan.vectors import Subwords, Vectors, VectorsConfig, load_vectors, read_word2vec, save_vectors, write_word2vec
from yuyan.vectors.space import SubwordTable


@pytest.fixture
def vectors() -> Vectors:
    draw = np.random.default_rng(0)
    matrix = draw.normal(0, 1, (4, 3)).astype(np.float32)
    matrix[1] = [1e-30, -3.4e38, 0]
    return Vectors(["the", "月", "c'est", "1"], matrix, np.array([9, 5, 2, 1]))


@pytest.mark.parametrize("name", ["v.bin", "v.txt", "v.vec", "v.txt.gz", "v.bin.gz"])
def test_a_file_comes_back_bit_for_bit(name: str, vectors: Vectors, tmp_path: Path) -> None:
    write_word2vec(tmp_path / name, vectors)
    read = read_word2vec(tmp_path / name)
    assert read.words == vectors.words and (read.matrix == vectors.matrix).all()


def test_a_folder_comes_back_and_knows_when_it_is_damaged(vectors: Vectors, tmp_path: Path) -> None:
    table = SubwordTable(Subwords(shortest=2), np.array([3, 8]), np.ones((2, 3), np.float32))
    full = Vectors(vectors.words, vectors.matrix, vectors.counts, table)
    save_vectors(tmp_path / "v", full, VectorsConfig(), {"losses": [1.0]})
    read = load_vectors(tmp_path / "v")
    assert read.counts is not None and read.counts.tolist() == [9, 5, 2, 1]
    assert read.subwords is not None and read.subwords.config == table.config
    assert (read.subwords.buckets == table.buckets).all() and (read.subwords.matrix == table.matrix).all()
    data = bytearray((tmp_path / "v" / "vectors.bin").read_bytes())
    data[-3] ^= 1
    (tmp_path / "v" / "vectors.bin").write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"vectors\.bin: damaged"):
        load_vectors(tmp_path / "v")


def test_glove_text_has_no_header_and_word2vec_no_line_ends(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("the 1 2\n, -0.5 3e2\n")
    read = load_vectors(tmp_path / "g.txt")
    assert read.words == ["the", ","] and read.matrix.tolist() == [[1, 2], [-0.5, 300]]
    (tmp_path / "w.bin").write_bytes(
        b"2 2\nthe " + np.array([1, 2], "<f4").tobytes() + b", " + np.array([10, 3], "<f4").tobytes()
    )
    assert read_word2vec(tmp_path / "w.bin").matrix.tolist() == [[1, 2], [10, 3]]


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_words_of_text_files_may_have_spaces_and_a_byte_order_mark_is_no_word(tmp_path: Path, header: str) -> None:
    (tmp_path / "g.txt").write_text(f"\ufeff{header}the 1 2\n. . . 3 4\nat name@domain.com 5 6\n3 7 8\n", "utf-8")
    read = load_vectors(tmp_path / "g.txt")
    assert read.words == ["the", ". . .", "at name@domain.com", "3"]
    assert read.matrix.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_of_a_word_that_is_there_twice_the_first_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.txt").write_text("a 1\nb 2\na 3\n")
    assert read_word2vec(tmp_path / "g.txt").matrix.tolist() == [[1], [2]]
    assert "1 words are there twice" in capsys.readouterr().err


GOOD = b"3 2\n" + b"".join(word + b" " + np.array([1, 2], "<f4").tobytes() for word in (b"a", b"b", b"c"))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no vectors in it: the file is empty"),
    "binary cut in a vector": (GOOD[:-1], "are 33: the file is incomplete or damaged|ends within word 3 of 3, 'c'"),
    "binary cut in a name": (b"3 1\n" + b"a \0\0\0\0" + b"b \0\0\0\0" + b"cccccc", "ends after 2 of 3 words"),
    "binary goes on": (GOOD + b"d 123", "goes on after its 3 words of 2 dimensions"),
    "binary of other numbers": (b"2 3" + GOOD[3:], "word 2 is not UTF-8|goes on after|ends within|is not finite|incomplete"),
    "no word": (b"1 1\n" + b"\xff\xfe \0\0\0\0", "word 1 is not UTF-8"),
    "endless word": (b"2 1\n" + b"\0" * 9000, "0 numbers after .*; expected 1"),
    "huge header": (b"999999999999 3\n" + GOOD[4:], "which need .* bytes or more; there are"),
    "nothing in it": (b"0 300\n", "0 words of 300 dimensions are no vectors"),
    "not finite": (b"1 1\na " + np.array([np.nan], "<f4").tobytes(), "vector of 'a' .* not finite"),
    "text cut between words": (b"3 2\na 1 2\nb 3 4\n", "ends after 2 words; its first line says 3"),
    "text cut in a line": (b"2 2\na 1 2\nb 3\n", ":3: 1 numbers after 'b'; expected 2"),
    "text goes on": (b"1 2\na 1 2\nb 3 4\n", "goes on after 1 words; its first line says 1"),
    "text of other numbers": (b"2 2\na 1 2 3\nb 1 2 3\n", ":2: 3 numbers after 'a'; expected 2"),
    "no number": (b"2 2\na 1 2\nb 3 x4\n", ":3: 'x4' after 'b' is not a number"),
    "text not finite": (b"1 2\na 1 nan\n", "vector of 'a' .* not finite"),
    "prose": (b"Once upon a time.\n", ":1: 'upon' after 'Once' is not a number"),
    "gzip cut": (gzip.compress(GOOD * 100)[:60], "the gzip file is damaged or incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(case: str, tmp_path: Path) -> None:
    data, said = DAMAGED[case]
    (tmp_path / "v").write_bytes(data)
    with pytest.raises(DataError, match=f"v.*({said})"):
        read_word2vec(tmp_path / "v")


def test_what_cannot_be_written_or_found(vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.bin is binary, \.txt and \.vec are text"):
        write_word2vec(tmp_path / "v.npy", vectors)
    with pytest.raises(InputError, match="'New York': a word with white space"):
        write_word2vec(tmp_path / "v.txt", Vectors(["New York"], np.ones((1, 2), np.float32)))
    with pytest.raises(InputError, match="no such file"):
        load_vectors(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no vectors in it: there is no vectors\.bin"):
        load_vectors(tmp_path)
    assert not list(tmp_path.iterdir())

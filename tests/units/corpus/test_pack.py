"""Rows against the definition written out in plain Python."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.corpus import Packed, Shards
from yuyan.corpus.order import DOCUMENTS, OFFSET, ROWS, number_below, permutation
from yuyan.corpus.shard import Index
from yuyan.errors import ConfigError, InputError

BOS, EOS = 900, 901


def shards_of(folder: Path, sizes: list[int]) -> Shards:
    """Documents whose tokens are 0, 1, 2, ... throughout, so that each token is known by its id."""
    folder.mkdir(exist_ok=True)
    total = sum(sizes)
    np.arange(total, dtype=np.uint16).tofile(folder / "tokens.bin")
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    np.save(folder / "document_bytes.npy", np.array(sizes, np.int64))
    index = Index(
        format=1, dtype="uint16", documents=len(sizes), tokens=total, bytes=total, unknown=0, vocab_size=1000, tokenizer="x"
    )  # fmt: skip
    return Shards(folder, index)


def ring(shards: Shards, seed: int, epoch: int, bos: int | None, eos: int | None) -> list[int]:
    joined: list[int] = []
    for i in permutation(len(shards), seed, epoch, DOCUMENTS):
        joined += ([] if bos is None else [bos]) + shards.document(int(i)).tolist() + ([] if eos is None else [eos])
    return joined


sizes_of = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(sum)
controls = st.sampled_from([(BOS, EOS), (None, EOS), (BOS, None), (None, None)])


@settings(deadline=None, max_examples=150)
@given(sizes=sizes_of, control=controls, length=st.integers(1, 40), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_rows_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], control: tuple[int | None, int | None],
    length: int, seed: int, epoch: int,
) -> None:  # fmt: skip
    shards = shards_of(tmp_path_factory.mktemp("s"), sizes)
    bos, eos = control
    joined = ring(shards, seed, epoch, bos, eos)
    if len(joined) <= length:
        with pytest.raises(InputError):
            Packed(shards, length, seed=seed, bos=bos, eos=eos)
        return
    packed = Packed(shards, length, seed=seed, bos=bos, eos=eos)
    assert packed.tokens == len(joined) and len(packed) == -(-len(joined) // length)
    start = number_below(len(joined), seed, epoch, OFFSET)
    order = permutation(len(packed), seed, epoch, ROWS)
    expected = [
        [joined[(start + int(k) * length + i) % len(joined)] for i in range(length + 1)] for k in order
    ]  # fmt: skip
    rows = packed.rows(epoch, np.arange(len(packed)))
    assert rows.dtype == np.int64 and rows.tolist() == expected
    shuffled = np.random.default_rng(0).permutation(len(packed))
    assert packed.rows(epoch, shuffled).tolist() == [expected[i] for i in shuffled]
    assert packed.row(epoch, 0).tolist() == expected[0]
    assert packed.rows(epoch, []).shape == (0, length + 1)


@settings(deadline=None, max_examples=60)
@given(sizes=sizes_of, length=st.integers(1, 30), epoch=st.integers(0, 2))
def test_every_token_is_an_input_once_and_a_label_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], length: int, epoch: int
) -> None:
    shards = shards_of(tmp_path_factory.mktemp("s"), sizes)
    if shards.tokens + 2 * len(shards) <= length:
        return
    packed = Packed(shards, length, seed=1, bos=BOS, eos=EOS)
    rows = packed.rows(epoch, np.arange(len(packed)))
    once = Counter(shards.flat.tolist()) + Counter({BOS: len(shards), EOS: len(shards)})
    excess = len(packed) * length - packed.tokens
    assert 0 <= excess < length
    for part in (rows[:, :-1], rows[:, 1:]):
        counted = Counter(part.ravel().tolist())
        assert set(counted) == set(once)
        assert sum((counted - once).values()) == excess and not once - counted


def test_the_documents_of_a_row_are_told_apart(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, [3, 0, 5, 1, 9, 2])
    packed = Packed(shards, 7, seed=3, bos=BOS, eos=EOS)
    everything = np.arange(len(packed))
    found = packed.rows_with_documents(0, everything)
    assert found.input_ids.tolist() == packed.rows(0, everything).tolist()
    for ids, documents in zip(*(part.tolist() for part in found), strict=True):
        number = 0
        for i, token in enumerate(ids):
            number += bool(i) and token == BOS
            assert documents[i] == number


def test_rows_without_control_tokens_keep_documents_apart(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, [3, 0, 0, 4, 5, 0])
    packed = Packed(shards, 5, seed=0, bos=None, eos=None)
    for ids, documents in zip(*packed.rows_with_documents(2, np.arange(len(packed))), strict=True):
        owner = np.searchsorted(shards.offsets, ids, side="right")
        changes = (np.diff(owner) != 0).cumsum()
        assert documents.tolist() == [0, *changes.tolist()]


def test_too_few_tokens_say_how_many_and_what_would_fit(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, [3, 4])
    with pytest.raises(InputError, match=r"11 tokens, and one row of length 11 needs 12: a length of at most 10"):
        Packed(shards, 11, seed=0, bos=BOS, eos=EOS)
    assert len(Packed(shards, 10, seed=0, bos=BOS, eos=EOS)) == 2
    with pytest.raises(ConfigError):
        Packed(shards, 0, seed=0, bos=BOS, eos=EOS)


def test_a_row_that_is_none_is_an_error(tmp_path: Path) -> None:
    packed = Packed(shards_of(tmp_path, [30]), 5, seed=0, bos=BOS, eos=EOS)
    for index in (-1, len(packed)):
        with pytest.raises(IndexError, match=f"row {index} of {len(packed)}"):
            packed.row(0, index)


def test_permutations_are_permutations_and_fixed() -> None:
    for count in (0, 1, 2, 1000):
        assert sorted(permutation(count, 1, 2, ROWS).tolist()) == list(range(count))
    # Written down: an order that changed with a version would make every stored position mean something else.
    assert permutation(8, 0, 0, DOCUMENTS).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert [number_below(1000, 0, epoch, OFFSET) for epoch in range(3)] == [168, 730, 434]

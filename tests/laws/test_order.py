"""The order of the data is a function of (seed, epoch, index): nothing else may matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from yuyan.corpus import Batches, Packed, Shards, write_shards
from yuyan.corpus.by_length import ByLength
from yuyan.corpus.continued import Continued
from yuyan.errors import InputError
from yuyan.text.document import Document
from yuyan.tokens import train_tokenizer
from yuyan.tokens.special import Special
from yuyan.tokens.train import CharConfig

LENGTH = 16


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    texts = ["".join(chr(0x4E00 + (i * 37 + j) % 500) for j in range(5 + i * i % 90)) for i in range(40)]
    documents = [Document(str(i), text, {}) for i, text in enumerate(texts)]
    return write_shards(documents, train_tokenizer(texts, CharConfig()), tmp_path_factory.mktemp("corpus") / "shards")


KINDS = ["packed", "weighted", "one document"]


@pytest.fixture(params=KINDS)
def rows(request: pytest.FixtureRequest, shards: Shards, tmp_path: Path) -> Packed:
    return made(request.param, shards, seed=5)


def made(kind: str, shards: Shards, seed: int) -> Packed:
    if kind == "weighted":
        weights = np.linspace(0.2, 1.8, len(shards))
        return Packed(shards, LENGTH, seed=seed, bos=1000, eos=1001, weights=weights)
    packed = Packed(shards, LENGTH, seed=seed, bos=1000, eos=1001)
    if kind == "one document":  # shuffling documents does nothing here, yet epochs must differ
        whole = Shards(shards.folder, shards.index)
        whole.offsets = np.array([0, shards.tokens])
        whole.__class__ = _One
        return Packed(whole, LENGTH, seed=seed, bos=1000, eos=1001)
    return packed


class _One(Shards):
    def __len__(self) -> int:
        return 1


def updates(batches: Batches, count: int) -> list[torch.Tensor]:
    """The next updates, micro-batches joined: (rows of this rank, length)."""
    iterator = iter(batches)
    found = [torch.cat([micro["input_ids"] for micro in update]) for update in islice(iterator, count)]
    iterator.close()  # type: ignore[attr-defined]
    return found


def test_each_row_comes_exactly_once_an_epoch(rows: Packed) -> None:
    batch_rows = 7
    count = -(-2 * len(rows) // batch_rows)
    seen = torch.cat(updates(Batches(rows, batch_rows=batch_rows, seed=5), count)).numpy()
    for epoch in range(2):
        of_epoch = seen[epoch * len(rows) : (epoch + 1) * len(rows)]
        expected = rows.rows(epoch, np.arange(len(rows)))[:, :-1]
        assert Counter(map(bytes, of_epoch)) == Counter(map(bytes, np.ascontiguousarray(expected)))


@pytest.mark.parametrize("kind", KINDS)
def test_order_differs_by_epoch_and_seed_and_not_otherwise(shards: Shards, kind: str) -> None:
    def all_rows(seed: int, epoch: int) -> bytes:
        rows = made(kind, shards, seed)
        return rows.rows(epoch, np.arange(len(rows))).tobytes()

    assert all_rows(0, 0) == all_rows(0, 0) and all_rows(3, 9) == all_rows(3, 9)
    different = {all_rows(seed, epoch) for seed in range(4) for epoch in range(4)}
    assert len(different) == 16


def test_a_row_does_not_depend_on_what_was_read_before(rows: Packed) -> None:
    wanted = [(epoch, index) for epoch in (2, 0, 1) for index in (0, len(rows) - 1, len(rows) // 2)]
    once = [rows.row(*at).tolist() for at in wanted]
    again = [rows.row(*at).tolist() for at in reversed(wanted)]
    assert once == again[::-1]


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
@pytest.mark.parametrize("micro_rows", [1, 2, 5, None])
def test_the_ranks_together_are_the_single_process(rows: Packed, world_size: int, micro_rows: int | None) -> None:
    alone = updates(Batches(rows, batch_rows=6, seed=5), 12)
    parts = [
        updates(Batches(rows, batch_rows=6, micro_rows=micro_rows, seed=5, rank=rank, world_size=world_size), 12)
        for rank in range(world_size)
    ]
    assert all(torch.equal(torch.cat(shares), whole) for *shares, whole in zip(*parts, alone, strict=True))


@pytest.mark.parametrize("position", [0, 1, 5, 11, 30])
def test_going_on_anywhere_continues_identically(rows: Packed, position: int) -> None:
    whole = updates(Batches(rows, batch_rows=6, seed=5), position + 8)
    first = Batches(rows, batch_rows=6, seed=5)
    updates(first, position)
    state = first.state_dict()
    assert first.position == position
    for world_size, micro_rows in ((1, None), (1, 4), (2, 1), (3, 2)):
        parts = []
        for rank in range(world_size):
            batches = Batches(rows, batch_rows=6, micro_rows=micro_rows, seed=5, rank=rank, world_size=world_size)
            batches.load_state_dict(state)
            assert batches.position == position
            parts.append(updates(batches, 8))
        together = [torch.cat(shares) for shares in zip(*parts, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(together, whole[position:], strict=True))


def test_another_batch_size_reads_the_same_rows_in_the_same_order(rows: Packed) -> None:
    first = Batches(rows, batch_rows=6, seed=5)
    start = updates(first, 3)
    second = Batches(rows, batch_rows=4, seed=5)
    second.load_state_dict(first.state_dict())
    both = torch.cat([*start, *updates(second, 9)])
    assert torch.equal(both, torch.cat(updates(Batches(rows, batch_rows=6, seed=5), 9)))


@pytest.mark.parametrize("kind", ["by length", "continued"])
def test_an_order_made_for_a_batch_goes_on_with_that_batch_only(kind: str, shards: Shards) -> None:
    """Rows would be read twice, others never."""

    def batches(rows: int) -> Batches:
        if kind == "by length":
            return Batches(ByLength(range(100), [1] * 100, rows, 9, seed=0), batch_rows=rows, seed=5)
        special = Special(bos=1000, eos=1001)
        return Batches(Continued(shards, LENGTH, rows, seed=5, special=special), batch_rows=rows, seed=5)

    with pytest.raises(InputError, match=r"train\.batch_tokens: 4 rows an update there, 2 here"):
        batches(2).load_state_dict(batches(4).state_dict())
    batches(4).load_state_dict(batches(4).state_dict())


SCRIPT = """
import sys, hashlib, itertools
from pathlib import Path
from yuyan.corpus import *
shards = Shards.open(Path(sys.argv[1]))
digest = hashlib.sha256()
for length in (16, 7):
    rows = Packed(shards, length, seed=1, bos=1000, eos=1001)
    iterator = iter(Batches(rows, batch_rows=5, micro_rows=2, seed=1,
                            example=lambda row, random: {"x": row, "r": random.integers(0, 1 << 62, 3)}))
    for update in itertools.islice(iterator, 40):
        for micro in update:
            digest.update(micro["x"].numpy().tobytes() + micro["r"].numpy().tobytes())
    iterator.close()
print(digest.hexdigest())
"""


def test_order_does_not_depend_on_hash_seed_or_folder(shards: Shards, tmp_path: Path) -> None:
    found = set()
    for number in ("0", "7"):
        folder = tmp_path / number
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(shards.folder.resolve())],
            cwd=folder, env=os.environ | {"PYTHONHASHSEED": number}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1 and len(found.pop().strip()) == 64

"""N-gram models on disk: bit for bit the same, and every kind of damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from yuyan.errors import CheckpointCorrupt, ConfigError, DataError
from yuyan.models.ngram import CONFIG, WEIGHTS, NGram
from yuyan.store import MANIFEST

BOS, EOS, VOCABULARY = 0, 1, 8


def model(order: int = 3, bos: int | None = BOS, eos: int | None = EOS) -> NGram:
    rng = np.random.default_rng(0)
    tokens = 2 + np.minimum(rng.geometric(0.5, 300) - 1, 4)
    starts = np.sort(np.concatenate(([0, 300], rng.integers(0, 300, 20))))
    return NGram.fit(tokens, starts, order=order, vocab_size=VOCABULARY, bos=bos, eos=eos)


@pytest.mark.parametrize("order, bos, eos", [(1, None, None), (3, BOS, EOS), (5, BOS, None), (30, None, EOS)])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, order: int, bos: int | None, eos: int | None) -> None:
    ours = model(order, bos, eos)
    ours.save(tmp_path / "model")
    again = NGram.load(tmp_path / "model")
    assert (again.order, again.vocab_size, again.bos, again.eos) == (order, VOCABULARY, bos, eos)
    for before, after in zip(ours.levels, again.levels, strict=True):
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    assert config["model_type"] == "yuyan" and config["architecture"]["kind"] == "ngram"


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    model().save(tmp_path)
    damaged = bytearray((tmp_path / WEIGHTS).read_bytes())
    damaged[-3] ^= 1
    (tmp_path / WEIGHTS).write_bytes(damaged)
    with pytest.raises(CheckpointCorrupt, match=WEIGHTS):
        NGram.load(tmp_path)


DAMAGE = {
    "order.2.offsets": lambda x: np.where(np.arange(len(x)) == 2, 10_000, x),
    "order.3.offsets": lambda x: x[:-1],
    "order.2.tokens": lambda x: x[::-1].copy(),
    "order.3.tokens": lambda x: np.where(np.arange(len(x)) == 1, VOCABULARY, x),
    "order.1.tokens": lambda x: x[::-1].copy(),
    "order.2.log_probs": lambda x: np.where(np.arange(len(x)) == 1, np.nan, x),
    "order.3.log_probs": lambda x: -x,
    "order.1.log_probs": lambda x: x.astype(np.float32),
    "order.2.log_backoffs": lambda x: x[:-1],
    "order.1.log_backoffs": lambda x: np.where(np.arange(len(x)) == 1, np.inf, x),
    "order.3.log_backoffs": lambda x: np.zeros(3),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_numbers_that_do_not_fit_are_found_without_a_manifest(tmp_path: Path, name: str) -> None:
    model().save(tmp_path)
    (tmp_path / MANIFEST).unlink()
    tensors = load_file(tmp_path / WEIGHTS)
    tensors[name] = DAMAGE[name](tensors[name])
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointCorrupt, match=f"order {name.split('.')[1]}") as caught:
        NGram.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        NGram.load(tmp_path / "nowhere")
    model().save(tmp_path)
    (tmp_path / MANIFEST).unlink()
    good = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(CheckpointCorrupt, match=WEIGHTS):
        NGram.load(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointCorrupt, match=WEIGHTS):
        NGram.load(tmp_path)
    for change in ({"kind": "lstm"}, {"order": 0}, {"vocab_size": "many"}):
        (tmp_path / CONFIG).write_text(json.dumps(good | {"architecture": good["architecture"] | change}))
        with pytest.raises(ConfigError, match=next(iter(change))):
            NGram.load(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(CheckpointCorrupt, match=CONFIG):
        NGram.load(tmp_path)

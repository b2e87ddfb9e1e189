"""Documents read by their weights: back-off, systematic sampling and rows against their definitions."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy_runs import ROOT, STORIES, TRAIN, command, outcome
from tests.units.corpus.test_pack import BOS, EOS, shards_of
from yuyan.commands.corpus import WEIGHTS
from yuyan.corpus import Packed
from yuyan.corpus.order import OFFSET, ROWS, number_below, permutation
from yuyan.corpus.weight import ByQuality, backed_off, drawn, weights_of
from yuyan.text.quality import quality_score

NAN = math.nan


def test_back_off_by_hand() -> None:
    scores, sources = [0.9, 0.7, NAN, NAN, 0.2, NAN], [0, 0, 0, 1, 2, 2]
    found = backed_off(scores, sources, prior=2.0)
    mean = 1.8 / 3
    expected = [0.9, 0.7, (1.6 + 2 * mean) / 4, mean, 0.2, (0.2 + 2 * mean) / 3]
    assert found == pytest.approx(expected)
    assert backed_off([NAN, NAN], [0, 1], 2.0).tolist() == [1.0, 1.0]


def test_weights_by_hand() -> None:
    settings = ByQuality(sharpness=2.0, floor=0.1)
    weights = weights_of(np.array([1.0, 0.5, 0.0]), [10, 20, 30], settings)
    raw = [1.0, 0.25, 0.01]
    scale = 60 / (10 * 1.0 + 20 * 0.25 + 30 * 0.01)
    assert weights == pytest.approx([scale * r for r in raw])
    assert float(weights @ [10, 20, 30]) == pytest.approx(60), "as many tokens as there are"


weights_in = st.lists(st.floats(0.01, 4.0), min_size=1, max_size=20).filter(lambda w: sum(w) >= 1)


@settings(deadline=None, max_examples=60)
@given(weights=weights_in, seed=st.integers(0, 9))
def test_copies_are_the_weight_rounded_down_or_up_and_right_on_average(weights: list[float], seed: int) -> None:
    counts = np.zeros(len(weights))
    for epoch in range(300):
        found = np.bincount(drawn(np.array(weights), seed, epoch), minlength=len(weights))
        assert all(math.floor(w) <= n <= math.ceil(w) for w, n in zip(weights, found.tolist(), strict=True))
        assert math.floor(sum(weights) - 1e-9) <= found.sum() <= math.ceil(sum(weights) + 1e-9)
        counts += found
    assert np.abs(counts / 300 - weights).max() < 0.15


sizes_of = st.lists(st.integers(1, 12), min_size=1, max_size=10)


@settings(deadline=None, max_examples=60)
@given(sizes=sizes_of, length=st.integers(1, 30), seed=st.integers(0, 5), epoch=st.integers(0, 3), data=st.data())
def test_rows_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], length: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    shards = shards_of(tmp_path_factory.mktemp("s"), sizes)
    whole = sum(sizes) + 2 * len(sizes)
    if whole <= length:
        return
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    weights = weights_of(np.array(scores), np.array(sizes) + 2, ByQuality())
    packed = Packed(shards, length, seed=seed, bos=BOS, eos=EOS, weights=weights)
    ring = [id for i in drawn(weights, seed, epoch) for id in (BOS, *shards.document(int(i)).tolist(), EOS)]
    start, order = number_below(len(ring), seed, epoch, OFFSET), permutation(len(packed), seed, epoch, ROWS)
    assert len(packed) == -(-whole // length), "epochs are as long as without weights"
    for index in range(len(packed)):
        at = start + int(order[index]) * length
        assert packed.row(epoch, index).tolist() == [ring[(at + t) % len(ring)] for t in range(length + 1)]


def test_tokens_are_read_as_often_as_their_weights_say(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).integers(10, 30, 40).tolist()
    shards = shards_of(tmp_path / "s", sizes)
    weights = weights_of(np.linspace(0, 1, 40), np.array(sizes) + 2, ByQuality())
    packed = Packed(shards, 9, seed=1, bos=BOS, eos=EOS, weights=weights)
    seen = np.zeros(1000)
    for epoch in range(400):
        np.add.at(seen, packed.rows(epoch, np.arange(len(packed)))[:, :-1], 1)
    for document, weight in enumerate(weights):
        share = seen[shards.document(document)].mean() / 400
        assert share == pytest.approx(weight, abs=0.12)


def test_a_score_falls_where_text_stops_being_prose() -> None:
    prose = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")[:4000]
    lines = [f"{i}. {prose[90 * i : 90 * i + 90]}" for i in range(30)]
    assert quality_score(prose[:400]) is None and quality_score(prose[:400], judged_from=100) is not None
    random = np.random.default_rng(0)
    noise = "".join(map(chr, random.integers(33, 48, 3000)))
    numbers = " ".join(map(str, random.integers(0, 10**6, 500)))
    english, table, dump = (quality_score(text) for text in ("\n".join(lines), numbers, noise))
    assert english is not None and english > 0.5
    assert table == dump == 0.0
    halves = [f"{line} {numbers[7 * i : 7 * i + 40]}" for i, line in enumerate(lines)]
    between = quality_score("\n".join(halves))
    assert between is not None and 0.0 < between < english
    twice = quality_score("\n".join(lines + lines[:10]))
    assert twice is not None and twice < english


def test_a_run_reads_by_quality_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    stories = STORIES.read_text(encoding="utf-8")
    text = tmp_path / "text"
    text.mkdir()
    bad = "\n".join(f"{i} == {i * i} ## {stories[i : i + 9]}" for i in range(300))
    (text / "good.txt").write_text(stories[:6000], encoding="utf-8")
    (text / "bad.txt").write_text(bad, encoding="utf-8")
    settings = (
        *TRAIN, f"data.sources=[{text}]", "data.documents=section", "data.section_characters=700", "data.clean=null",
        "data.sampling={kind: by_quality, sharpness: 2}", "train.steps=6", "train.save_steps=1", "train.keep=9",
    )  # fmt: skip
    folder = tmp_path / "run"
    assert command(*settings, "--out", str(folder)) == 0
    weights, whole = np.load(folder / "shards" / WEIGHTS), outcome(folder)
    assert weights.min() < 0.7 < 1.2 < weights.max()
    for state in (folder / "state").iterdir():
        if int(state.name) > 3:
            shutil.rmtree(state)
    assert command(*settings, "--out", str(folder), "--resume") == 0
    assert outcome(folder) == whole
    np.save(folder / "shards" / WEIGHTS, weights[:-1])
    assert command(*settings, "--out", str(folder), "--resume") == 1, "weights of other documents"

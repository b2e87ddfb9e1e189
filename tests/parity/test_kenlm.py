"""KenLM and our n-gram model: it scores our ARPA files as we do, and its estimator finds our numbers.

Rules made equal: `<s>` is context and never predicted, `</s>` ends every line, unknown words are `<unk>`, which like every
other unseen token has its share of the uniform part. The estimator (`lmplz`, on the path) is compared where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from yuyan.models.arpa import read_arpa, write_arpa
from yuyan.models.ngram import NGram

TOKENS = ["<s>", "</s>", "<unk>", *(f"w{i}" for i in range(500))]
BOS, EOS, UNK = 0, 1, 2


def corpus(seed: int, lines: int, phrases: int = 400) -> list[list[int]]:
    """Lines of repeated phrases of Zipf-distributed words: long n-grams recur, as in real text."""
    rng = np.random.default_rng(0)
    stock = [(3 + rng.zipf(1.3, 6) % 500).tolist() for _ in range(phrases)]
    rng = np.random.default_rng(seed)
    picked = [rng.zipf(1.2, rng.integers(1, 5)) % phrases for _ in range(lines)]
    return [[token for phrase in line for token in stock[phrase][: rng.integers(3, 7)]] for line in picked]


def fit(lines: list[list[int]], order: int, vocab_size: int = len(TOKENS)) -> NGram:
    starts = np.cumsum([0, *map(len, lines)])
    tokens = np.array([token for line in lines for token in line])
    return NGram.fit(tokens, starts, order=order, vocab_size=vocab_size, bos=BOS, eos=EOS)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_scores_our_arpa_as_we_do(tmp_path: Path, order: int) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm")
    ours = fit(corpus(1, 1500), order)
    write_arpa(ours, tmp_path / "ours.arpa", TOKENS)
    theirs = kenlm.Model(str(tmp_path / "ours.arpa"))
    assert theirs.order == order
    rng = np.random.default_rng(2)
    lines = [*corpus(3, 60), *rng.integers(3, len(TOKENS), (20, 12)).tolist(), [UNK, 3, UNK, 5]]
    worst, unseen = 0.0, 0
    for line in lines:
        words = " ".join("never-seen" if i == UNK else TOKENS[i] for i in line)
        scores = list(theirs.full_scores(words, bos=True, eos=True))
        expected = [score for score, _, _ in scores]
        unseen += sum(length < order for _, length, _ in scores)
        found = ours.log_probs(np.array([*line, EOS])) / np.log(10)
        worst = max(worst, float(np.abs(found - expected).max()))
    assert unseen > 100, "the lines should need the shorter contexts too"
    assert worst < 1e-4


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlms_estimator_finds_our_numbers(tmp_path: Path, order: int) -> None:
    lmplz = shutil.which("lmplz")
    if lmplz is None:
        pytest.skip("no lmplz on the path: compile KenLM to compare the estimates")
    lines = corpus(1, 4000)
    seen = sorted({i for line in lines for i in line})  # KenLM's vocabulary is what it met, and <unk>
    number = {old: new for new, old in enumerate(seen, 3)}
    lines = [[number[i] for i in line] for line in lines]
    text = "".join(" ".join(f"w{i}" for i in line) + "\n" for line in lines)
    with (tmp_path / "lmplz.arpa").open("wb") as out:
        run = [lmplz, "-o", str(order), "-S", "200M", "-T", str(tmp_path / "t")]
        subprocess.run(run, input=text.encode(), stdout=out, stderr=subprocess.DEVNULL, check=True)
    theirs, names = read_arpa(tmp_path / "lmplz.arpa")
    ours = fit(lines, order, len(seen) + 3)
    assert theirs.sizes == ours.sizes
    ids = {name: i for i, name in enumerate(names)}
    for line in [*lines[:50], *np.random.default_rng(0).integers(2, len(seen) + 3, (100, 10)).tolist()]:
        expected = theirs.log_probs(np.array([*(ids["<unk>" if i == UNK else f"w{i}"] for i in line), ids["</s>"]]))
        np.testing.assert_allclose(ours.log_probs(np.array([*line, EOS])), expected, rtol=0, atol=1e-5)

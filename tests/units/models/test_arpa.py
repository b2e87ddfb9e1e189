"""ARPA files: what goes out comes back, and every kind of bad file is one line with its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from yuyan.errors import DataError, InputError
from yuyan.models import arpa
from yuyan.models.arpa import read_arpa, write_arpa
from yuyan.models.ngram import NGram
from yuyan.tokens import train_tokenizer
from yuyan.tokens.train import BytePairConfig

TOKENS = ["<begin>", "<end>", "<unk>", "a", "b\u00a0c", "d\u3000", "é"]
GOOD = """a preamble is allowed

\\data\\
ngram 1=4
ngram 2=3
ngram 3=1

\\1-grams:
-99 <s> -0.5
-1.0 </s>
-0.5 a -0.25
-0.75\tb\t-0.125

\\2-grams:
-0.25 <s> a -0.1
-0.5 a b
-0.125 b </s>

\\3-grams:
-0.0625 <s> a b

\\end\\
"""


def model(order: int = 4, bos: int | None = 0, eos: int | None = 1) -> NGram:
    rng = np.random.default_rng(0)
    tokens = 2 + np.minimum(rng.geometric(0.5, 400) - 1, 4)
    starts = np.sort(np.concatenate(([0, 400], rng.integers(0, 400, 20))))
    return NGram.fit(tokens, starts, order=order, vocab_size=7, bos=bos, eos=eos)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_a_written_model_reads_as_the_same_model(tmp_path: Path, order: int, name: str) -> None:
    ours = model(order)
    write_arpa(ours, tmp_path / name, TOKENS)
    theirs, tokens = read_arpa(tmp_path / name)
    assert tokens == ["<s>", "</s>", *TOKENS[2:]]
    assert (theirs.bos, theirs.eos, theirs.sizes) == (0, 1, ours.sizes)
    for a, b in zip(ours.levels, theirs.levels, strict=True):
        assert np.array_equal(a.offsets, b.offsets) and np.array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.log_probs, b.log_probs, rtol=6e-9)
        np.testing.assert_allclose(a.log_backoffs, b.log_backoffs, rtol=6e-9, atol=1e-15)
    hidden = theirs.decode(torch.tensor([[0, 3, 4, 3, 2, 6]]))
    assert theirs.score(hidden, torch.float64).exp().sum(-1) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_files_longer_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    write_arpa(model(), tmp_path / "whole", TOKENS)
    monkeypatch.setattr(arpa, "LINES_AT_ONCE", at_once)
    write_arpa(model(), tmp_path / "pieces", TOKENS)
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    assert read_arpa(tmp_path / "pieces").model.sizes == model().sizes


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    write_arpa(model(), tmp_path / "sorted", TOKENS)
    rng, sections = np.random.default_rng(1), (tmp_path / "sorted").read_text().split("\n\n")
    for i, section in enumerate(sections[2:-1], 2):  # the 1-grams keep their places: they give the ids
        heading, *lines = section.split("\n")
        sections[i] = "\n".join([heading, *rng.permutation(lines).tolist()])
    expected = read_arpa(tmp_path / "sorted").model
    found = read_arpa(write(tmp_path / "shuffled", "\n\n".join(sections))).model
    for a, b in zip(expected.levels, found.levels, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_model_without_marks(tmp_path: Path) -> None:
    ours = model(bos=None, eos=None)
    write_arpa(ours, tmp_path / "m", TOKENS)
    theirs = read_arpa(tmp_path / "m").model
    text = np.array([3, 2, 4, 4, 5, 6, 3])
    assert (theirs.bos, theirs.eos) == (None, None)
    np.testing.assert_allclose(theirs.log_probs(text), ours.log_probs(text), rtol=1e-8)


def test_a_file_by_hand_scores_by_hand(tmp_path: Path) -> None:
    """Stored, or the context's weight times the shorter context's: every branch, in log10."""
    found, tokens = read_arpa(write(tmp_path / "m", GOOD))
    s, e, a, b = (tokens.index(t) for t in ("<s>", "</s>", "a", "b"))
    assert (found.bos, found.eos, found.order) == (s, e, 3)
    scores = found.log_probs(np.array([a, b, e, b, a])) / np.log(10)
    # <s> a | <s> a b | (a b has no 3-gram and weight 0) b </s> | (b </s> and </s> have weight 0) b | -0.125 + a
    assert scores == pytest.approx([-0.25, -0.0625, -0.125, -0.75, -0.125 - 0.5])
    # an unseen 2-gram after <s>; `<s> b` is no context, so only the weight of b counts
    assert found.log_probs(np.array([b, a])) / np.log(10) == pytest.approx([-0.5 - 0.75, -0.125 - 0.5])
    assert found.log_probs(np.array([a, a])) / np.log(10) == pytest.approx([-0.25, -0.1 - 0.25 - 0.5])
    assert found.log_probs(np.array([s]))[0] == -np.inf
    kenlms, _ = read_arpa(write(tmp_path / "k", GOOD.replace("-99 <s>", "0 <s>")))  # lmplz writes 0
    np.testing.assert_array_equal(kenlms.levels[0].log_probs, found.levels[0].log_probs)


BAD = {
    "no data": (GOOD.replace("\\data\\", ""), None, "not an ARPA file"),
    "count out of turn": (GOOD.replace("ngram 2=3", "ngram 4=3"), 5, "`ngram 2=`"),
    "no counts": (GOOD.replace("ngram 1=4\nngram 2=3\nngram 3=1\n", ""), 4, "no 1-grams"),
    "missing order": (GOOD.replace("\\2-grams:", "\\3-grams:"), 14, "expected .2-grams:"),
    "missing highest order": (GOOD.replace("ngram 3=1\n", "ngram 3=1\nngram 4=1\n"), 23, "expected .4-grams:"),
    "unannounced order": (GOOD.replace("ngram 3=1\n", ""), 14, "2 tokens; found 4 fields"),
    "positive": (GOOD.replace("-0.5 a b", "0.5 a b"), 16, "at most 0"),
    "nan": (GOOD.replace("-0.5 a b", "nan a b"), 16, "at most 0"),
    "infinite weight": (GOOD.replace("a -0.1", "a inf"), 15, "finite back-off"),
    "no number": (GOOD.replace("-0.5 a b", "half a b"), 16, "not a number"),
    "too few fields": (GOOD.replace("-0.5 a b", "-0.5 a"), 16, "found 2 fields"),
    "too many fields": (GOOD.replace("-0.0625 <s> a b", "-0.0625 <s> a b -1"), 20, "found 5 fields"),
    "too few n-grams": (GOOD.replace("-0.5 a b\n", ""), 17, "2 2-grams, but 3 were announced"),
    "too many n-grams": (GOOD.replace("-0.5 a b\n", "-0.5 a b\n-1 b b\n"), 19, "4 2-grams, but 3 were announced"),
    "unknown token": (GOOD.replace("-0.5 a b", "-0.5 a c"), 16, "'c' is not among the 1-grams"),
    "1-gram twice": (GOOD.replace("-0.75\tb", "-0.75\ta"), 12, "'a' is there twice"),
    "2-gram twice": (GOOD.replace("-0.125 b </s>", "-0.125 a b"), 17, "there twice"),
    "context missing": (GOOD.replace("-0.0625 <s> a b", "-0.0625 b a b"), 20, "first 2 tokens"),
    "cut short": (GOOD[: GOOD.index("\\3-grams")], None, "expected .3-grams:.*end of the file"),
    "no end": (GOOD.replace("\\end\\\n", ""), None, "expected .end"),
    "empty": ("", None, "not an ARPA file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_their_line(tmp_path: Path, name: str) -> None:
    text, line, message = BAD[name]
    path = write(tmp_path / "bad.arpa", text)
    with pytest.raises(DataError, match=message) as caught:
        read_arpa(path)
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"{path}:{line}: " if line else str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_arpa(tmp_path / "nowhere.arpa")
    with pytest.raises(DataError, match="cannot be read"):
        read_arpa(tmp_path)
    with pytest.raises(DataError, match="not an ARPA file"):
        read_arpa(write(tmp_path / "binary", "\x00\x01" * 5000))
    (tmp_path / "not.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match="cannot be read"):
        read_arpa(tmp_path / "not.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(GOOD.encode())[:60])
    with pytest.raises(DataError, match="cannot be read"):
        read_arpa(tmp_path / "cut.gz")
    (tmp_path / "latin").write_bytes(GOOD.replace("b", "\xe9").encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_arpa(tmp_path / "latin")


@pytest.mark.parametrize(
    "tokens, message",
    [
        (TOKENS[:-1], "6 token texts"),
        ([*TOKENS[:-1], "a b"], "'a b'"),
        ([*TOKENS[:-1], ""], "token 6 is ''"),
        ([*TOKENS[:-1], "a"], "tokens 3 and 6 are both 'a'"),
        ([*TOKENS[:-1], "<s>"], "tokens 0 and 6"),
    ],
)
def test_texts_that_arpa_cannot_hold(tmp_path: Path, tokens: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_arpa(model(), tmp_path / "m", tokens)
    assert not list(tmp_path.iterdir())


def test_a_model_of_bytes_goes_out_with_the_vocabulary_of_its_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["月光 and\tmoonlight\n" * 9], BytePairConfig(vocab_size=300))
    ids, special = tokenizer.encode("月光 and\tmoonlight\n"), tokenizer.special
    ours = NGram.fit(
        np.array(ids), np.array([0, len(ids)]), order=3, vocab_size=len(tokenizer), bos=special.bos, eos=special.eos
    )
    write_arpa(ours, tmp_path / "m.arpa.gz", tokenizer.vocabulary)
    theirs, tokens = read_arpa(tmp_path / "m.arpa.gz")
    assert tokens == tokenizer.vocabulary
    np.testing.assert_allclose(theirs.log_probs(np.array(ids)), ours.log_probs(np.array(ids)), rtol=1e-7)

"""Neighbours, analogies, pieces of words, and questions with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yuyan.commands.vectors import evaluate_command
from yuyan.errors import DataError, InputError
from yuyan.evaluate.scatter import scatter, space_page
from yuyan.vectors import Subwords, Vectors, write_word2vec
from yuyan.vectors.questions import evaluate, read_questions
from yuyan.vectors.space import SubwordTable
from yuyan.vectors.subword import buckets_of, composed, fnv1a, pieces_of

WORDS = ["man", "woman", "king", "queen", "Paris"]


@pytest.fixture
def vectors() -> Vectors:
    rows = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 5]]
    return Vectors(WORDS, np.array(rows, np.float32))


def test_neighbours_and_analogies(vectors: Vectors) -> None:
    near = vectors.like("man", 9)
    assert [word for word, _ in near] == ["woman", "king", "queen", "Paris"]
    assert near[0][1] == pytest.approx(2**-0.5)
    assert vectors.analogy("man", "king", "woman", 1)[0][0] == "queen"
    assert [word for word, _ in vectors.analogy("man", "king", "woman", 9)] == ["queen", "Paris"]
    assert vectors.answers([("man", "king", "woman"), ("woman", "man", "queen")]) == ["queen", "king"]


def test_a_word_without_a_vector(vectors: Vectors) -> None:
    for word, said in (
        ("paris", "did you mean 'Paris'"),
        ("kings", "did you mean 'king'"),
        ("zzzzz", "vectors with subwords"),
    ):
        with pytest.raises(InputError, match=f"{word!r}: not among the 5 words.*{said}"):
            vectors.like(word)


def test_hash_and_pieces_are_fasttexts() -> None:
    assert fnv1a(b"") == 2166136261 and fnv1a(b"a") == 0xE40C292C  # the published FNV-1a test values
    assert fnv1a("é".encode()) != 0  # bytes over 127 are taken as signed: see the parity test
    config = Subwords(shortest=3, longest=4)
    wanted = [fnv1a(piece.encode()) % config.buckets for piece in ("<ca", "<cat", "cat", "cat>", "at>")]
    assert buckets_of("cat", config) == wanted
    short = Subwords(shortest=1, longest=2, buckets=2**31 - 1)
    assert buckets_of("月光", short) == [
        fnv1a(piece.encode()) % short.buckets for piece in ("<月", "月", "月光", "光", "光>")
    ]


def test_a_words_vector_is_the_mean_of_its_pieces() -> None:
    config, words = Subwords(shortest=3, longest=3), ["cat", "cats", "o"]
    pieces = pieces_of(words, config)
    source = np.random.default_rng(0).normal(0, 1, (3 + len(pieces.buckets), 4)).astype(np.float32)
    made = composed(source, pieces)
    table = SubwordTable(config, pieces.buckets, source[3:])
    row = dict(zip(pieces.buckets.tolist(), source[3:], strict=True))
    for number, word in enumerate(words):
        parts = [source[number]] + [row[b] for b in buckets_of(word, config)]
        np.testing.assert_allclose(made[number], np.mean(parts, axis=0), atol=1e-6)
    vectors = Vectors(words, made, subwords=table)
    unknown = vectors.vector("catty")  # <ca cat att tty ty>: only the first two are known
    np.testing.assert_allclose(
        unknown, np.mean([row[b] for b in buckets_of("catty", config) if b in row], axis=0), atol=1e-6
    )
    few = np.array(sorted(buckets_of("catty", config)))[[1, 4]]  # the others fall beside them, and count for nothing
    assert SubwordTable(config, few, np.array([[1.0], [5.0]], np.float32)).compose("catty") == 3
    with pytest.raises(InputError, match="'xyzw': not among the 3 words"):
        vectors.vector("xyzw")


def test_directions_of_the_picture(vectors: Vectors) -> None:
    """Points on a plane keep their distances in a picture of it."""
    draw = np.random.default_rng(0)
    circle = draw.normal(0, 1, (30, 2)) @ np.linalg.qr(draw.normal(0, 1, (6, 2)))[0].T
    plane = Vectors([str(i) for i in range(30)], circle.astype(np.float32))
    places, share = plane.principal(np.arange(30))
    assert sum(share) == pytest.approx(1) and share[0] >= share[1]
    for i in range(29):
        wanted = np.linalg.norm(plane.unit[i] - plane.unit[i + 1])
        assert np.linalg.norm(places[i] - places[i + 1]) == pytest.approx(float(wanted), abs=1e-5)


def test_names_in_the_picture_do_not_overlap_and_are_escaped() -> None:
    words = ["<b>bold</b>", *(f"word{i}" for i in range(200))]
    places = np.random.default_rng(0).normal(0, 1, (201, 2))
    drawing, named = scatter(words, places, {"<b>bold</b>": ["a & b"]})
    assert 20 < named <= 201 and drawing.count("<text") == named
    page = space_page("x", words, places, (0.5, 0.2), {}, 1000)
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page and "a &amp; b" in drawing
    same = space_page("x", ["a", "b", "c"], np.zeros((3, 2)), (0.0, 0.0), {}, 3)
    assert "nan" not in same


def test_similarity_questions(vectors: Vectors, tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("a,b,human\nman,woman,9\nMan,king,9\nman,queen,5\nman,paris,0\nman,ghost,3\n")
    score = evaluate(vectors, file)[0]
    assert (score.asked, score.answered, score.measure) == (5, 4, "Spearman")
    assert score.value == pytest.approx(1.0)


def test_analogy_questions(vectors: Vectors, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(
        ": family\nman king woman queen\nMAN king woman ghost\n: gram1-x\nwoman man queen king\nking man queen man\n"
    )
    scores = {score.name: score for score in evaluate(vectors, file)}
    assert list(scores) == ["a.txt", "semantic", "syntactic", "family", "gram1-x"]
    assert (scores["a.txt"].asked, scores["a.txt"].answered) == (4, 3)
    assert scores["semantic"].value == 1.0 and scores["syntactic"].value == 0.5
    assert scores["semantic"].interval.low < 0.3  # one question tells little


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"\n# x\n", "no questions in it"),
    "only headings": (b": a\n: b\n", "only headings"),
    "three words": (b": a\nx y z\n", ":2: 3 words; an analogy has four"),
    "no number": (b"a\tb\t1\nc\td\tx\n", r":2: expected two words and a number; got 'c\\td\\tx'"),
    "not finite": (b"a b nan\n", ":1: the score is not finite"),
    "bytes": (b"a\xff\n", "not UTF-8 at byte 1"),
    "unknown words": (b"x y 1\n", "none of its 1 questions has all its words"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_questions(case: str, vectors: Vectors, tmp_path: Path) -> None:
    data, said = BAD[case]
    (tmp_path / "q").write_bytes(data)
    with pytest.raises(DataError, match=f"q.*{said}"):
        evaluate(vectors, tmp_path / "q")
    with pytest.raises(InputError, match="no such file"):
        read_questions(tmp_path / "nowhere")


def test_a_kind_without_an_answer_has_no_score_in_the_table(
    vectors: Vectors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_word2vec(tmp_path / "v.txt", vectors)
    (tmp_path / "q.txt").write_text(": royal\nman king woman queen\n: gram\nman men woman women\n")
    evaluate_command(tmp_path / "v.txt", [tmp_path / "q.txt"])
    shown = capsys.readouterr().err
    assert "nan" not in shown and shown.count("–") == 4  # the section and its kind, value and interval

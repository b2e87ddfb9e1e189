"""What vectors are asked: word similarity files and analogy files, and how well they answer.

A similarity file has two words and a number a line, separated by tabs, commas or spaces; `#` begins a comment, and a first
line without a number is a header. An analogy file (Mikolov et al. 2013a) has four words a line, under headings `: name`;
those whose name begins with `gram` are syntactic. A question with a word that is not in the vocabulary is left out and
counted: the score is of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yuyan.errors import DataError, InputError
from yuyan.metrics import Interval, share_interval, spearman, spearman_interval
from yuyan.vectors.space import Vectors

AMONG = 300_000
"""Answers to analogies are taken from so many of the most frequent words."""


class Similarity(NamedTuple):
    """Two words and how alike people find them."""

    first: str
    second: str
    score: float


class Analogy(NamedTuple):
    """`b` is to `a` as `d` is to `c`, under a heading."""

    section: str
    a: str
    b: str
    c: str
    d: str


class Score(NamedTuple):
    """One line of the result."""

    name: str
    measure: str
    """Spearman's correlation, or the share of right answers."""
    value: float
    interval: Interval
    asked: int
    """Questions in the file."""
    answered: int
    """Those whose words are all in the vocabulary."""


def read_questions(path: Path) -> list[Similarity] | list[Analogy]:
    """The questions of a file; which kind it is, is seen in its lines. Raises InputError and DataError (file, line)."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the questions as UTF-8") from None
    used = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not used:
        raise DataError(f"{path}: no questions in it")
    if used[0][1].startswith(":"):
        return _analogies(path, used)
    return _similarities(path, used)


def _analogies(path: Path, lines: Sequence[tuple[int, str]]) -> list[Analogy]:
    section, found = "", []
    for number, line in lines:
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise DataError(f"{path}:{number}: {len(words)} words; an analogy has four")
        found.append(Analogy(section, *words))
    if not found:
        raise DataError(f"{path}: no questions in it, only headings")
    return found


def _similarities(path: Path, lines: Sequence[tuple[int, str]]) -> list[Similarity]:
    found = []
    for at, (number, line) in enumerate(lines):
        parts = line.split("\t") if "\t" in line else line.split(",") if "," in line else line.split()
        try:
            score = float(parts[2])
        except (ValueError, IndexError):
            if at == 0 and len(parts) >= 3:
                continue  # a header
            raise DataError(f"{path}:{number}: expected two words and a number; got {line[:60]!r}") from None
        if not np.isfinite(score):
            raise DataError(f"{path}:{number}: the score is not finite")
        found.append(Similarity(parts[0].strip(), parts[1].strip(), score))
    return found


def evaluate(vectors: Vectors, path: Path) -> list[Score]:
    """The score of a file; for analogies also of each kind and each section. Words are looked up as written, then in small
    letters. Raises as `read_questions`, and DataError if no question can be asked."""
    questions = read_questions(path)
    known = {word: word for word in vectors.words}
    for word in vectors.words:
        known.setdefault(word.lower(), word)  # of two spellings the more frequent
    scores = []
    if isinstance(questions[0], Similarity):
        scores = [_similarity(vectors, path.name, [q for q in questions if isinstance(q, Similarity)], known)]
    else:
        scores = _analogy_scores(vectors, path.name, [q for q in questions if isinstance(q, Analogy)], known)
    if not scores[0].answered:
        raise DataError(f"{path}: none of its {scores[0].asked:,} questions has all its words among the vectors")
    return scores


def _find(word: str, known: dict[str, str]) -> str | None:
    return known.get(word) or known.get(word.lower())


def _similarity(vectors: Vectors, name: str, questions: list[Similarity], known: dict[str, str]) -> Score:
    rows = [(_find(q.first, known), _find(q.second, known), q.score) for q in questions]
    pairs = [(vectors.number[a], vectors.number[b], score) for a, b, score in rows if a is not None and b is not None]
    human = np.array([score for _, _, score in pairs])
    ours = np.array([float(vectors.unit[a] @ vectors.unit[b]) for a, b, _ in pairs])
    interval = spearman_interval(human, ours)
    return Score(name, "Spearman", spearman(human, ours), interval, len(questions), len(pairs))


def _analogy_scores(vectors: Vectors, name: str, questions: list[Analogy], known: dict[str, str]) -> list[Score]:
    found = [tuple(_find(word, known) for word in question[1:]) for question in questions]
    asked = [(i, words) for i, words in enumerate(found) if all(words)]
    triples = [(str(w[0]), str(w[1]), str(w[2])) for _, w in asked]
    answers = vectors.answers(triples, AMONG)
    right = np.full(len(questions), np.nan)
    for (i, words), answer in zip(asked, answers, strict=True):
        right[i] = answer == words[3]
    kind = np.array(["syntactic" if q.section.startswith("gram") else "semantic" for q in questions])
    sections = np.array([q.section for q in questions])
    scores = [_share(name, right)]
    scores += [_share(each, right[kind == each]) for each in ("semantic", "syntactic") if (kind == each).any()]
    return scores + [_share(section, right[sections == section]) for section in dict.fromkeys(sections.tolist())]


def _share(name: str, right: np.ndarray) -> Score:
    known = right[~np.isnan(right)]
    value = float(known.mean()) if len(known) else float("nan")
    return Score(name, "accuracy", value, share_interval(int(known.sum()), len(known)), len(right), len(known))

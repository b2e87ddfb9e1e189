"""`yuyan vectors`: train word vectors, ask them, measure them, draw them, turn their files into others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from yuyan.config import load_config
from yuyan.console import progress, say, table, warn
from yuyan.errors import ConfigError, InputError
from yuyan.evaluate.quantities import MISSING, bounds_of, decimal
from yuyan.store import claim_folder, storage_errors, to_json, write_text
from yuyan.text import DataConfig, NoSplit, SplitConfig, prepare, read_documents
from yuyan.text.settings import CleanConfig
from yuyan.vectors import Cbow, Glove, SkipGram, Vectors, VectorsConfig, load_vectors, save_vectors, write_word2vec
from yuyan.vectors.corpus import WordCorpus, encode
from yuyan.vectors.questions import Score, evaluate
from yuyan.vectors.units import sentences

EXAMPLES = 5
MOST_DRAWN = 2000
"""Words of a picture: more cannot be told apart."""


class VectorsData(DataConfig):
    """The text: as it is, unless `clean` says how to clean it."""

    clean: CleanConfig | None = None
    """The steps of the cleaning; null leaves the text as it is."""
    split: SplitConfig = NoSplit()
    """Vectors are found from all of the text; with a split, from its training part."""


class VectorsRun(VectorsConfig):
    """Word vectors from text to folder."""

    data: VectorsData = VectorsData()
    """The text."""


def vectors_config(path: Path | None, paths: Sequence[Path], settings: Sequence[str]) -> VectorsRun:
    """The config in the file `path`, with `key=value` settings; files named on the command line are the sources.

    Sources in the file are relative to it. Raises ConfigError, DataError.
    """
    base = {"model": {"kind": "skipgram"}, "units": {"kind": "words"}}
    config, origin = load_config(VectorsRun, path, settings, base)
    sources = tuple(paths)
    if not sources:
        ours = path is not None and origin.get("data.sources", "").startswith(str(path))
        here = path.parent if path is not None and ours else Path()
        sources = tuple(here / source for source in config.data.sources)
    if not sources:
        raise ConfigError("data.sources: no text; name files or folders on the command line or in the config")
    return config.model_copy(update={"data": config.data.model_copy(update={"sources": sources})})


def train_command(config: VectorsRun, out: Path) -> Vectors:
    """Train vectors into the new folder `out` and show what they came to.

    Raises DataError, InputError (`out` is there already), StorageError.
    """
    claim_folder(out, what="the vectors")
    try:
        with storage_errors(out), TemporaryDirectory(prefix=f"{out.name}.tmp-", dir=out.parent) as work:
            started = time.monotonic()
            corpus = encode(
                sentences(_texts(config.data, Path(work)), config.units), config.min_count, config.max_words, Path(work)
            )
            _show_corpus(corpus, time.monotonic() - started)
            with progress("loading the compiled program"):
                from yuyan.vectors.train import fit
            fitted = fit(corpus, config, Path(work))
            report = {
                "words": len(corpus.words), "words_met": corpus.types, "tokens": len(corpus.tokens),
                "tokens_met": corpus.met, "sentences": len(corpus.starts) - 1, "losses": fitted.losses,
                "words_per_second": fitted.words_per_second, "seconds": fitted.seconds,
            }  # fmt: skip
            del corpus
        save_vectors(out, fitted.vectors, config, report)
    except BaseException:
        with suppress(OSError):
            out.rmdir()  # nothing is in it yet
        raise
    _show_trained(fitted.vectors, report, config)
    some = next((word for word in fitted.vectors.words if len(word) > 3), fitted.vectors.words[0])
    say(f"the vectors are in {out}; {out / 'vectors.bin'} opens in other programs (word2vec, binary). Now try:")
    say(f"  yuyan vectors nearest {out} {some}\n  yuyan vectors plot {out} --out space.html")
    return fitted.vectors


def _texts(data: VectorsData, work: Path) -> Iterator[str]:
    if data.clean is None and isinstance(data.split, NoSplit):
        return (document.text for document in read_documents(data.sources, data))
    prepared = prepare(list(data.sources), data, work / "data")
    return (document.text for document in prepared.documents("train"))


def _show_corpus(corpus: WordCorpus, seconds: float) -> None:
    rows = [
        ("words in the text", f"{corpus.met:,}", f"{corpus.types:,}"),
        ("words with vectors", f"{len(corpus.tokens):,}", f"{len(corpus.words):,}"),
        ("share", f"{len(corpus.tokens) / corpus.met:.1%}", f"{len(corpus.words) / corpus.types:.1%}"),
    ]
    table(f"the text, read in {seconds:.1f} s", ["", "in all", "different"], rows)


def _named(model: SkipGram | Cbow | Glove) -> str:
    return f"{model.kind}, {model.output.kind}" if isinstance(model, SkipGram | Cbow) else model.kind


def _show_trained(vectors: Vectors, report: dict[str, object], config: VectorsRun) -> None:
    losses = report["losses"]
    assert isinstance(losses, list)
    rows = [
        ("model", _named(config.model) + (" with subwords" if vectors.subwords else "")),
        ("vectors", f"{len(vectors.words):,} of {vectors.dimensions} dimensions"),
        ("loss, first and last epoch", f"{losses[0]:.4f}  {losses[-1]:.4f}"),
        ("speed", f"{report['words_per_second']:,.0f} words/s"),
        ("time", f"{report['seconds']:.1f} s"),
    ]
    if vectors.subwords:
        rows.insert(2, ("pieces of words", f"{len(vectors.subwords.buckets):,}"))
    table("word vectors", ["", ""], rows, left=2)
    shown = [word for word in vectors.words[100:] if len(word) > 3][:EXAMPLES] or vectors.words[:EXAMPLES]
    table("neighbours", ["word", "nearest"], [(w, "  ".join(n for n, _ in vectors.like(w, 6))) for w in shown], left=2)


# ---------------------------------------------------------------- asking


def nearest_command(place: Path, words: Sequence[str], count: int, *, as_json: bool = False) -> None:
    """The nearest words of each of `words`. Raises InputError for a word that has no vector, with words like it."""
    vectors = load_vectors(place)
    answers = {word: vectors.like(word, count) for word in words}
    if as_json:
        _print_json({word: [[other, score] for other, score in near] for word, near in answers.items()})
        return
    for word, near in answers.items():
        note = "" if word in vectors else " (not in the vocabulary: its vector is made of its pieces)"
        table(f"nearest to {word}{note}", ["word", "cosine"], [(other, f"{score:.4f}") for other, score in near])


def analogy_command(place: Path, a: str, b: str, c: str, count: int, *, as_json: bool = False) -> None:
    """What is to `c` as `b` is to `a`. Raises InputError as `nearest_command`."""
    near = load_vectors(place).analogy(a, b, c, count)
    if as_json:
        _print_json([[word, score] for word, score in near])
        return
    table(f"{a} is to {b} as {c} is to", ["word", "cosine"], [(word, f"{score:.4f}") for word, score in near])


def evaluate_command(place: Path, files: Sequence[Path], *, as_json: bool = False) -> list[Score]:
    """Word similarity and analogies. Raises InputError and DataError naming file and line."""
    vectors = load_vectors(place)
    scores = [score for file in files for score in evaluate(vectors, file)]
    if as_json:
        _print_json([{**score._asdict(), "interval": list(score.interval)} for score in scores])
        return scores
    columns = ["questions", "measure", "value", "95 % interval", "asked", "with known words"]
    table(f"what {place} knows", columns, list(map(_score_row, scores)), left=2)
    return scores


def _score_row(score: Score) -> tuple[str, ...]:
    bounds = bounds_of(score.interval)
    interval = MISSING if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
    known = f"{score.answered:,} ({score.answered / max(1, score.asked):.1%})"
    return score.name, score.measure, decimal(score.value), interval, f"{score.asked:,}", known


def convert_command(place: Path, out: Path) -> None:
    """Write vectors to a word2vec file, whose kind its name says. Raises InputError if `out` is there, StorageError."""
    if out.exists():
        raise InputError(f"{out}: already there; choose another file, or remove it")
    vectors = load_vectors(place)
    write_word2vec(out, vectors)
    say(f"{out}: {len(vectors.words):,} words of {vectors.dimensions} dimensions")
    if vectors.subwords:
        warn("the file has the vectors of the known words only; the pieces that make new ones stay in the folder")


# ---------------------------------------------------------------- drawing


def plot_command(place: Path, words: Sequence[str], count: int, out: Path) -> None:
    """Draw `words`, or the `count` most frequent ones, on the two directions in which they differ most: one HTML file.

    Raises InputError for a word without a vector, and for fewer than three words.
    """
    from yuyan.evaluate.scatter import space_page

    if out.exists():
        raise InputError(f"{out}: already there; choose another place with --out, or remove it")
    vectors = load_vectors(place)
    missing = [word for word in words if word not in vectors.number]
    if missing:
        raise InputError(
            f"{missing[0]!r}: not among the {len(vectors.words):,} words{vectors.suggest(missing[0])}"
            + ("" if len(missing) < 2 else f" ({len(missing)} words are missing)")
        )
    chosen = list(dict.fromkeys(words)) or vectors.words[: min(count, MOST_DRAWN)]
    if len(chosen) < 3:
        raise InputError(f"a picture needs three words or more; got {len(chosen)}")
    places, share = vectors.principal(np.array([vectors.number[word] for word in chosen]))
    near = {word: [other for other, _ in vectors.like(word, 5)] for word in chosen}
    write_text(out, space_page(place.name, chosen, places, share, near, len(vectors.words)))
    say(f"{out}: {len(chosen):,} words, {sum(share):.1%} of what they differ in; open it in a browser")


def _print_json(data: object) -> None:
    print(to_json(data))


__all__ = [
    "VectorsRun", "analogy_command", "convert_command", "evaluate_command", "nearest_command", "plot_command",
    "train_command", "vectors_config",
]  # fmt: skip

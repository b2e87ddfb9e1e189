"""From the `data` and `tokenizer` of a config to shards that a model can be trained on, each step kept in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuyan.commands.made import note, noted
from yuyan.commands.run import RunConfig
from yuyan.commands.settings import From, RunData
from yuyan.console import progress, say, warn
from yuyan.corpus import Packed, Shards, write_shards
from yuyan.corpus.continued import Continued
from yuyan.corpus.pack import packed_rows
from yuyan.corpus.weight import ByQuality, Weights, backed_off, weights_of
from yuyan.errors import CheckpointCorrupt, DataError
from yuyan.store import MANIFEST, remove_leftovers, write_atomically
from yuyan.text import Prepared, open_prepared, prepare
from yuyan.text.quality import quality_score
from yuyan.text.read import look_at_parts
from yuyan.tokens import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

FEW_TOKENS = 100  # of validation text, of which nothing can be said
MANY_UNKNOWN = 0.001  # of the validation tokens: from here on it is said what that does to a score
PROMPT_CHARACTERS = 40
WEIGHTS = "weights.npy"


@dataclass(frozen=True)
class Corpus:
    """Tokenised text in three parts, and what is known about it."""

    tokenizer: Tokenizer
    tokenizer_kind: str
    train: Shards
    validation: Shards
    test: Shards | None
    report: dict[str, Any]
    prepared: Prepared
    weights: Weights | None = None
    """How often each training document is read in an epoch; by default once."""

    @property
    def vocab_size(self) -> int:
        """How many tokens a model must know."""
        return len(self.tokenizer)

    @property
    def language(self) -> str:
        """`zh` if most of the text is Chinese, else `en`: the language of reports."""
        languages = self.prepared.report.languages
        main = max(languages, key=lambda name: languages[name].characters, default="en")
        return "zh" if main.startswith("zh") else "en"

    @property
    def tokens(self) -> int:
        """Of the training part."""
        return int(self.train.tokens)

    def shards(self, split: str) -> Shards | None:
        """The tokens of train, validation or test, if there is such a part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def rows(self, split: str, length: int, seed: int, *, whole: bool = True) -> Packed | None:
        """Rows of `length` + 1 tokens of a part; unless they must be `whole`, shorter ones of a part too short for one.

        Raises InputError if there are fewer tokens than a row.
        """
        shards, special = self.shards(split), self.tokenizer.special
        if shards is None:
            return None
        weights = self.weights if split == "train" else None
        return packed_rows(shards, special, length, seed, whole=whole, weights=weights)

    def continued(self, length: int, tracks: int, seed: int) -> Continued:
        """Rows of the training part in the order of the text, on so many tracks. Raises InputError as `rows`."""
        assert self.weights is None, "documents are drawn anew"
        return Continued(self.train, length, tracks, seed=seed, special=self.tokenizer.special)

    def describe(self) -> str:
        """What a model card says of the training data."""
        return f"{self.train.bytes / 1e6:.2f} MB of text ({len(self.train):,} documents)"

    def prompts(self, count: int) -> list[str]:
        """The beginnings of `count` held-out documents, for samples."""
        split = "test" if self.test is not None else "validation"
        found: list[str] = []
        for document in self.prepared.documents(split):
            if len(found) == count:
                break
            found.append(_beginning(document.text))
        return found


def beginning_of(corpus: object) -> str:
    """A beginning of held-out text to try a model with; records and labelled texts have none."""
    found = corpus.prompts(1) if isinstance(corpus, Corpus) else []
    return " ".join(found[0].split()) if found else "Once upon a time"


def _beginning(text: str) -> str:
    start = text.strip()[:PROMPT_CHARACTERS]
    if len(start) < PROMPT_CHARACTERS:
        return start[: max(1, len(start) // 2)]
    # Chinese has no spaces to stop at, and says more with a character
    return start.rsplit(" ", 1)[0] if " " in start else start[: PROMPT_CHARACTERS // 4]


def make_corpus(
    config: RunConfig, folder: Path, choose_vocabulary: Callable[[Prepared], TokenizerConfig] | None = None
) -> Corpus:
    """Prepare text, train or load the tokenizer, write shards; each step that is there already is used again."""
    for place in (folder, folder / "shards", folder / "tokenizer"):
        remove_leftovers(place)
    prepared = open_data(config.data, folder)
    _check_text(prepared, folder)
    corpus = _corpus(config, folder, prepared, choose_vocabulary)
    if corpus.validation.tokens < FEW_TOKENS:
        warn(
            f"the validation text has only {corpus.validation.tokens} tokens, so its scores say next to nothing; "
            "give more text, or name some in data.validation"
        )
    if corpus.validation.unknown_rate >= MANY_UNKNOWN:
        warn(
            f"{corpus.validation.unknown_rate:.1%} of the validation tokens are unknown, and what they stand for costs a model "
            "nothing: compare bits per byte only between models of these tokens"
        )
    return corpus


def open_corpus(config: RunConfig, folder: Path) -> Corpus:
    """What `make_corpus` of another process has made; nothing is written. Raises DataError if it is not there."""
    place = config.data.prepared or folder / "data"
    prepared = open_prepared(place)
    if prepared is None:
        raise DataError(f"{place}: no prepared data here; do all processes see the same folder?")
    return _corpus(config, folder, prepared, None)


def _corpus(
    config: RunConfig, folder: Path, prepared: Prepared, choose_vocabulary: Callable[[Prepared], TokenizerConfig] | None
) -> Corpus:
    tokenizer, kind = _tokenizer(config, folder, prepared, choose_vocabulary)
    for split in ("train", "validation"):
        if split not in prepared.splits:
            raise DataError(f"{prepared.folder}: there is no text for {split}; see data.split and data.validation")
    shards = {split: _shards(prepared, split, tokenizer, folder) for split in prepared.splits}
    sampling = config.data.sampling
    return Corpus(
        tokenizer=tokenizer, tokenizer_kind=kind, train=shards["train"], validation=shards["validation"],
        test=shards.get("test"), report=corpus_summary(prepared), prepared=prepared,
        weights=None if sampling is None else _weights(sampling, prepared, shards["train"], folder),
    )  # fmt: skip


def open_data(data: RunData, folder: Path) -> Prepared:
    """The cleaned and split text: made here, or taken from another run."""
    if data.prepared is not None:
        prepared = open_prepared(data.prepared)
        if prepared is None:
            raise DataError(f"{data.prepared}: no prepared data here, or it is damaged (data.prepared)")
        return prepared
    made = open_prepared(folder / "data")
    if made is not None:
        _check_inputs(data, made.folder)
        return made
    return prepare(data.sources, data.plain, folder / "data")


def _check_inputs(data: RunData, place: Path) -> None:
    """A run goes on only with the files it began with. Raises DataError naming one that is another now."""
    inputs = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["inputs"]
    before = {(each["part"], each["name"]): each["sha256"] for each in inputs}
    now = {(part, each.name): each.sha256 for part, found in look_at_parts(data).items() for each in found.inputs}
    if different := [name for part, name in sorted(before | now) if before.get((part, name)) != now.get((part, name))]:
        raise DataError(_other_text(place.parent, different[0], len(different)))


def _check_text(prepared: Prepared, folder: Path) -> None:
    """Tokenizer, shards and model belong to one text. Raises DataError if they were made of another."""
    files = json.loads((prepared.folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    text = {name: str(files[f"{name}.jsonl"]["sha256"]) for name in prepared.splits}
    before = noted(folder).get("text")
    if before is None:
        note(folder, text=text)
    elif before != text:
        raise DataError(_other_text(folder, str(prepared.folder), 1))


def _other_text(folder: Path, name: str, count: int) -> str:
    more = f" (and {count - 1} more)" if count > 1 else ""
    return (
        f"{name}{more}: not the text that {folder} began with, so it cannot go on; put the text back, or start anew "
        "with another --out"
    )


def _tokenizer(
    config: RunConfig, folder: Path, prepared: Prepared, choose: Callable[[Prepared], TokenizerConfig] | None
) -> tuple[Tokenizer, str]:
    if isinstance(config.tokenizer, From):
        return load_tokenizer(config.tokenizer.path), "loaded"
    settings = choose(prepared) if choose is not None else config.tokenizer
    place = folder / "tokenizer"
    if not (place / "tokenizer.json").is_file():
        texts = (document.text for document in prepared.documents("train"))
        train_tokenizer(texts, settings).save(place)
    return load_tokenizer(place), settings.kind


def _shards(prepared: Prepared, split: str, tokenizer: Tokenizer, folder: Path) -> Shards:
    place = folder / "shards" / split
    if not (place / "index.json").is_file():
        return write_shards(prepared.documents(split), tokenizer, place)
    return Shards.open(place, tokenizer=tokenizer)


def _weights(sampling: ByQuality, prepared: Prepared, shards: Shards, folder: Path) -> Weights:
    """Kept in the run once they are known, so that it goes on in the same order on another machine."""
    place = folder / "shards" / WEIGHTS
    if not place.is_file():
        scores, sources = _judged(prepared, len(shards))
        found = weights_of(backed_off(scores, sources, sampling.prior), np.diff(shards.offsets), sampling)
        low, middle, high = np.percentile(found, (10, 50, 90))
        judged = int(np.isfinite(scores).sum())
        if not judged:
            warn(f"data.sampling: none of the {len(found):,} documents is long enough to be judged; all are read alike")
        say(
            f"sampling: {judged:,} of {len(found):,} documents judged; an epoch reads those of the lowest tenth up to "
            f"{low:.2f} times, the middle one {middle:.2f}, those of the highest tenth from {high:.2f} times on"
        )
        with write_atomically(place) as temporary, temporary.open("wb") as file:
            np.save(file, found, allow_pickle=False)
    weights: Weights = np.load(place, allow_pickle=False)
    if len(weights) != len(shards):
        raise CheckpointCorrupt(place, f"{len(shards)} weights", f"{len(weights)}")
    return weights


def _judged(prepared: Prepared, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The quality score of each training document, NaN where there is none, and the number of its source."""
    scores, sources, known = np.full(count, np.nan), np.zeros(count, np.int64), dict[str, int]()
    with progress("judging documents", count) as bar:
        for number, document in enumerate(prepared.documents("train")):
            if (score := quality_score(document.text)) is not None:
                scores[number] = score
            sources[number] = known.setdefault(document.meta.get("source", ""), len(known))
            bar.advance(1)
    return scores, sources


def corpus_summary(prepared: Prepared) -> dict[str, Any]:
    """What a ladder's report says of its text."""
    report = prepared.report
    return {
        "paths": [source.name for source in report.sources][:20],
        "documents": {name: split.documents for name, split in report.splits.items()},
        "bytes": {name: split.bytes for name, split in report.splits.items()},
        "languages": {name: language.documents for name, language in report.languages.items()},
        "steps": [
            {"name": step.name, "kept": step.documents_out, "dropped": step.dropped,
             "samples": [f"{sample.reason}: {sample.excerpt}" for sample in step.samples]}
            for step in report.steps
        ],
        "lengths": report.lengths, "documents_are": report.documents_are, "split": report.split,
        "overlap": {name: f"{100 * overlap.share:.2f} %" for name, overlap in report.overlap.items()},
        "warnings": report.warnings,
    }  # fmt: skip

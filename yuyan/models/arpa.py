"""The ARPA text format of n-gram models, in and out, as SRILM and KenLM write and read it.

A file lists every n-gram with log10 of its probability and, if it is the beginning of a longer one, log10 of its
back-off weight. Probabilities here are stored in that form already, so writing loses nothing but digits. `<s>` is
never predicted and has -99 in its place (KenLM writes 0); reading makes minus infinity of it, and of -99 and less.

The text is handled as bytes, because fields end at ASCII blanks only: a token may hold any other Unicode space.
"""

from __future__ import annotations

import gzip
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

import numpy as np

from yuyan.errors import DataError, InputError
from yuyan.models.ngram import NGram
from yuyan.models.trie import Finder, Floats, Ints, Level, join_keys
from yuyan.store import write_atomically

BOS, EOS = "<s>", "</s>"
NEVER = -99.0
LONGEST_LINE = 1 << 20
LINES_AT_ONCE = 1 << 17
LN10 = float(np.log(10))


class Arpa(NamedTuple):
    """What a file held: the model, and the text of each of its token ids."""

    model: NGram
    tokens: list[str]


# ---------------------------------------------------------------- writing


def write_arpa(model: NGram, path: Path, tokens: Sequence[str]) -> None:
    """Write `model` with `tokens[id]` as the text of each id; gzip if `path` ends in .gz.

    The texts of bos and eos become `<s>` and `</s>`. KenLM needs both in the model, and takes unknown words for
    `<unk>`. Raises InputError (a text that is missing, empty, has a blank or is there twice) and StorageError.
    """
    names = _names(model, tokens)
    with (
        write_atomically(path) as temporary,
        gzip.open(temporary, "wb", 6) if path.suffix == ".gz" else temporary.open("wb") as file,
    ):
        counts = "".join(f"ngram {order}={size}\n" for order, size in enumerate(model.sizes, 1))
        file.write(f"\\data\\\n{counts}".encode())
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for start in range(0, model.sizes[order - 1], LINES_AT_ONCE):
                file.write(_lines(model.levels, order, start, names))
        file.write(b"\n\\end\\\n")


def _names(model: NGram, tokens: Sequence[str]) -> list[str]:
    if len(tokens) != model.vocab_size:
        raise InputError(f"{len(tokens)} token texts for a model with {model.vocab_size} tokens; give one for each id")
    names = list(tokens)
    for special, name in ((model.bos, BOS), (model.eos, EOS)):
        if special is not None:
            names[special] = name
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not name or re.search(r"[\x00 \t\n\r\v\f]", name):
            raise InputError(f"token {index} is {name!r}: ARPA cannot hold empty tokens or tokens with blanks")
        if seen.setdefault(name, index) != index:
            raise InputError(f"tokens {seen[name]} and {index} are both {name!r}: ARPA cannot tell them apart")
    return names


def _lines(levels: Sequence[Level], order: int, start: int, names: Sequence[str]) -> bytes:
    level = levels[order - 1]
    node = np.arange(start, min(start + LINES_AT_ONCE, len(level.tokens)))
    probs = np.clip(level.log_probs[node] / LN10, NEVER, 0.0).tolist()
    backoffs = (level.log_backoffs[node] / LN10).tolist() if len(level.log_backoffs) else None
    words = []
    for above in reversed(levels[:order]):
        words.append([names[token] for token in above.tokens[node].tolist()])
        node = np.searchsorted(above.offsets, node, side="right") - 1  # the parent
    texts = map(" ".join, zip(*reversed(words), strict=True))
    if backoffs is None:
        lines = [f"{p:.9g}\t{text}\n" for p, text in zip(probs, texts, strict=True)]
    else:
        lines = [f"{p:.9g}\t{text}\t{b:.9g}\n" for p, text, b in zip(probs, texts, backoffs, strict=True)]
    return "".join(lines).encode()


# ---------------------------------------------------------------- reading


def read_arpa(path: Path) -> Arpa:
    """Read a model; token ids are given in the order of the 1-grams. `.gz` is unpacked.

    Raises DataError naming file and line: no ARPA file, an order missing, a ragged or unreadable line, a probability
    above 1, an n-gram twice, a word that is no 1-gram, an n-gram whose context is missing, other counts than announced.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(_Reader(path, file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError) as error:  # gzip reports damage as either
        raise DataError(f"{path}: cannot be read: {error}") from None


class _Reader:
    """The lines of a file without their ends, counted."""

    def __init__(self, path: Path, file: IO[bytes] | gzip.GzipFile):
        self.path, self.number, self._file = path, 0, file

    def line(self) -> bytes | None:
        """The next line, or None at the end."""
        self.number += 1
        return raw.strip() if (raw := self._file.readline(LONGEST_LINE)) else None

    def section(self) -> Iterator[list[bytes]]:
        """The lines up to an empty one, in batches; the empty one is read too."""
        while True:
            batch: list[bytes] = []
            for raw in self._file:
                stripped = raw.strip()
                if not stripped:
                    break
                batch.append(stripped)
                if len(batch) == LINES_AT_ONCE:
                    break
            yield batch
            if len(batch) < LINES_AT_ONCE:
                self.number += 1
                return

    def fail(self, said: str, line: int | None = None) -> NoReturn:
        raise DataError(f"{self.path}:{line or self.number}: {said}")


def _read(reader: _Reader) -> Arpa:
    counts = _read_counts(reader)
    numbers: dict[bytes, int] = {}
    levels: list[Level] = []
    for order, count in enumerate(counts, 1):
        levels.append(_read_order(reader, order, count, order == len(counts), numbers, levels))
    while (line := reader.line()) == b"":
        pass
    if line != b"\\end\\":
        reader.fail("expected \\end\\ after the n-grams; the file is cut short or its counts are wrong")
    try:
        tokens = [name.decode() for name in numbers]
    except UnicodeDecodeError as error:
        raise DataError(f"{reader.path}: a token is not UTF-8: {error.object!r}") from None
    return Arpa(NGram(levels, bos=numbers.get(BOS.encode()), eos=numbers.get(EOS.encode())), tokens)


def _read_counts(reader: _Reader) -> list[int]:
    while (line := reader.line()) is not None and line != b"\\data\\":
        if reader.number > 1000:  # a preamble is allowed, a whole book is not
            break
    if line != b"\\data\\":
        raise DataError(f"{reader.path}: not an ARPA file: no line says \\data\\")
    counts: list[int] = []
    while line := reader.line():
        match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if not match or int(match[1]) != len(counts) + 1:
            reader.fail(f"expected `ngram {len(counts) + 1}=` and a count; found {_show(line)}")
        counts.append(int(match[2]))
    if not counts or not counts[0]:
        reader.fail("no 1-grams: expected `ngram 1=` and a count above 0 after \\data\\")
    return counts


def _read_order(
    reader: _Reader, order: int, count: int, highest: bool, numbers: dict[bytes, int], levels: list[Level]
) -> Level:
    while (line := reader.line()) == b"":
        pass
    if line != b"\\%d-grams:" % order:
        reader.fail(f"expected \\{order}-grams: as announced under \\data\\; found {_show(line)}")
    first = reader.number + 1
    probs, backoffs, ids = array("d"), array("d"), array("i")
    for batch in reader.section():
        _read_lines(reader, batch, order, highest, numbers, (probs, backoffs, ids))
    if len(probs) != count:
        reader.fail(f"{len(probs)} {order}-grams, but {count} were announced under \\data\\")
    log_probs = np.frombuffer(probs) * LN10 if count else np.empty(0)
    log_probs[log_probs <= NEVER * LN10] = -np.inf
    if order == 1 and (bos := numbers.get(BOS.encode())) is not None:
        log_probs[bos] = -np.inf
    log_backoffs = np.frombuffer(backoffs) * LN10 if count and not highest else np.empty(0)
    grams = np.frombuffer(ids, np.int32).reshape(count, order) if count else np.empty((0, order), np.int32)
    return _arrange(reader, first, grams, log_probs, log_backoffs, levels)


def _read_lines(
    reader: _Reader, batch: list[bytes], order: int, highest: bool, numbers: dict[bytes, int],
    columns: tuple[array[float], array[float], array[int]],
) -> None:  # fmt: skip
    probs, backoffs, ids = columns
    widths = (order + 1,) if highest else (order + 1, order + 2)
    for line in batch:
        reader.number += 1
        fields = line.split()
        if len(fields) not in widths:
            parts = f"log10 probability, {order} tokens" + ("" if highest else " and perhaps a back-off weight")
            reader.fail(f"expected {parts}; found {len(fields)} fields: {_show(line)}")
        try:
            prob, backoff = float(fields[0]), float(fields[order + 1]) if len(fields) > order + 1 else 0.0
        except ValueError:
            reader.fail(f"not a number in {_show(line)}")
        if not prob <= 0 or not -np.inf < backoff < np.inf:
            reader.fail(f"expected a log10 probability of at most 0 and a finite back-off weight; found {_show(line)}")
        words = fields[1 : order + 1]
        if order == 1:
            if words[0] in numbers:
                reader.fail(f"the 1-gram {_show(words[0])} is there twice")
            numbers[words[0]] = len(numbers)
        try:
            ids.extend([numbers[word] for word in words])
        except KeyError as error:
            reader.fail(f"the token {_show(error.args[0])} is not among the 1-grams")
        probs.append(prob)
        backoffs.append(backoff)


def _arrange(
    reader: _Reader, first: int, grams: Ints, log_probs: Floats, log_backoffs: Floats, levels: list[Level]
) -> Level:
    """The n-grams of an order, in the order of the file, as a level on top of `levels`; `first` is their first line."""
    if not levels:
        size = len(grams)
        return Level(np.array([0, size], np.int32), np.arange(size, dtype=np.int32), log_probs, log_backoffs)
    finder, parents = Finder(levels), grams[:, 0]
    for order in range(2, len(levels) + 1):
        parents = finder.find(order, parents, grams[:, order - 1])
        if len(lost := np.flatnonzero(parents < 0)):
            reader.fail(f"the first {order} tokens of this n-gram are no {order}-gram", first + int(lost[0]))
    keys = join_keys(parents, grams[:, -1], finder.vocab_size)
    where = np.argsort(keys, kind="stable")
    if len(again := np.flatnonzero(np.diff(keys[where]) == 0)):
        reader.fail("this n-gram is there twice", first + int(where[again + 1].min()))
    offsets = np.zeros(len(levels[-1].tokens) + 1, np.int32)
    np.cumsum(np.bincount(parents, minlength=len(offsets) - 1), out=offsets[1:])
    return Level(
        offsets, grams[where, -1], log_probs[where], log_backoffs[where] if len(log_backoffs) else log_backoffs
    )


def _show(text: bytes | None) -> str:
    if text is None:
        return "the end of the file"
    shown = text.decode(errors="replace")
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")

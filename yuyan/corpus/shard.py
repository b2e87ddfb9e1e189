"""Tokens of documents on disk, memory-mapped: a folder that is whole or not there.

    tokens.bin           the ids of all documents, one after the other, uint16 or uint32, without control tokens
    offsets.npy          int64 (documents + 1): document i is tokens[offsets[i]:offsets[i + 1]]
    document_bytes.npy   int64 (documents): UTF-8 bytes of each text, for bits per byte
    ids.txt              the names of the documents, one JSON string a line
    index.json           sizes, number format, vocabulary, SHA-256 of the tokenizer
    manifest.json        size and SHA-256 of every file, checked when the folder is opened

Writing streams: of the texts only a few million characters are in memory, of a long text only a part as ids.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from yuyan import store
from yuyan.console import progress
from yuyan.errors import CheckpointCorrupt, DataError, InputError
from yuyan.store import publish_folder
from yuyan.text.document import Document
from yuyan.tokens import Tokenizer
from yuyan.tokens.tokenizer import lone_surrogate

FORMAT = 1


@dataclass(frozen=True)
class Index:
    """What `index.json` says."""

    format: int
    dtype: str
    documents: int
    tokens: int
    bytes: int
    unknown: int
    vocab_size: int
    tokenizer: str


class Shards:
    """Documents as tokens. `offsets` (documents + 1), `document_bytes` (documents), `flat`: all tokens as one array."""

    def __init__(self, folder: Path, index: Index):
        self.folder, self.index = folder, index
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self.document_bytes: NDArray[np.int64] = np.load(folder / "document_bytes.npy")
        mapped = (
            np.memmap(folder / "tokens.bin", dtype=index.dtype, mode="r") if index.tokens else np.zeros(0, index.dtype)
        )
        self.flat: NDArray[Any] = np.asarray(mapped)  # a plain view: indexing it is faster
        self._check()

    @classmethod
    def open(cls, folder: Path, verify: bool = True, *, tokenizer: Tokenizer | None = None) -> Shards:
        """Open a folder that `write_shards` wrote; with `tokenizer`, check that it is the one they were made with.

        Raises InputError (no such folder, another tokenizer) and CheckpointCorrupt (a file that is not what was written).
        """
        if not (folder / "index.json").is_file():
            raise InputError(f"{folder}: no tokens here: there is no index.json in it")
        if verify:
            store.verify(folder)
        index = _read_index(folder / "index.json")
        if tokenizer is not None and tokenizer.fingerprint != index.tokenizer:
            raise InputError(
                f"{folder}: made with another tokenizer: {index.tokenizer[:12]} there, {tokenizer.fingerprint[:12]} "
                "here; use that one, or make the tokens again"
            )
        return cls(folder, index)

    def __len__(self) -> int:
        return self.index.documents

    @property
    def tokens(self) -> int:
        """Tokens in all documents, without control tokens."""
        return self.index.tokens

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return self.index.bytes

    @property
    def vocab_size(self) -> int:
        """Of the tokenizer: no id reaches it."""
        return self.index.vocab_size

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer that made the tokens."""
        return self.index.tokenizer

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens that are unk."""
        return self.index.unknown / max(1, self.index.tokens)

    def document(self, i: int) -> NDArray[Any]:
        """The ids of document `i`, (tokens of it,), in the number format of the file."""
        if not 0 <= i < len(self):
            raise IndexError(f"document {i} of {len(self)}")
        return self.flat[self.offsets[i] : self.offsets[i + 1]]

    def ids(self) -> Iterator[str]:
        """The names of the documents, in order."""
        with (self.folder / "ids.txt").open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)

    def _check(self) -> None:
        index = self.index
        sizes = (len(self.offsets), len(self.document_bytes), len(self.flat), int(self.offsets[-1]))
        expected = (index.documents + 1, index.documents, index.tokens, index.tokens)
        if sizes != expected:
            raise CheckpointCorrupt(self.folder / "index.json", f"sizes {expected}", str(sizes))


def write_shards(documents: Iterable[Document], tokenizer: Tokenizer, folder: Path) -> Shards:
    """Encode `documents` into `folder`, whole or not at all, on all cores, and open it.

    Raises DataError when there is no text, and StorageError; what was at `folder` before is then untouched.
    """
    with publish_folder(folder) as temporary:
        with (
            (temporary / "tokens.bin").open("wb") as tokens,
            (temporary / "ids.txt").open("w", encoding="utf-8") as names,
            progress("encoding") as bar,
        ):
            writer = _Writer(tokenizer, tokens, names)
            for number, ids in tokenizer.encode_parts(writer.texts(documents)):
                writer.add(number, ids)
                bar.set(writer.total, f"{number:,} documents")
        if not writer.total:
            raise DataError(f"{folder}: no tokens to write: the {len(writer.sizes)} documents have no text")
        writer.finish(temporary)
    return Shards.open(folder, verify=False)


class _Writer:
    """Appends ids as they come, keeping only the sizes of the documents."""

    def __init__(self, tokenizer: Tokenizer, tokens: BinaryIO, names: TextIO):
        self.tokenizer, self.tokens, self.names = tokenizer, tokens, names
        self.dtype = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
        self.sizes, self.document_bytes = array("q"), array("q")
        self.total, self.unknown = 0, 0

    def texts(self, documents: Iterable[Document]) -> Iterator[str]:
        """The texts, noting name and size of each as it is taken."""
        for document in documents:
            self.document_bytes.append(_utf8_length(document))
            self.names.write(json.dumps(document.id, ensure_ascii=False) + "\n")
            self.sizes.append(0)
            yield document.text

    def add(self, number: int, ids: list[int]) -> None:
        """Append the next ids of a document."""
        row = np.array(ids, dtype=self.dtype)
        self.tokens.write(row.tobytes())
        self.sizes[number] += len(row)
        self.total += len(row)
        if self.tokenizer.special.unk is not None:
            self.unknown += int((row == self.tokenizer.special.unk).sum())

    def finish(self, folder: Path) -> None:
        """Write what is known only at the end."""
        offsets = np.concatenate([[0], np.cumsum(np.frombuffer(self.sizes, np.int64))]).astype(np.int64)
        np.save(folder / "offsets.npy", offsets)
        np.save(folder / "document_bytes.npy", np.frombuffer(self.document_bytes, np.int64))
        index = Index(
            format=FORMAT, dtype=self.dtype.name, documents=len(self.sizes), tokens=self.total, bytes=sum(self.document_bytes),
            unknown=self.unknown, vocab_size=len(self.tokenizer), tokenizer=self.tokenizer.fingerprint,
        )  # fmt: skip
        (folder / "index.json").write_text(json.dumps(vars(index), indent=1) + "\n", encoding="utf-8")


def _utf8_length(document: Document) -> int:
    if document.text.isascii():
        return len(document.text)
    try:
        return len(document.text.encode())
    except UnicodeEncodeError as error:
        raise lone_surrogate(f"document {document.id}", error) from None


def _read_index(path: Path) -> Index:
    try:
        index = Index(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise CheckpointCorrupt(path, "an index of tokens", "something unreadable") from None
    if index.format != FORMAT or index.dtype not in ("uint16", "uint32"):
        raise InputError(
            f"{path}: format {index.format} ({index.dtype}) is not known to this version; make the tokens again"
        )
    return index

"""What each token stands for, as bytes: a table that makes decoding a concatenation.

Byte-level tokens are bytes as they are; they may be a part of a character. Other tokens are texts, which may differ when
the token comes first: WordPiece puts a space before every word but the first, SentencePiece drops the first space.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import tokenizers

from yuyan.errors import DataError

SUPPORTED = {"ByteLevel", "ByteFallback", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece"}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces:
    """`first[i]` is what token i stands for when it comes first, `later[i]` otherwise; `control` ids stand for nothing."""

    def __init__(self, first: Sequence[bytes], later: Sequence[bytes], control: Collection[int]):
        self.first, self.later, self.control = list(first), list(later), frozenset(control)
        for i in self.control:
            self.first[i] = self.later[i] = b""

    def join(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence from its beginning. Raises IndexError for an id that is not in the vocabulary."""
        real = [i for i in ids if i not in self.control]
        if real and min(real) < 0:
            raise IndexError(f"{min(real)} is no token")
        return b"".join([self.first[i] for i in real[:1]] + [self.later[i] for i in real[1:]])


def pieces_of(
    inner: tokenizers.Tokenizer, vocabulary: Sequence[str], control: Collection[int], decoder: Mapping[str, Any] | None
) -> Pieces:
    """The table of a tokenizer. Raises DataError if it decodes in a way that is not a concatenation."""
    types = _types(decoder)
    if unsupported := sorted(types - SUPPORTED):
        raise DataError(f"tokenizer.json: the decoder {unsupported[0]} is not supported")
    if "ByteLevel" in types:
        table = _byte_level_alphabet()
        bare = [
            bytes(table[c] for c in token) if all(c in table for c in token) else token.encode() for token in vocabulary
        ]
        return Pieces(bare, bare, control)
    first, later = _texts(inner, vocabulary, control)
    if "ByteFallback" in types:
        for i, token in enumerate(vocabulary):
            if match := _BYTE.fullmatch(token):
                first[i] = later[i] = bytes.fromhex(match[1])
    return Pieces(first, later, control)


def _types(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    if decoder["type"] == "Sequence":
        return set().union(*(_types(step) for step in decoder["decoders"]))
    return {decoder["type"]}


def _texts(
    inner: tokenizers.Tokenizer, vocabulary: Sequence[str], control: Collection[int]
) -> tuple[list[bytes], list[bytes]]:
    """Decode every token alone, and behind another one."""
    ids = range(len(vocabulary))
    alone = inner.decode_batch([[i] for i in ids], skip_special_tokens=False)
    before = next((i for i in ids if i not in control and alone[i].isalnum() and alone[i].isascii()), None)
    before = before if before is not None else next((i for i in ids if i not in control and alone[i]), 0)
    behind = inner.decode_batch([[before, i] for i in ids], skip_special_tokens=False)
    start = len(alone[before]) if len(vocabulary) else 0
    return [text.encode() for text in alone], [text[start:].encode() for text in behind]


def _byte_level_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019, released code): printable
    Latin-1 stands for itself, the 68 others for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}

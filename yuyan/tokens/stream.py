"""Decoding token by token: text as soon as it is certain, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from yuyan.tokens.tokenizer import Tokenizer


class TextStream:
    """The texts of all `put` calls and of `finish`, joined, are `tokenizer.decode` of all ids.

    `before` are the ids that the stream continues, such as those of a prompt: they are not decoded, but the next token
    is then not the first of its text.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()):
        self._pieces = tokenizer.pieces
        self._first = all(i in self._pieces.control for i in before)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def put(self, token_id: int) -> str:
        """The text that is certain now; the bytes of an incomplete character wait for the next token."""
        pieces = self._pieces
        if token_id in pieces.control:
            return ""
        if token_id < 0:
            raise IndexError(f"{token_id} is no token")
        piece = pieces.first[token_id] if self._first else pieces.later[token_id]
        self._first = False
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """What still waited; U+FFFD if the ids ended inside a character."""
        return self._decoder.decode(b"", final=True)

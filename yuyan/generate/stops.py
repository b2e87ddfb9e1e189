"""Text as it is written, which ends before a stop string and never shows a part of one.

The text ends at the first character with which a stop string is complete; of two that end there, the longer one counts.
Until then the end of the text that may be the beginning of a stop string is held back.
"""

from __future__ import annotations

from collections.abc import Sequence

from yuyan.tokens import TextStream, Tokenizer


class StopStream:
    """The texts of all `put` calls and of `finish`, joined, are the decoded text up to the first stop string."""

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = (), stops: Sequence[str] = ()):
        self._text, self._stops, self._held = TextStream(tokenizer, before), tuple(stops), ""
        self.stopped: str | None = None
        """The stop string that was found."""

    def put(self, token_id: int) -> str:
        """The text that is certain now. Nothing more may be put once `stopped` is set."""
        return self._go_on(self._text.put(token_id))

    def finish(self) -> str:
        """What still waited; nothing after a stop string."""
        if self.stopped is not None:
            return ""
        rest = self._go_on(self._text.finish())
        held, self._held = self._held, ""
        return rest + held

    def _go_on(self, piece: str) -> str:
        text = self._held + piece
        if not self._stops or not piece:
            self._held = text if self._stops else ""
            return "" if self._stops else text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.stopped = min(found)
            self._held = ""
            return text[:at]
        hold = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`, but not all of it."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """What `StopStream` gives of a whole text."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)[1]] if found else text

"""What is typed, or comes through a pipe: the lines of standard input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from yuyan.errors import InputError


def typed_lines(file: BinaryIO) -> Iterator[str]:
    """The lines of standard input, each when it is there. Raises InputError for bytes that are no text."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input: line {number} is not UTF-8 at byte {error.start + 1}") from None

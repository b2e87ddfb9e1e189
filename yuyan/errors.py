"""The errors a user can meet: one clear line each, that names the file, line or key and the remedy.

Two families decide the exit code of the command line: what the user can mend by changing the input (2), and what
failed in the system around us, such as a full disk or a damaged file (1). Anything else that escapes is our own mistake
and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class YuyanError(Exception):
    """A failure with a message for the user; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(YuyanError, ValueError):
    """Something the user gave cannot be used; the message says where it is and how to mend it."""

    exit_code = 2


class ConfigError(InputError):
    """A config that cannot be built; the message starts with the path to the bad value."""


class DataError(InputError):
    """A file or a text that cannot be used; the message names the file and, where there is one, the line."""


class StorageError(YuyanError):
    """The disk refused: full, read-only, taken away."""


class CheckpointCorrupt(YuyanError):
    """A stored file is not the file that was written."""

    def __init__(self, file: Path, expected: str, got: str):
        self.file, self.expected, self.got = file, expected, got
        super().__init__(f"{file}: damaged: expected {expected}, found {got}")


class Interrupted(YuyanError):
    """The user asked to stop; the message says what was saved and how to go on."""

    exit_code = 130

"""`yuyan generate`: continue a text, printed as it is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yuyan.config import parse_override
from yuyan.console import table
from yuyan.errors import InputError
from yuyan.generate import Done, decoding
from yuyan.generate.strategy import Settings
from yuyan.models.network import NetworkModule
from yuyan.store import to_json
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.writing import Completion, texts_of, why_unfinished, with_shape


def generate_command(
    path: Path, prompt: str, options: Mapping[str, Any], keys: Sequence[str], weights: str | None = None, *,
    echo: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print the prompt (unless told not to) and its continuation to standard output, piece by piece.

    What an encoder reads has a line of its own. Several texts are printed one after the other, each behind a line with
    its number; `as_json` prints them with tokens and reasons. `weights` is in what numbers a decoder's weights are laid
    out for this CPU.
    """
    settings = generate_settings(options, keys)
    model = LanguageModel.load(path, weights=weights)
    text = _standard_input() if prompt == "-" else prompt
    reads = isinstance(model.network, NetworkModule) and model.network.encoder is not None
    before = "" if not echo else f"{text}\n" if reads else text  # what an encoder reads is not continued
    if as_json:
        (found,) = model.complete([text], settings)
        print(to_json([completion._asdict() for completion in found]))
        _refuse_unfinished(found)
    elif texts_of(settings) > 1:
        (found,) = model.complete([text], settings)
        for number, completion in enumerate(found, 1):
            _write(f"--- {number}\n{before}{completion.text}\n")
        _refuse_unfinished(found)
    else:
        for number, event in enumerate(model.events(text, settings)):
            if number == 0:  # by now nothing is wrong with the prompt
                _write(before)
            _write(event.text)
        _write("\n")
        if isinstance(event, Done) and event.valid is False:
            raise InputError(why_unfinished(event.reason, number))


def fill_command(path: Path, text: str, gap: str, top: int, keys: Sequence[str], *, as_json: bool) -> None:
    """Print the text with its gaps filled, and a table of the candidates."""
    settings = decoding(with_shape({"kind": "greedy", **written_values({}, keys)})) if keys else None
    model = LanguageModel.load(path)
    filled = model.fill(_standard_input() if text == "-" else text, settings, gap=gap, top=top)
    if as_json:
        print(to_json(filled._asdict()))
        return
    _write(filled.text + "\n")
    rows = [
        [str(number), token if token.isprintable() else repr(token)[1:-1], f"{probability:.4f}"]
        for number, candidates in enumerate(filled.candidates, 1)
        for token, probability in candidates
    ]
    if rows:
        table("candidates", ["gap", "token", "probability"], rows, left=2)


def shape_options(schema: str | None, regex: str | None, grammar: Path | None) -> dict[str, Any]:
    """What the text must obey, as options give it: a schema is a file or a text. Raises InputError."""
    if schema is not None and not schema.lstrip().startswith("{") and schema not in ("true", "false"):
        schema = _content(Path(schema))
    return {"schema": schema, "regex": regex, "grammar": None if grammar is None else _content(grammar)}


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start:,}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _refuse_unfinished(found: Sequence[Completion]) -> None:
    """Raise InputError if a text does not obey its constraint."""
    for number, completion in enumerate(found, 1):
        if why := completion.unfinished:
            raise InputError(why if len(found) == 1 else f"text {number} of {len(found)}: {why}")


def generate_settings(options: Mapping[str, Any], keys: Sequence[str]) -> Settings:
    """The strategy that options and `key=value` say. Raises ConfigError."""
    return decoding(with_shape(written_values(options, keys)))


def written_values(options: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """What options and `key=value` say, as plain values. Raises ConfigError, InputError."""
    values: dict[str, Any] = {}
    for assignment in keys:
        key, value = parse_override(assignment)
        node = values
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise InputError(f"--set {assignment}: {parent} is given as a value already")
        node[leaf] = value
    chosen = {key: value for key, value in options.items() if value is not None}
    if twice := [key for key in chosen if key in values]:
        raise InputError(f"--set {twice[0]}: given as an option too; leave one of the two out")
    return values | chosen


def _standard_input() -> str:
    """All of it, without the line break at its end, which `echo` and editors put there."""
    content = sys.stdin.buffer.read()
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: not UTF-8 at byte {error.start:,}; give the prompt as UTF-8") from None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

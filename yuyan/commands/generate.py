"""`yuyan generate`: continue a text, printed as it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from yuyan.config import build
from yuyan.errors import InputError
from yuyan.generate import Done, Sampling
from yuyan.generate.engine import Token
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import TextStream


def generate_command(path: Path, prompt: str, settings: dict[str, Any], *, echo: bool) -> None:
    """Print the prompt (unless told not to) and its continuation to standard output, piece by piece."""
    sampling = build(Sampling, {key: value for key, value in settings.items() if value is not None}, where="generate")
    model = LanguageModel.load(path)
    text = _standard_input() if prompt == "-" else prompt
    stream = TextStream(model.tokenizer, before=model.tokenizer.encode(text))
    for number, event in enumerate(model.events(text, sampling)):
        if echo and number == 0:  # by now nothing is wrong with the prompt
            _write(text)
        if isinstance(event, Token):
            _write(stream.put(event.id))
        elif isinstance(event, Done):
            _write(stream.finish() + "\n")


def _standard_input() -> str:
    content = sys.stdin.buffer.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: not UTF-8 at byte {error.start:,}; give the prompt as UTF-8") from None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""The other side of `parallel.py`: a process that cleans batches from its standard input until there are no more."""

from __future__ import annotations

import json
import os
import sys

from yuyan.config import build
from yuyan.text.clean import clean_batch, pack_cleaned, unpack_batch
from yuyan.text.parallel import receive, send
from yuyan.text.settings import CleanConfig


def main() -> None:
    """The other side: clean batches until there are no more."""
    order = json.loads(sys.argv[1])
    config = build(CleanConfig, order["config"])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the answers
    while (message := receive(sys.stdin.buffer)) is not None:
        cleaned = clean_batch(unpack_batch(message[0]), config, seed=order["seed"], drop=order["drop"])
        send(answers, pack_cleaned(cleaned))


if __name__ == "__main__":
    main()

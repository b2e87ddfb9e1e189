"""`yuyan demo`: the ladder on text that every Python carries, so that nothing is downloaded and nothing is asked.

The corpus is the documentation inside the interpreter: the help topics and every docstring of the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from yuyan.commands.ladder import LadderOrder, default_ladder_folder, ladder_command, parse_budget, show
from yuyan.commands.leaving import tidy
from yuyan.console import say
from yuyan.store import claim_folder
from yuyan.text import DataConfig, stdlib_documents, write_documents


def demo_command(out: Path | None, budget: str) -> None:
    """Write the corpus into the folder, build the ladder on it, and show it."""
    seconds = parse_budget(budget)
    folder = claim_folder(out or default_ladder_folder("demo"), what="the demo")
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    say(f"The ladder on the documentation inside {version}: unigram, bigram, Kneser-Ney, LSTM, GPT; about {budget}.")
    source = folder / "python-documentation.jsonl"
    with tidy(folder, "yuyan demo", fresh=True):
        write_documents(source, stdlib_documents())
    order = LadderOrder(data=DataConfig(sources=(source,)), title="python-documentation", budget=seconds)
    show(ladder_command(order, folder, claimed=True), folder)

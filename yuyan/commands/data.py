"""`yuyan data PATH...`: what is in these files, what the cleaning keeps and drops, and examples of each.

Without a folder to write to, the data is prepared in a temporary place and only the report remains.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from yuyan.config import load_config
from yuyan.console import say, table, warn
from yuyan.store import storage_errors
from yuyan.text import DataConfig, prepare
from yuyan.text.describe import describe

DATA = "data."


def data_config(paths: Sequence[Path], settings: Sequence[str]) -> DataConfig:
    """The data config for files named on the command line, with `key=value` settings. Raises ConfigError.

    A key may be written as messages name it, with the section of a whole config in front: `data.encoding`.
    """
    keys = [setting.removeprefix(DATA) for setting in settings]
    return load_config(DataConfig, None, keys, base={"sources": [str(path) for path in paths]}).config


def data_command(paths: list[Path], config: DataConfig, out: Path | None, as_json: bool) -> int:
    """Prepare the text in `paths` and show the report: tables, or with `as_json` JSON on standard output.

    Raises DataError, InputError, StorageError as `prepare` does. Returns the exit code, 0.
    """
    with ExitStack() as stack:
        if out is None:
            with storage_errors(Path("the temporary folder (TMPDIR)")):
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="yuyan-"))) / "data"
        else:
            folder = out
        prepared = prepare(paths, config, folder)
    report = prepared.report
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    else:
        for found in describe(report):
            table(found.title, found.columns, found.rows, left=found.left)
            if found.note:
                say(found.note)
            say()
    for text in report.warnings:
        warn(text)
    if out is None:
        say("Nothing was written; keep the result with --out FOLDER.")
    else:
        say(f"{out}: {', '.join(f'{name}.jsonl' for name in prepared.splits)}, report.json, manifest.json"
            + (" (made before from the same files; used again)" if prepared.reused else ""))  # fmt: skip
    return 0

"""`yuyan tokenizer train` and `yuyan tokenizer report`: make a tokenizer from files, and see what one makes of files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from yuyan.commands.data import DATA, data_config
from yuyan.config import Config, dump, load_config
from yuyan.console import progress, say, table, track, warn
from yuyan.store import claim_folder, write_json
from yuyan.text import DataConfig, read_documents
from yuyan.text.language import identify
from yuyan.tokens import Tokenizer, TokenizerConfig, load_tokenizer
from yuyan.tokens.report import Share, TokenReport, report_on
from yuyan.tokens.sample import sample_texts
from yuyan.tokens.train import TrainReport, train_with_report

REPORT_BYTES = 10_000_000  # of the text that a report reads
REPORT_FILE = "tokenizer_report.json"
LANGUAGES_SHOWN = 8


class _Settings(Config):
    tokenizer: TokenizerConfig


def tokenizer_and_data(paths: Sequence[Path], settings: Sequence[str]) -> tuple[TokenizerConfig, DataConfig]:
    """The config of a tokenizer, a byte-level BPE by default, and how to read the text in `paths`, from `key=value`
    settings; those of the text have `data.` in front. Raises ConfigError."""
    mine = [f"tokenizer.{setting}" for setting in settings if not setting.startswith(DATA)]
    config = load_config(_Settings, None, mine, base={"tokenizer": {"kind": "bpe"}}).config.tokenizer
    return config, data_config(paths, [setting for setting in settings if setting.startswith(DATA)])


def tokenizer_train_command(
    paths: Sequence[Path], config: TokenizerConfig, out: Path, data: DataConfig | None = None
) -> Tokenizer:
    """Train a tokenizer on the text in `paths`, write it to the new folder `out`, and show what it does to the text.

    Raises DataError, ConfigError, InputError (`out` is there already), StorageError.
    """
    claim_folder(out, what="the tokenizer")
    texts = track((document.text for document in read_documents(paths, data)), "reading")
    try:
        tokenizer, trained = train_with_report(texts, config)
    except BaseException:
        out.rmdir()  # nothing is in it yet
        raise
    for note in trained.notes:
        warn(note)
    report = _report(tokenizer, paths, data, config.seed)
    tokenizer.save(out)
    write_json(out / REPORT_FILE, {"config": dump(config), "training": trained.plain(), "report": report.plain()})
    _show_training(trained)
    show_report(report)
    say(f"the tokenizer is in {out}; it opens in transformers too. To train a model with it:")
    say(f"  tokenizer: {{kind: from, path: {out}}}   in the config of `yuyan train`")
    return tokenizer


def tokenizer_report_command(
    folder: Path, paths: Sequence[Path], *, as_json: bool = False, data: DataConfig | None = None
) -> TokenReport:
    """Show what the tokenizer in `folder` makes of the text in `paths`: tables, or with `as_json` JSON on standard output.

    Raises InputError and DataError.
    """
    report = _report(load_tokenizer(folder), paths, data, seed=0)
    if as_json:
        print(json.dumps(report.plain(), ensure_ascii=False, indent=1))
    else:
        show_report(report)
    return report


def show_report(report: TokenReport) -> None:
    """Print the tables of a report."""
    languages = list(report.languages.items())
    shown = languages[:LANGUAGES_SHOWN]
    rows = [_row(name, share) for name, share in [*shown, ("all", report.total)]]
    columns = [
        "language",
        "texts",
        "bytes",
        "tokens",
        "bytes/token",
        "tokens/character",
        "unknown",
        "comes back exactly",
    ]
    table("what the tokenizer makes of the text", columns, rows)
    if len(languages) > len(shown):
        say(f"and {len(languages) - len(shown)} languages with less text, counted under all")
    used = 100 * report.used / max(1, report.vocab_size)
    say(f"{report.used:,} of {report.vocab_size:,} tokens occur ({used:.1f} %); SHA-256 {report.fingerprint[:12]}")
    say("longest tokens: " + "  ".join(repr(text) for text in report.longest[:10]))


def _row(name: str, share: Share) -> list[str]:
    return [
        name, f"{share.texts:,}", f"{share.bytes:,}", f"{share.tokens:,}", f"{share.bytes_per_token:.3f}",
        f"{share.tokens_per_character:.3f}", f"{100 * share.unknown_rate:.3f} %",
        f"{100 * share.exact / max(1, share.texts):.1f} %",
    ]  # fmt: skip


def _show_training(trained: TrainReport) -> None:
    rows = [
        ("kind", trained.kind),
        ("vocabulary", f"{trained.vocab_size:,}"),
        ("text read", f"{trained.bytes_seen:,} bytes in {trained.documents:,} documents"),
        ("used for training", f"{trained.bytes_used:,} bytes (seed {trained.seed})"),
        ("time", f"{trained.seconds:.1f} s"),
    ]
    table("tokenizer", ["", ""], rows, left=2)


def _report(tokenizer: Tokenizer, paths: Sequence[Path], data: DataConfig | None, seed: int) -> TokenReport:
    texts = (document.text for document in read_documents(paths, data))
    sample = sample_texts(texts, REPORT_BYTES, seed)
    with progress("counting", len(sample.texts)) as bar:

        def named() -> Iterator[tuple[str, str]]:
            for text in sample.texts:
                yield identify(text).code, text
                bar.advance()

        return report_on(tokenizer, named())

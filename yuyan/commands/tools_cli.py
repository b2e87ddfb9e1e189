"""The options of `yuyan config`, `yuyan model` and `yuyan tokenizer`; what they do is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yuyan.commands.options import Overrides, given_path

config_app = typer.Typer(help="Show, check and explain configs.", no_args_is_help=True)
tokenizer_app = typer.Typer(help="Train a tokenizer, or look at one.", no_args_is_help=True)
model_app = typer.Typer(help="Look at a model before it is built, or in its folder.", no_args_is_help=True)


@tokenizer_app.command("train")
def tokenizer_train(
    paths: Annotated[list[Path], typer.Argument(parser=given_path, help="Text: files or folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", parser=given_path, help="Folder to write; must not exist yet.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A key of the tokenizer config: kind=unigram, vocab_size=4000; of the text: data.encoding=gb18030.",
        ),
    ] = None,
) -> None:
    """Train a tokenizer on your text, and show what it came to."""
    from yuyan.commands.tokenizer import tokenizer_and_data, tokenizer_train_command

    config, data = tokenizer_and_data(paths, set_ or [])
    tokenizer_train_command(paths, config, out, data)


@tokenizer_app.command("report")
def tokenizer_report(
    tokenizer: Annotated[Path, typer.Argument(parser=given_path, help="A folder with tokenizer.json.")],
    paths: Annotated[list[Path], typer.Argument(parser=given_path, help="Text to look at it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the data config: data.encoding=gb18030.")
    ] = None,
) -> None:
    """Bytes per token by language, coverage, longest tokens."""
    from yuyan.commands.data import data_config
    from yuyan.commands.tokenizer import tokenizer_report_command

    tokenizer_report_command(tokenizer, paths, as_json=as_json, data=data_config(paths, set_ or []))


@model_app.command("show")
def model_show(
    place: Annotated[Path, typer.Argument(parser=given_path, help="A config file, a run, or a model folder.")],
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Parameters by part, operations a token, memory to train and to generate."""
    from yuyan.commands.model import show_command

    show_command(place, overrides or [], as_json=as_json)


@config_app.command("show")
def config_show(
    config: Annotated[Path, typer.Argument(parser=given_path, help="A YAML file.")],
    overrides: Overrides = None,
    why: Annotated[bool, typer.Option("--why", help="Say where each value comes from.")] = False,
) -> None:
    """The filled config: every default written."""
    from yuyan.commands.config import show_command

    show_command(config, overrides or [], why=why)


@config_app.command("schema")
def config_schema() -> None:
    """The JSON schema of a config, for editors."""
    from yuyan.commands.config import schema_command

    schema_command()


@config_app.command("explain")
def config_explain(key: Annotated[str | None, typer.Argument(help="A key, such as train.clip.")] = None) -> None:
    """What a key means, its type and its default."""
    from yuyan.commands.config import explain_command

    explain_command(key)

"""The options of verbs for models with a task; what they do is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yuyan.commands.options import Overrides, given_path


def chat(
    model: Annotated[
        Path, typer.Argument(parser=given_path, help="A run of dialogues, or a folder with a chat template.")
    ],
    system: Annotated[str | None, typer.Option(help="A system text before the conversation.")] = None,
    overflow: Annotated[
        str, typer.Option(help="When the model cannot read it all: error, or drop the oldest turns.")
    ] = "error",
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token; by default 0.8.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest tokens with this probability together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answers; by default 0.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another key of the strategy: repetition_penalty=1.2.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each answer as a line of JSON.")] = False,
) -> None:
    """Talk with a model: in a terminal, or through a pipe, a line a turn."""
    from yuyan.commands.chat import chat_command

    options = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    chat_command(model, options, set_ or [], system=system, overflow=overflow, as_json=as_json)


def align(
    model: Annotated[
        Path, typer.Argument(parser=given_path, help="A run that reads one text and writes another (t5, seq2seq).")
    ],
    source: Annotated[str, typer.Argument(help="The text that is read.")],
    target: Annotated[str | None, typer.Argument(help="The text that is written; by default the model's own.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=given_path, help="The picture to write; by default alignment.svg."),
    ] = None,
) -> None:
    """What a model reads of a text as it writes each token of another: its attention, drawn."""
    from yuyan.commands.align import align_command

    align_command(model, source, target, out or Path("alignment.svg"))


def folds(
    config: Annotated[Path, typer.Argument(parser=given_path, help="A YAML file with a task.")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option("--folds", help="How many parts, each of which is tested once.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=given_path, help="Folder of the folds; by default runs/NAME-folds."),
    ] = None,
) -> None:
    """Cross-validation of a task: a run for each fold, and their mean and spread; run it again to go on."""
    from yuyan.commands.folds import folds_command

    folds_command(config, overrides or [], out, count)


def pseudo(
    run: Annotated[Path, typer.Argument(parser=given_path, help="A run of task classify or tag.")],
    files: Annotated[list[Path], typer.Argument(parser=given_path, help="Texts without labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", parser=given_path, help="Folder for labels and the new runs.")],
    threshold: Annotated[float, typer.Option(help="How sure an answer must be, as a probability.")] = 0.9,
    rounds: Annotated[int, typer.Option(min=1, help="How often; then the newest model labels.")] = 1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the run's config that is to differ: train.epochs=4.")
    ] = None,
) -> None:
    """Label texts with a model's confident answers, and train on both; run it again to go on."""
    from yuyan.commands.pseudo import Order, pseudo_command

    order = Order(run=str(run), files=tuple(map(str, files)), threshold=threshold, rounds=rounds)
    pseudo_command(order, out, set_ or [])

"""The options of `yuyan vectors`; what they do is in `yuyan.commands.vectors`, imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yuyan.commands.options import given_path

vectors_app = typer.Typer(help="Word vectors: train, ask, measure, draw.", no_args_is_help=True)


Place = Annotated[
    Path, typer.Argument(parser=given_path, help="A folder of vectors, or a word2vec, .vec or GloVe file.")
]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="How many answers.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@vectors_app.command("train")
def train(
    out: Annotated[Path, typer.Option("--out", "-o", parser=given_path, help="Folder to write; must not exist yet.")],
    paths: Annotated[list[Path] | None, typer.Argument(parser=given_path, help="Text: files or folders.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", parser=given_path, help="A YAML file.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the config: model.kind=cbow, model.subwords={}, units.kind=characters."),
    ] = None,
) -> None:
    """Find a vector for each word of your text: skip-gram, CBOW (with subwords, if you like) or GloVe."""
    from yuyan.commands import vectors as command

    command.train_command(command.vectors_config(config, paths or [], set_ or []), out)


@vectors_app.command("nearest")
def nearest(
    vectors: Place,
    words: Annotated[list[str], typer.Argument(help="One word or more.")],
    count: Count = 10,
    as_json: Json = False,
) -> None:
    """The words with the most similar vectors."""
    from yuyan.commands.vectors import nearest_command

    nearest_command(vectors, words, count, as_json=as_json)


@vectors_app.command("analogy")
def analogy(vectors: Place, a: str, b: str, c: str, count: Count = 10, as_json: Json = False) -> None:
    """A is to B as C is to: man king woman."""
    from yuyan.commands.vectors import analogy_command

    analogy_command(vectors, a, b, c, count, as_json=as_json)


@vectors_app.command("evaluate")
def evaluate(
    vectors: Place,
    questions: Annotated[list[Path], typer.Argument(parser=given_path, help="Word similarity and analogy files.")],
    as_json: Json = False,
) -> None:
    """Word similarity (such as WordSim-353) and analogies (questions-words.txt), with intervals."""
    from yuyan.commands.vectors import evaluate_command

    evaluate_command(vectors, questions, as_json=as_json)


@vectors_app.command("plot")
def plot(
    vectors: Place,
    out: Annotated[Path, typer.Option("--out", "-o", parser=given_path, help="The HTML file to write.")],
    words: Annotated[list[str] | None, typer.Argument(help="Which words; by default the most frequent.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=3, help="How many of the most frequent.")] = 400,
) -> None:
    """A picture of the space: one HTML file."""
    from yuyan.commands.vectors import plot_command

    plot_command(vectors, words or [], count, out)


@vectors_app.command("convert")
def convert(
    vectors: Place,
    out: Annotated[
        Path, typer.Argument(parser=given_path, help="A file: .bin is binary, .txt and .vec text; also .gz.")
    ],
) -> None:
    """Write the vectors as a word2vec file for other programs."""
    from yuyan.commands.vectors import convert_command

    convert_command(vectors, out)

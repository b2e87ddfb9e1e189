"""The `yuyan` command: one verb a command, `key.sub=value` overrides, one line for every mistake.

Exit codes: 0 done, 1 the system or a file failed, 2 the input can be mended, 130 stopped by the user.
The verbs live in `yuyan.commands`; each is imported when it is used, so that `yuyan --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from yuyan.commands.interrupt import interrupt_on_signal
from yuyan.commands.options import Out, Overrides, Resume, given_path
from yuyan.commands.tasks_cli import align, chat, folds, pseudo
from yuyan.commands.tools_cli import config_app, model_app, tokenizer_app
from yuyan.commands.vectors_cli import vectors_app
from yuyan.console import complain, left_running
from yuyan.errors import YuyanError
from yuyan.store import to_json

STOPPED = 130
START, TRAIN, USE, LOOK = "Begin here", "Train", "Use a model", "Look"  # the groups of `yuyan --help`
OUT_OF_MEMORY = "out of memory: use a smaller model.hidden_size, train.micro_tokens or train.context"

app = typer.Typer(
    help="From raw text to a language model that works at your task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"yuyan {version('yuyan')}, torch {version('torch')}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """From raw text to a language model that works at your task."""


@app.command(rich_help_panel=START)
def demo(out: Out = None, budget: Annotated[str, typer.Option(help="Time for the whole ladder.")] = "4m") -> None:
    """The ladder on the documentation inside your own Python: nothing to download, under five minutes."""
    from yuyan.commands.demo import demo_command

    demo_command(out, budget)


@app.command(rich_help_panel=START)
def ladder(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=given_path, help="Text: files or folders (txt, jsonl, csv, tsv, parquet; .gz .zst .zip)."
        ),
    ],
    budget: Annotated[str, typer.Option(help="Time for the whole ladder, such as 10m.")] = "10m",
    rungs: Annotated[
        str, typer.Option(help="Of unigram, bigram, kn3, kn5, nplm, rnn, gru, lstm, gpt; with commas.")
    ] = "unigram,bigram,kn5,lstm,gpt",
    out: Out = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Fixes everything that is drawn.")] = 0,
    resume: Resume = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print ladder.json to standard output.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the data config: data.split.kind=ordered.")
    ] = None,
) -> None:
    """n-gram models and networks on your text, under one budget, compared in bits per byte."""
    from yuyan.commands import ladder as command
    from yuyan.commands.data import data_config

    title = Path(os.path.abspath(paths[0])).name.split(".")[0] or "ladder"  # noqa: PTH100  (follows no links)
    order = command.LadderOrder(
        data=data_config(paths, set_ or []),
        title=title,
        budget=command.parse_budget(budget),
        rungs=[name.strip() for name in rungs.split(",") if name.strip()],
        seed=seed,
    )
    folder = out or command.default_ladder_folder(title, resume=resume)
    result = command.ladder_command(order, folder, resume=resume)
    command.show(result, folder)
    if as_json:
        print(to_json(result))


@app.command(rich_help_panel=TRAIN)
def train(
    config: Annotated[Path, typer.Argument(parser=given_path, help="A YAML file; or text, a file or a folder.")],
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    allow_change: Annotated[
        list[str] | None, typer.Option("--allow-change", help="A key that may differ from the run gone on with.")
    ] = None,
) -> None:
    """Train what a config describes, in a run folder; on a text without a config, all is chosen for it."""
    from yuyan.commands.outcome import show
    from yuyan.commands.run import read_run_config
    from yuyan.commands.train import train_command

    show(train_command(read_run_config(config, overrides or []), out, resume=resume, allow_change=allow_change or ()))


@app.command(rich_help_panel=TRAIN)
def lr(
    config: Annotated[Path, typer.Argument(parser=given_path, help="A YAML file; or text, a file or a folder.")],
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=40, help="How many steps to try.")] = 200,
    low: Annotated[float | None, typer.Option(help="The first rate; by default a 300th of the config's.")] = None,
    high: Annotated[float | None, typer.Option(help="The last rate; by default 300 times the config's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", parser=given_path, help="Where to write the page.")] = None,
) -> None:
    """Which learning rate suits a config: some hundred steps with a rising rate, drawn."""
    from yuyan.commands.rate import rate_command

    rate_command(config, overrides or [], out, steps=steps, low=low, high=high)


@app.command(rich_help_panel=TRAIN)
def tune(
    config: Annotated[Path, typer.Argument(parser=given_path, help="A YAML file with a `tune:` section.")],
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, help="How many settings to try in all.")] = 20,
    budget: Annotated[str | None, typer.Option(help="Begin no trial after so much time, such as 2h.")] = None,
    pruner: Annotated[str, typer.Option(help="Stop trials that fall behind: median, hyperband or none.")] = "median",
    out: Annotated[Path | None, typer.Option("--out", "-o", parser=given_path, help="Folder of the search.")] = None,
) -> None:
    """Search the keys that a config names; run it again to go on."""
    from yuyan.commands.settings import seconds_of
    from yuyan.commands.tune import Order, tune_command

    if pruner not in ("median", "hyperband", "none"):
        raise typer.BadParameter(f"--pruner is median, hyperband or none, not {pruner!r}")
    seconds = None if budget is None else seconds_of(budget)
    tune_command(config, overrides or [], out, Order(trials, seconds, pruner))  # type: ignore[arg-type]


@app.command(rich_help_panel=TRAIN)
def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(parser=given_path, help="Runs, or folders of runs; or: compare RUN RUN ...")
    ] = None,
    sort: Annotated[str, typer.Option(help="when, score, name, time, tokens or size.")] = "when",
    check: Annotated[bool, typer.Option("--check", help="Read every stored byte, not only sizes.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", parser=given_path, help="compare: where to write the page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")] = False,
) -> None:
    """The runs there are and what they came to; `yuyan runs compare A B` sets them side by side."""
    from yuyan.commands.compare import compare_command
    from yuyan.commands.runs import runs_command

    if folders and str(folders[0]) == "compare":
        compare_command(folders[1:], out, as_json=as_json)
    else:
        runs_command(folders or [], sort=sort, contents=check, as_json=as_json)


@app.command(rich_help_panel=USE)
def generate(
    model: Annotated[Path, typer.Argument(parser=given_path, help="A run, a rung of a ladder, or a model folder.")],
    prompt: Annotated[str, typer.Argument(help="The beginning of the text; - reads it from standard input.")],
    max_tokens: Annotated[int | None, typer.Option(help="Stop after so many new tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token; by default 0.8.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest tokens with this probability together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text; by default 0.")] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", help="How many texts.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be given again.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="greedy, sampling, beam or contrastive; by default sampling.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another key of the strategy: beams=4, repetition_penalty=1.2.")
    ] = None,
    json_schema: Annotated[
        str | None, typer.Option(help="Write JSON that this schema accepts: a file, or its text.")
    ] = None,
    regex: Annotated[str | None, typer.Option(help="Write a text that this expression matches as a whole.")] = None,
    grammar: Annotated[
        Path | None, typer.Option(parser=given_path, help="Write a text of the grammar in this file (Lark).")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, int8 or int4: faster on a CPU; by default as they are stored."),
    ] = None,
    no_echo: Annotated[bool, typer.Option("--no-echo", help="Do not print the prompt.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print texts, tokens and reasons as JSON.")] = False,
) -> None:
    """Continue a text, printed as it is written."""
    from yuyan.commands.generate import generate_command, shape_options

    options = {
        "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "n": n,
        "stop": stop or None, "kind": kind, **shape_options(json_schema, regex, grammar),
    }  # fmt: skip
    generate_command(model, prompt, options, set_ or [], weights, echo=not no_echo, as_json=as_json)


@app.command(rich_help_panel=USE)
def export(
    model: Annotated[Path, typer.Argument(parser=given_path, help="A run, or a model folder.")],
    to: Annotated[str, typer.Option(help="gguf (llama.cpp), onnx or ctranslate2.")],
    out: Out = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with the engine itself.")] = True,
) -> None:
    """Write a model for another engine, and check there that it is the same."""
    from yuyan.commands.export import export_command

    export_command(model, to, out, check=check)


@app.command(rich_help_panel=USE)
def fill(
    model: Annotated[Path, typer.Argument(parser=given_path, help="A masked encoder (BERT) or a T5.")],
    text: Annotated[str, typer.Argument(help="A text with gaps; - reads it from standard input.")],
    gap: Annotated[str, typer.Option(help="What a gap looks like.")] = "___",
    top: Annotated[int, typer.Option(help="How many candidates to show for each gap of an encoder.")] = 5,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the strategy by which T5 writes: kind=beam.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print text and candidates as JSON.")] = False,
) -> None:
    """Fill the gaps of a text."""
    from yuyan.commands.generate import fill_command

    fill_command(model, text, gap, top, set_ or [], as_json=as_json)


@app.command(rich_help_panel=USE)
def evaluate(
    model: Annotated[Path, typer.Argument(parser=given_path, help="A run, a rung of a ladder, or a model folder.")],
    paths: Annotated[list[Path], typer.Argument(parser=given_path, help="The text to measure on.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A key of the data config.")] = None,
    mix: Annotated[
        Path | None, typer.Option(parser=given_path, help="A second model, to be mixed with the first.")
    ] = None,
    mix_on: Annotated[
        Path | None, typer.Option(parser=given_path, help="The text that its weight is chosen on.")
    ] = None,
) -> None:
    """Bits per byte and perplexity of a model on your text, alone or mixed with another; of a model with a task, how well it does it."""
    if (mix is None) != (mix_on is None):
        raise typer.BadParameter("--mix MODEL and --mix-on TEXT go together: the weight is chosen on the text")
    if mix is not None and mix_on is not None:
        from yuyan.commands.mixture import mixture_command

        mixture_command(model, mix, paths, mix_on, set_ or [], as_json=as_json)
        return
    from yuyan.commands.evaluate import evaluate_command

    evaluate_command(model, paths, set_ or [], as_json=as_json)


@app.command(rich_help_panel=USE)
def predict(
    model: Annotated[Path, typer.Argument(parser=given_path, help="A run of a task, or a model folder with labels.")],
    source: Annotated[str, typer.Argument(help="A file of texts, a text, or - for lines of standard input.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", parser=given_path, help="File to write; by default printed.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    context: Annotated[
        str | None, typer.Option(help="For questions: the text that answers them, or a file of it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the task: task.too_long=truncate, or of the data config."),
    ] = None,
) -> None:
    """The answers of a model to each text, as they are found."""
    from yuyan.commands.task_use import predict_command

    predict_command(model, source, out, form, set_ or [], context)


@app.command(rich_help_panel=LOOK)
def data(
    paths: Annotated[list[Path], typer.Argument(parser=given_path, help="Files or folders.")],
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the data config: data.encoding=gb18030, data.clean.quality=null."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", parser=given_path, help="A run of a task: print the tokens that it reads, with labels."),
    ] = None,
) -> None:
    """What is in your text: what was found, kept and dropped, step by step, with examples."""
    from yuyan.commands.data import data_command, data_config

    if mask is not None:
        from yuyan.commands.mask import mask_command

        mask_command(mask, paths, set_ or [])
        return
    raise typer.Exit(data_command(paths, data_config(paths, set_ or []), out, as_json))


app.command(rich_help_panel=TRAIN)(folds)
app.command(rich_help_panel=TRAIN)(pseudo)
app.command(rich_help_panel=USE)(chat)
app.command(rich_help_panel=USE)(align)
for _name, _verbs in (("config", config_app), ("model", model_app), ("tokenizer", tokenizer_app)):
    app.add_typer(_verbs, name=_name, rich_help_panel=LOOK)
app.add_typer(vectors_app, name="vectors", rich_help_panel=TRAIN)


def main() -> None:
    """Run the command line; never show a traceback for something the user can mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # where it cannot show a character, a ? is better than no text at all
        sys.stdout.reconfigure(errors="replace")
    with interrupt_on_signal():
        code = _run()
    if code and left_running():
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        if code == STOPPED:  # how the command line library reports Ctrl-C
            _complain("stopped")
        return code if isinstance(code, int) else 0
    except YuyanError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("stopped")
        return STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        return 1
    except MemoryError:
        _complain(OUT_OF_MEMORY)
        return 1
    except Exception as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # torch's own way to say it
            _complain(OUT_OF_MEMORY)
            return 1
        return _usage_error(error)


def _complain(message: str) -> None:
    rank = os.environ.get("RANK", "0")
    complain(f"yuyan: {message}" if rank == "0" else f"yuyan (rank {rank}): {message}")


def _usage_error(error: Exception) -> int:
    """The command line's own errors (a wrong option) in our form; anything else is our mistake and is raised."""
    show = getattr(error, "format_message", None)
    if show is None:
        raise error
    if said := show():  # nothing, where the help has been printed
        context = getattr(error, "ctx", None)
        _complain(f"{said} (see {'yuyan' if context is None else context.command_path} --help)")
    return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()

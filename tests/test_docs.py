"""What the documents say is there: no marks of a merge, links that lead somewhere, commands, options and keys that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from yuyan.cli import app
from yuyan.commands.config import explanations
from yuyan.commands.run import RunConfig, read_run_config
from yuyan.config import load_config
from yuyan.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
TEXTS = sorted(
    file for folder in ("yuyan", "tests", "bench", "configs", "docs", ".ci") for file in (ROOT / folder).rglob("*")
    if file.is_file() and file.suffix in ("", ".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".j2", ".jsonl")
)  # fmt: skip
KEYS = {each.key for each in explanations(RunConfig)}
FREE = ("tune.", "model.architecture")  # what lies below these is not named by fields
COMMAND = typer.main.get_command(app)
NOT_OURS = re.compile(r"<|\.\.\.|\bCOMMAND\b|\bVERB\b")


def lines_of(page: Path) -> Iterator[tuple[int, str]]:
    """The lines of its fenced blocks, those that a backslash ends joined to the next, and commands within the text."""
    inside, start, held = False, 0, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
            continue
        if not inside:
            yield from ((number, match) for match in re.findall(r"`(yuyan [^`]+|python bench/[^`]+)`", line))
            continue
        start = start if held else number
        held += line.strip()
        if held.endswith("\\"):
            held = held[:-1]
            continue
        yield start, held
        held = ""


COMMANDS = [
    (page, number, line) for page in PAGES for number, line in lines_of(page)
    if line.startswith(("yuyan ", "python bench/")) and not NOT_OURS.search(line) and page.name != "log.md"
]  # fmt: skip


def named(page: Path, number: int) -> str:
    return f"{page.relative_to(ROOT)}:{number}"


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 150


def test_no_marks_of_a_merge_are_left() -> None:
    mark = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    left = [str(file.relative_to(ROOT)) for file in [*PAGES, *TEXTS] if mark.search(file.read_text("utf-8", "replace"))]
    assert not left


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    inside = [(page.parent / link if link else page, anchor) for link, anchor in links if "://" not in link]
    assert not [
        f"{file}#{anchor}" for file, anchor in inside if not file.exists() or (anchor and anchor not in anchors(file))
    ]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them: small letters, no punctuation, a hyphen for a space."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rows_have_as_many_cells_as_their_table(page: Path) -> None:
    """A bar ends a cell even within a formula, and one behind a backslash is a single bar: `\\lvert` and `\\Vert` are neither."""
    wrong, cells = [], 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        here = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if (cells and here and here != cells) or re.search(r"\$[^$`]*\\\|[^$`]*\$", line):
            wrong.append(number)
        cells = here
    assert not wrong


def test_commands_and_their_options_are_there() -> None:
    wrong = [f"{named(page, number)}: {line}: {said}" for page, number, line in COMMANDS if (said := _mistake(line))]
    assert not wrong, "\n".join(wrong)


def test_keys_of_the_config_are_there() -> None:
    wrong = []
    for page, number, line in COMMANDS:
        for key in re.findall(
            r"(?<![\w./-])((?:data|model|train|task|tokenizer|objective|evaluate|adapt|generate)(?:\.\w+)+)=", line
        ):
            verb = line.split()[1]
            if (
                verb not in ("vectors", "tokenizer", "predict", "evaluate", "model")
                and key not in KEYS
                and not key.startswith(FREE)
            ):
                wrong.append(f"{named(page, number)}: {key}")
    assert not wrong, "\n".join(wrong)


def test_a_shipped_config_is_given_the_text_that_it_lacks() -> None:
    """A command copied from a page finds its text, the config's own or one that it names, and the model it begins with."""
    wrong = []
    for page, number, line in COMMANDS:
        for config in re.findall(r"^yuyan (?:train|lr|tune|folds) (configs/\S+\.yaml)", line):
            sources = load_config(RunConfig, ROOT / config).config.data.sources if "data.sources=" not in line else ()
            teacher = "yuyan train configs/tiny/gpt.yaml --out runs/tiny-gpt"  # which some configs begin with
            if "runs/tiny-gpt" in (ROOT / config).read_text("utf-8") and teacher not in page.read_text("utf-8"):
                wrong.append(f"{named(page, number)}: {line}: no {teacher}")
            wrong += [
                f"{named(page, number)}: {line}" for source in sources if not ((ROOT / config).parent / source).exists()
            ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_commands_above_a_config_can_be_read(config: Path) -> None:
    """All but `yuyan train CONFIG`, and what is offered after a colon: settings that the config takes."""
    comments = [line.lstrip("# ").strip() for line in config.read_text("utf-8").splitlines() if line.startswith("#")]
    told = re.split(r"(?=yuyan )|\n", re.sub(r"\\\n", " ", "\n".join(comments)))
    settings = [re.findall(r"[\w.]+=(?:\"[^\"]*\"|\[[^\]]*\]|\S+)|\"[\w.]+=[^\"]*\"", line) for line in told]
    for line, given in zip(told, settings, strict=True):
        overrides = [setting.replace('"', "") for setting in given]
        named = re.search(r"configs/\S+\.yaml", line)
        if overrides:
            try:
                read_run_config(ROOT / named[0] if named else config, overrides)
            except InputError as error:
                assert "no such model" in str(error), line


def _mistake(line: str) -> str:
    """What is wrong with a command, as far as its parser can tell; nothing if all is well."""
    words = _words(line)
    if words[0] == "python":
        if not (ROOT / words[1]).is_file():
            return "no such script"
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        strange = [w for w in words[2:] if w.startswith("--") and f'"{w.partition("=")[0]}"' not in source]
        return f"no option {strange[0]}" if strange else ""
    command: Any = COMMAND
    given = words[1:]
    while given and hasattr(command, "commands") and not given[0].startswith("-"):
        if given[0] not in command.commands:
            return f"no command {given[0]!r}"
        command, given = command.commands[given[0]], given[1:]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]} | {
        "--help",
        "-h",
    }
    unknown = [
        word.partition("=")[0] for word in given if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known
    ]
    return f"no option {unknown[0]}" if unknown else ""


def _words(line: str) -> list[str]:
    """Until a comment, a pipe or a redirection."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    for i, word in enumerate(words):
        if word in ("|", ">", "&&", ";", "#"):
            return words[:i]
    return words

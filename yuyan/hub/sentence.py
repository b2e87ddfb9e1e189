"""How a folder makes one vector of a text: `modules.json` and what it names, as sentence-transformers writes them.

A pipeline of three steps is understood: the network, pooling, normalisation. Anything else is an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from yuyan.config import Config
from yuyan.errors import DataError
from yuyan.hub.files import read_json
from yuyan.store import write_json

MODULES, PROMPTS, LENGTH = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
TOKENIZER = "tokenizer_config.json"
"""Where sentence-transformers writes the length from version 6 on; `LENGTH` before."""
UNBOUNDED = 1 << 31
"""From here on a tokenizer's longest text is none: transformers writes 1e30."""
POOLING = "1_Pooling"
Pooling = Literal["mean", "cls", "max", "lasttoken"]
OLD_NAMES: dict[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
SUPPORTED: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "lasttoken"}


class Sentence(Config):
    """How a text becomes one vector."""

    pooling: Pooling = "mean"
    """What stands for a text: the mean of its tokens, the first, the largest of each coordinate, the last."""
    normalise: bool = True
    """Whether vectors have length 1."""
    max_length: int | None = Field(None, gt=0)
    """Texts are cut after so many tokens, control tokens included."""
    lower: bool = False
    """Whether texts are put into lower case first."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Texts to put before another, by name: query, document."""
    default_prompt: str | None = None
    """The name of the one that is used when none is asked for."""


def read_sentence(folder: Path) -> Sentence | None:
    """What the folder says, or None if it does not say. Raises DataError for a step that is not supported."""
    path = folder / MODULES
    if not path.is_file():
        return None
    steps = _steps(path)
    names = [name for name, _ in steps]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        raise DataError(f"{path}: {' > '.join(names)}: only Transformer > Pooling > Normalize is supported")
    if steps[0][1]:
        raise DataError(
            f"{path}: the network lies in {steps[0][1]!r}; move its files beside {MODULES} and make that path empty"
        )
    if Path(steps[1][1]).name != steps[1][1]:
        raise DataError(f"{path}: {steps[1][1]!r} is not the name of a folder in this one")
    length, prompts, tokenizer = (_optional(folder / name) for name in (LENGTH, PROMPTS, TOKENIZER))
    lengths = (length.get("max_seq_length"), tokenizer.get("model_max_length"))
    return Sentence(
        pooling=_pooling(folder / steps[1][1] / "config.json"),
        normalise=names[2:] == ["Normalize"],
        max_length=next((size for size in lengths if isinstance(size, int) and 0 < size < UNBOUNDED), None),
        lower=length.get("do_lower_case") is True,
        prompts={str(name): str(text) for name, text in (prompts.get("prompts") or {}).items()},
        default_prompt=prompts.get("default_prompt_name"),
    )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _steps(path: Path) -> list[tuple[str, str]]:
    """The kind and the folder of each step."""
    try:
        return [(str(step["type"]).rpartition(".")[2], str(step["path"]))
                for step in json.loads(path.read_text(encoding="utf-8"))]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: not a list of steps with `type` and `path`") from None


def _pooling(path: Path) -> Pooling:
    data = read_json(path)
    chosen = data.get("pooling_mode") or [mode for key, mode in OLD_NAMES.items() if data.get(key) is True] or "mean"
    modes = [chosen] if isinstance(chosen, str) else list(chosen)
    if len(modes) != 1 or modes[0] not in SUPPORTED:
        raise DataError(
            f"{path}: pooling by {' and '.join(map(str, modes))} is not supported; only one of {', '.join(SUPPORTED)}"
        )
    if data.get("include_prompt") is False:
        raise DataError(f"{path}: include_prompt: false is not supported")
    return SUPPORTED[modes[0]]


def write_sentence(sentence: Sentence, folder: Path, size: int) -> None:
    """Write what `read_sentence` reads; vectors have `size` coordinates. Raises StorageError."""
    steps = [("", "Transformer"), (POOLING, "Pooling"), *([("2_Normalize", "Normalize")] if sentence.normalise else [])]
    write_json(folder / MODULES, [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(steps)
    ])  # fmt: skip
    (folder / POOLING).mkdir(exist_ok=True)
    modes: dict[str, Any] = {key: mode == sentence.pooling for key, mode in OLD_NAMES.items()}
    write_json(folder / POOLING / "config.json", {"word_embedding_dimension": size, **modes})
    write_json(folder / LENGTH, {"max_seq_length": sentence.max_length, "do_lower_case": sentence.lower})
    write_json(folder / PROMPTS, {"prompts": sentence.prompts, "default_prompt_name": sentence.default_prompt})

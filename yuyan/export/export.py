"""One folder in another engine's format: written beside its place, checked with the engine, and only then put there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from yuyan.errors import InputError, YuyanError
from yuyan.export import ctranslate, gguf, onnx
from yuyan.export.parity import Case, Parity, Runtime, cases_of, measure
from yuyan.export.runtime import RuntimeMissing
from yuyan.hub.families import family_of
from yuyan.models.network import NetworkModule
from yuyan.nn.head import LanguageModelHead
from yuyan.store import publish_folder, write_text
from yuyan.tasks.language_model import LanguageModel
from yuyan.tasks.model_folder import framed

Format = Literal["gguf", "onnx", "ctranslate2"]
FORMATS: tuple[Format, ...] = ("gguf", "onnx", "ctranslate2")
_ENGINES: dict[Format, Callable[[LanguageModel, Path], Runtime]] = {
    "gguf": gguf.LlamaCpp, "onnx": onnx.OnnxRuntime, "ctranslate2": ctranslate.CTranslate2,
}  # fmt: skip


class NotTheSame(YuyanError):
    """The other engine computes another model."""


class Exported(NamedTuple):
    """What was written, and what was measured; no parity where that was not wanted."""

    folder: Path
    parity: Parity | None


def export_model(model: LanguageModel, to: Format, out: Path, *, name: str, check: bool = True) -> Exported:
    """Write `out` in the format `to`, whole or not at all, with a card that has the measured parity.

    Raises InputError for a model that the format cannot carry, RuntimeMissing where what writes or checks it is not
    installed, NotTheSame if the engine computes something else; then nothing is left.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; give another folder (--out)")
    network = model.network
    if not isinstance(network, NetworkModule):
        raise InputError(f"{to}: an n-gram model is a table of counts, which none of {', '.join(FORMATS)} carries")
    found = family_of(network.config)
    family = None if found is None else found[0].model_type
    if why := _refusal(model, network, to, family):
        raise InputError(f"{to}: {why}")
    with publish_folder(out) as folder:
        if to == "gguf":
            gguf.write_gguf(model, folder, str(family))
        elif to == "onnx":
            onnx.write_onnx(model, folder)
        else:
            ctranslate.write_ctranslate(model, folder)
        framed(model.tokenizer, network, model.task, model.sentence).save(folder)
        parity = _check(model, to, folder) if check else None
        write_text(folder / "README.md", card(name, to, parity))
    return Exported(out, parity)


def _refusal(model: LanguageModel, network: NetworkModule, to: Format, family: str | None) -> str | None:
    """Why the format cannot carry the model; None if it can."""
    if to == "gguf":
        return gguf.refusal(network.config.filled(), family, model.tokenizer)
    if to == "ctranslate2" and (
        family not in ctranslate.FAMILIES or not isinstance(network.config.head, LanguageModelHead)
    ):
        fits = ", ".join(ctranslate.FAMILIES)
        return f"carries language models of the families {fits}; this one is {family or 'of no family'}; onnx may fit"
    return None


def _check(model: LanguageModel, to: Format, folder: Path) -> Parity:
    try:
        engine = _ENGINES[to](model, folder)
    except RuntimeMissing as error:
        raise RuntimeMissing(f"parity could not be run: {error}; or export without it (--no-check)") from None
    cases: list[Case] = cases_of(model)
    alike = gguf.counted_alike(engine, model.tokenizer, cases) if isinstance(engine, gguf.LlamaCpp) else None
    try:
        parity = measure(model, engine, cases, "float32", alike)
    except (ValueError, RuntimeError) as error:
        raise NotTheSame(f"{to}: {engine.name} cannot run what was written: {error}; nothing was kept") from None
    if not parity.passed:
        told = "; ".join(f"{key}: {value}" for key, value in parity.rows())
        raise NotTheSame(f"{to}: the engine computes another model; nothing was kept ({told})")
    return parity


def card(name: str, to: Format, parity: Parity | None) -> str:
    """README.md of the folder."""
    if parity is None:
        measured = "Not checked: parity with the original was not run."
    else:
        rows = "\n".join(f"| {key} | {value} |" for key, value in parity.rows())
        measured = f"The same texts were read by the original and by the engine:\n\n| | |\n|---|---|\n{rows}"
    return f"# {name}, as {to}\n\nExported by yuyan.\n\n## Parity\n\n{measured}\n"

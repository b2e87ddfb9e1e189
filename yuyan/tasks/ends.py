"""Which tokens end a text: those of the tokenizer, and those that the folder of a model names beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yuyan.models.network import NetworkModule
from yuyan.models.ngram import NGram
from yuyan.tasks.model_folder import CONFIG_FILES, said_in
from yuyan.tokens.special import Special


def stored_ends(folder: Path, network: NetworkModule | NGram) -> frozenset[int]:
    """The tokens that end a text that the folder names: one, or several (Llama 3, Qwen)."""
    if isinstance(network, NGram):
        return frozenset()
    said: Any = next((ends for ends in said_in(folder, "eos_token_id", *CONFIG_FILES) if ends is not None), [])
    found = said if isinstance(said, list) else [said]
    return frozenset(i for i in found if isinstance(i, int) and 0 <= i < network.config.vocab_size)


def special_ids(special: Special, ends: frozenset[int], start: int | None) -> dict[str, int | list[int] | None]:
    """The control tokens as `config.json` says them; `ends` are all that end a text."""
    more = sorted(ends - {special.bos, special.eos, special.pad})
    eos = [*([] if special.eos is None else [special.eos]), *more]
    return {
        "bos_token_id": special.bos, "eos_token_id": eos if len(eos) > 1 else next(iter(eos), None),
        "pad_token_id": special.pad, "decoder_start_token_id": start,
    }  # fmt: skip

"""CTranslate2, by its own converter from our folder in Hugging Face's layout, checked with its own engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from yuyan.errors import InputError
from yuyan.export.parity import Case, Gives
from yuyan.export.runtime import package
from yuyan.hub.files import read_json
from yuyan.models.network import NetworkModule
from yuyan.store import write_json
from yuyan.tasks.language_model import LanguageModel

FAMILIES = ("gpt2", "llama", "mistral", "qwen3", "qwen2", "t5")


def write_ctranslate(model: LanguageModel, folder: Path) -> None:
    """Write the converted model into an existing folder. Raises InputError where the converter refuses it."""
    library = package("ctranslate2", "ctranslate2")
    package("transformers", "transformers")
    converters = package("ctranslate2.converters", "ctranslate2")
    with tempfile.TemporaryDirectory() as place:
        model.write(Path(place))
        try:
            converter = converters.TransformersConverter(place, low_cpu_mem_usage=True)
            converter.load_model = _load  # a hook of theirs
            converter.convert(str(folder), quantization="float32", force=True)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise InputError(f"ctranslate2 {library.__version__}: its converter refuses this model: {error}") from None
    settings = read_json(folder / "config.json")  # the name of a token that the tokenizer has not must be empty there
    named = {key: "" if value is None and key.endswith("_token") else value for key, value in settings.items()}
    write_json(folder / "config.json", named)


def _load(kind: Any, place: str, **options: Any) -> Any:
    """A network as transformers opens it. Its T5 says that every embedding is tied, even where it is not, and has
    another name for what the converter wants to know: whether scores are made smaller.
    """
    network = kind.from_pretrained(place, **options)
    if hasattr(network.config, "scale_decoder_outputs"):
        network.config.tie_word_embeddings = network.config.scale_decoder_outputs
    return network


class CTranslate2:
    """The engine, on one CPU thread."""

    def __init__(self, model: LanguageModel, folder: Path):
        library = package("ctranslate2", "ctranslate2")
        self.name, self._tokenizer = f"ctranslate2 {library.__version__}", model.tokenizer
        self._ends = sorted(model.ends)
        network = model.network
        assert isinstance(network, NetworkModule)
        self.gives: Gives = "scores" if network.encoder is None else "token_log_probs"
        kind = library.Generator if network.encoder is None else library.Translator
        self._engine = kind(str(folder), device="cpu", compute_type="float32", inter_threads=1, intra_threads=1)
        self._library = library

    def read(self, case: Case) -> np.ndarray:
        if case.source is None:
            ids = self._library.StorageView.from_array(np.array([case.ids], dtype=np.int32))
            lengths = self._library.StorageView.from_array(np.array([len(case.ids)], dtype=np.int32))
            scores: np.ndarray = np.array(self._engine.forward_batch(ids, lengths))[0]
            return scores
        (found,) = self._engine.score_batch([self._names(case.source)], [self._names(case.ids[1:])])
        return np.array(found.log_probs[: len(case.ids) - 1])

    def write(self, case: Case, count: int) -> list[int]:
        limits = {"sampling_topk": 1, "beam_size": 1, "end_token": self._ends}
        if case.source is None:
            (made,) = self._engine.generate_batch(
                [self._names(case.beginning)], max_length=count, include_prompt_in_result=False, **limits
            )
            return [int(i) for i in made.sequences_ids[0]]
        (found,) = self._engine.translate_batch(
            [self._names(case.source)], max_decoding_length=count, use_vmap=False, **limits
        )
        ids = {name: i for i, name in reversed(list(enumerate(self._tokenizer.vocabulary)))}
        return [ids[name] for name in found.hypotheses[0]]

    def _names(self, ids: list[int]) -> list[str]:
        return [self._tokenizer.vocabulary[i] for i in ids]

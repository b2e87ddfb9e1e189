"""Greedy and beam search give the tokens of transformers on 100 prompts of mixed lengths: GPT-2, Llama, T5.

In float64, so that two beams which are equal but for rounding are not met (transformers still sums log-probabilities in
float32, where a sum of 33 is known to 4e-6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from yuyan.generate import Beam, Done, Engine, Greedy, PlainForward, Request, Token
from yuyan.hub import read_model
from yuyan.models.network import NetworkModule
from yuyan.tokens import Tokenizer, train_tokenizer
from yuyan.tokens.train import CharConfig

hf = pytest.importorskip("transformers")
hf.logging.set_verbosity_error()

PROMPTS, NEW, VOCABULARY, PAD = 100, 12, 40, 1
ENDS = [3, 7, 11, 17, 20, 22, 25, 28, 31, 34, 37]  # many, as random models have few favourites
SIZES: dict[str, Any] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "llama": {
        "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64,
    },
    "t5": {
        "d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
    },
}  # fmt: skip
SEEDS = {"gpt2": 4, "llama": 3, "t5": 4}  # models that end some texts early, and not all
CLASSES = {
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config),
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig),
    "t5": (hf.T5ForConditionalGeneration, hf.T5Config),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer(["abcdefghijklmnopqrstuvwxyz0123456789.,;:"], CharConfig(vocab_size=VOCABULARY))
    assert len(made) == VOCABULARY
    return made


@pytest.fixture(scope="module", params=sorted(SIZES))
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, NetworkModule]:
    name: str = request.param
    make, config = CLASSES[name]
    special = {"eos_token_id": ENDS, "pad_token_id": PAD, "bos_token_id": None}
    torch.manual_seed(SEEDS[name])
    theirs = make(config(vocab_size=VOCABULARY, **special, **SIZES[name])).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp(name)
    theirs.save_pretrained(folder)
    theirs.generation_config = hf.GenerationConfig(**special, **({"decoder_start_token_id": 0} if name == "t5" else {}))
    return name, theirs.double(), read_model(folder).double()


def prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 24, (PROMPTS,), generator=draw).tolist()
    return [torch.randint(8, VOCABULARY, (length,), generator=draw).tolist() for length in lengths]


def theirs_write(name: str, model: Any, texts: list[list[int]], settings: dict[str, Any]) -> list[list[list[int]]]:
    """Alone, each prompt: padding of a batch is not what is compared here."""
    found = []
    for text in texts:
        out: Tensor = model.generate(
            input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text), dtype=torch.long),
            max_new_tokens=NEW, do_sample=False, **settings,
        )  # fmt: skip
        new = out[:, 1 if name == "t5" else len(text) :].tolist()
        found.append([row[: next((at for at, token in enumerate(row) if token in ENDS), NEW)] for row in new])
    return found


def ours_write(
    name: str, model: NetworkModule, tokenizer: Tokenizer, texts: list[list[int]], settings: Greedy | Beam
) -> list[list[list[int]]]:
    """All in one batch."""
    engine = Engine(PlainForward(model), tokenizer, ends=frozenset(ENDS), context=64)
    for text in texts:
        engine.add(Request([0], settings, source=text) if name == "t5" else Request(text, settings))
    count = settings.n if isinstance(settings, Beam) else 1
    found: list[list[list[int]]] = [[[] for _ in range(count)] for _ in texts]
    finished = 0
    for event in engine.run():
        if isinstance(event, Token):
            found[event.request][event.sample].append(event.id)
        finished += isinstance(event, Done)
    assert finished == count * len(texts)
    return found


GREEDY: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition penalty": {"repetition_penalty": 1.7},
    "n-grams": {"no_repeat_ngram": 2},
    "shortest": {"min_tokens": 9},
}
BEAM: dict[str, dict[str, Any]] = {
    "four": {"beams": 4, "n": 4},
    "long": {"beams": 3, "n": 2, "length_penalty": 2.0},
    "short": {"beams": 3, "length_penalty": -0.5},
    "early": {"beams": 5, "n": 3, "early_stopping": True},
    "never": {"beams": 2, "early_stopping": "never", "length_penalty": 0.6},
    "rules": {"beams": 3, "n": 3, "no_repeat_ngram": 2, "repetition_penalty": 1.3},
}
NAMES = {"beams": "num_beams", "n": "num_return_sequences", "no_repeat_ngram": "no_repeat_ngram_size", "min_tokens": "min_new_tokens"}  # fmt: skip


def translated(settings: dict[str, Any]) -> dict[str, Any]:
    return {NAMES.get(key, key): value for key, value in settings.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", GREEDY)
def test_greedy(case: str, models: tuple[str, Any, NetworkModule], tokenizer: Tokenizer) -> None:
    name, theirs, ours = models
    texts, settings = prompts() if case == "plain" else prompts()[:25], GREEDY[case]
    expected = theirs_write(name, theirs, texts, translated(settings))
    assert ours_write(name, ours, tokenizer, texts, Greedy(max_tokens=NEW, **settings)) == expected
    assert len({len(row) for rows in expected for row in rows}) > 1, "some end early"


@pytest.mark.slow
@pytest.mark.parametrize("case", BEAM)
def test_beam(case: str, models: tuple[str, Any, NetworkModule], tokenizer: Tokenizer) -> None:
    name, theirs, ours = models
    texts, settings = prompts() if case == "four" else prompts()[:25], BEAM[case]
    expected = theirs_write(name, theirs, texts, translated(settings))
    assert ours_write(name, ours, tokenizer, texts, Beam(max_tokens=NEW, **settings)) == expected
    assert len({len(row) for rows in expected for row in rows}) > 1, "some end early"


def test_a_few_of_each(models: tuple[str, Any, NetworkModule], tokenizer: Tokenizer) -> None:
    name, theirs, ours = models
    for settings in (Greedy(max_tokens=NEW), Beam(max_tokens=NEW, beams=4, n=4)):
        values = BEAM["four"] if isinstance(settings, Beam) else {}
        expected = theirs_write(name, theirs, prompts()[:5], translated(values))
        assert ours_write(name, ours, tokenizer, prompts()[:5], settings) == expected

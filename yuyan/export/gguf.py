"""GGUF, the format of llama.cpp: one file with weights, sizes and tokenizer; checked with llama.cpp itself.

Names and keys are those of llama.cpp's `gguf` package. Llama's queries and keys are stored with the two halves of each
head woven into each other, as llama.cpp turns neighbouring numbers there; Qwen's are stored as they are. The tokenizer
is in the file, and must be a byte-level BPE. llama.cpp knows a fixed list of rules by which text is cut before that; ours are not
among them, so the same text may be cut into other tokens: how many texts are cut alike is measured too.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yuyan.export.parity import Case, Gives, written_by_reading
from yuyan.export.runtime import package
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.head import LanguageModelHead
from yuyan.nn.position import Rotary
from yuyan.nn.stack import Stack
from yuyan.tasks.language_model import LanguageModel
from yuyan.tokens import Tokenizer
from yuyan.tokens.tokenizer import FILE as TOKENIZER_FILE
from yuyan.tokens.tokenizer import TEMPLATE

FILE = "model.gguf"
LIKELIEST = 1000  # tokens whose probability is asked for at each place
FAMILIES = ("gpt2", "llama", "qwen3", "qwen2")
NORMAL, CONTROL = 1, 3  # kinds of tokens
_PARTS = {
    "attention.norm": "attn_norm", "ffn.norm": "ffn_norm",
    "attention.inner.q_proj": "attn_q", "attention.inner.k_proj": "attn_k", "attention.inner.v_proj": "attn_v",
    "attention.inner.o_proj": "attn_output", "attention.inner.q_norm": "attn_q_norm",
    "attention.inner.k_norm": "attn_k_norm", "ffn.inner.gate_proj": "ffn_gate", "ffn.inner.up_proj": "ffn_up",
    "ffn.inner.down_proj": "ffn_down",
}  # fmt: skip
_OUTSIDE = {
    "embedding.token": "token_embd", "decoder.position.table": "position_embd", "decoder.norm": "output_norm",
    "head.output": "output",
}  # fmt: skip


def refusal(network: Network, family: str | None, tokenizer: Tokenizer) -> str | None:
    """Why llama.cpp cannot hold this model; None if it can."""
    stack = network.decoder
    if family not in FAMILIES or not isinstance(stack, Stack) or not isinstance(network.head, LanguageModelHead):
        return f"carries decoders of the families {', '.join(FAMILIES)}; this one is {family or 'of no family'}"
    if stack.local is not None:
        return "windows of attention are not carried"
    if isinstance(stack.position, Rotary) and stack.position.scaling is not None:
        return "scaled rotary positions are not carried"
    if stack.ffn.activation != ("gelu_tanh" if family == "gpt2" else "silu"):
        return f"the activation {stack.ffn.activation} is not carried"
    if json.loads(tokenizer.content)["model"]["type"] != "BPE" or tokenizer.kind != "bpe":
        return f"carries byte-level BPE tokenizers; this one is of kind {tokenizer.kind} (see {TOKENIZER_FILE})"
    return None


def write_gguf(model: LanguageModel, folder: Path, family: str) -> None:
    """Write `model.gguf` with numbers in float32."""
    library, network = package("gguf", "gguf"), model.network
    assert isinstance(network, NetworkModule)
    writer = library.GGUFWriter(folder / FILE, family)
    _sizes(writer, network.config.filled(), model.context, family)
    _tokenizer(writer, model.tokenizer, network.config.vocab_size)
    for name, tensor in _tensors(network, family).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _sizes(writer: Any, network: Network, context: int | None, family: str) -> None:
    stack = network.decoder
    assert isinstance(stack, Stack) and stack.heads.head_size and stack.heads.key_value_heads
    learned = None if isinstance(stack.position, Rotary) else stack.position.max_position_embeddings  # type: ignore[union-attr]
    writer.add_context_length(learned or context or 2048)
    writer.add_embedding_length(network.hidden_size)
    writer.add_block_count(stack.num_layers)
    writer.add_feed_forward_length(stack.ffn.intermediate_size)
    writer.add_head_count(stack.heads.count)
    writer.add_file_type(0)
    if family == "gpt2":
        writer.add_layer_norm_eps(stack.norm.eps)
        return
    assert isinstance(stack.position, Rotary)
    writer.add_head_count_kv(stack.heads.key_value_heads)
    writer.add_key_length(stack.heads.head_size)
    writer.add_value_length(stack.heads.head_size)
    writer.add_layer_norm_rms_eps(stack.norm.eps)
    writer.add_rope_freq_base(stack.position.theta)
    writer.add_rope_dimension_count(stack.heads.head_size)
    writer.add_vocab_size(network.vocab_size)


def _tokenizer(writer: Any, tokenizer: Tokenizer, vocab_size: int) -> None:
    structure, special = json.loads(tokenizer.content), tokenizer.special
    spare = [f"[PAD{i}]" for i in range(len(tokenizer), vocab_size)]
    control = special.control
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokenizer.vocabulary, *spare])
    kinds = [CONTROL if i in control else NORMAL for i in range(len(tokenizer))]
    writer.add_token_types([*kinds, *(CONTROL for _ in spare)])
    merges = structure["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if (token := {"bos": special.bos, "eos": special.eos, "pad": special.pad}[role]) is not None:
            add(token)
    writer.add_add_bos_token(bool(tokenizer.begin))
    if isinstance(template := tokenizer.settings.get(TEMPLATE), str):
        writer.add_chat_template(template)


def _tensors(network: NetworkModule, family: str) -> dict[str, Tensor]:
    """Our tensors under their names."""
    stack = network.config.filled().decoder
    assert isinstance(stack, Stack) and stack.heads.key_value_heads
    heads = {"attn_q": stack.heads.count, "attn_k": stack.heads.key_value_heads}
    found: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        part, ending = name.rsplit(".", 1)
        if part in _OUTSIDE:
            found[f"{_OUTSIDE[part]}.{ending}"] = tensor
            continue
        _, _, layer, inside = part.split(".", 3)
        theirs = _PARTS[inside]
        if family == "llama" and theirs in heads:
            tensor = woven(tensor, heads[theirs])
        found[f"blk.{layer}.{theirs}.{ending}"] = tensor
    if family == "gpt2":
        _join(found, stack.num_layers)
        if "output.weight" not in found:
            found["output.weight"] = found["token_embd.weight"]
    return found


def woven(tensor: Tensor, heads: int) -> Tensor:
    """The rows of each head, halves woven into each other: 0, h/2, 1, h/2 + 1, ..."""
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


def _join(found: dict[str, Tensor], layers: int) -> None:
    """GPT-2 has one projection for queries, keys and values."""
    for layer in range(layers):
        for ending in ("weight", "bias"):
            parts = [found.pop(f"blk.{layer}.attn_{a}.{ending}") for a in "qkv"]
            found[f"blk.{layer}.attn_qkv.{ending}"] = torch.cat(parts)


class LlamaCpp:
    """llama.cpp, through the bindings `xllamacpp`, on one thread, with a cache in float32."""

    gives: Gives = "log_probs"

    def __init__(self, model: LanguageModel, folder: Path):
        library = package("xllamacpp", "xllamacpp")
        settings = library.CommonParams()
        settings.model.path = str(folder / FILE)
        settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = 128, 1, False, -1
        settings.cache_type_k = settings.cache_type_v = library.ggml_type.GGML_TYPE_F32
        settings.cpuparams.n_threads = 1
        self._server = library.Server(settings)
        self.name = f"llama.cpp (xllamacpp {importlib.metadata.version('xllamacpp')})"
        self._plain = next(i for i, piece in enumerate(model.tokenizer.pieces.later) if piece.isalnum())
        self._size, self._ends = len(model.tokenizer), model.ends
        self._bos = bool(model.tokenizer.begin)

    def read(self, case: Case) -> np.ndarray:
        """(T, V) log-probabilities of the likeliest tokens at each place, NaN for the others."""
        return np.stack([self._next(case.ids[: place + 1]) for place in range(len(case.ids))])

    def _next(self, ids: list[int]) -> np.ndarray:
        found = np.full(self._size, np.nan, dtype=np.float32)
        for choice in self._ask(ids, 1, min(self._size, LIKELIEST))[0]["top_logprobs"]:
            if choice["id"] < self._size:
                found[choice["id"]] = choice["logprob"]
        return found

    def write(self, case: Case, count: int) -> list[int]:
        return written_by_reading(self, case, count, self._ends)

    def _ask(self, ids: list[int], count: int, probabilities: int) -> list[dict[str, Any]]:
        answer = self._server.handle_completions(
            {
                "prompt": ids, "n_predict": count, "n_probs": probabilities, "temperature": 0.0, "cache_prompt": True,  # a text is read once, not again for each of its tokens
                "logit_bias": [[self._plain, 1000.0]],  # the answer is silent behind half a character or an end
            }
        )  # fmt: skip
        return list(answer["choices"][0]["logprobs"]["content"])

    def count(self, text: str) -> int:
        """Into how many tokens llama.cpp cuts a text."""
        answer = self._server.handle_completions({"prompt": text, "n_predict": 1})
        return int(answer["usage"]["prompt_tokens"]) - self._bos


def counted_alike(runtime: LlamaCpp, tokenizer: Tokenizer, cases: list[Case]) -> tuple[int, int]:
    """How many of the texts both cut into as many tokens."""
    texts = [text for case in cases if (text := tokenizer.decode(case.ids).replace("\ufffd", ""))]
    return sum(runtime.count(text) == len(tokenizer.encode(text)) for text in texts), len(texts)

"""Qwen2 and Qwen3 (dense): Llama's block with biases on queries, keys and values, or norms on queries and keys.

Both may look through a window in their later layers (Yang 2024, 2025).
"""

from __future__ import annotations

from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.llama import llama_keys, llama_like, llama_table
from yuyan.hub.published import Published
from yuyan.models.network import Network
from yuyan.nn.mask import Causal, Window
from yuyan.nn.stack import Local, Stack


def _window(c: Published) -> Local | None:
    used, size = c.take("use_sliding_window", bool, False), c.maybe("sliding_window", int)
    count, first = c.take("num_hidden_layers", int), c.take("max_window_layers", int, 28)
    kinds = c.maybe("layer_types", list)
    if not used or size is None:
        if kinds and set(kinds) != {"full_attention"}:
            raise c.wrong("layer_types", "a window is asked for, but use_sliding_window is not set")
        return None
    kinds = kinds or ["full_attention" if i < first else "sliding_attention" for i in range(count)]
    if len(kinds) != count or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise c.wrong("layer_types", f"expected {count} times full_attention or sliding_attention; got {kinds}")
    layers = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    return Local(layers=layers, mask=Window(size=size)) if layers else None


def _window_keys(stack: Stack) -> dict[str, Any]:
    local = stack.local
    size = local.mask.size if local and isinstance(local.mask, Window) else None
    near = frozenset(local.layers if local else ())
    kinds = ["sliding_attention" if i in near else "full_attention" for i in range(stack.num_layers)]
    return {
        "use_sliding_window": size is not None,
        "sliding_window": size,
        "max_window_layers": min(near, default=stack.num_layers),
        "layer_types": kinds,
    }


def read_qwen2(c: Published) -> Network:
    return llama_like(c, {"bias": True, "output_bias": False}, Causal(), _window(c))


def read_qwen3(c: Published) -> Network:
    return llama_like(c, {"bias": c.take("attention_bias", bool, False), "qk_norm": True}, Causal(), _window(c))


def write_qwen2(network: Network) -> dict[str, Any] | None:
    keys, stack = llama_keys(network, "Qwen2"), network.decoder
    return None if keys is None or not isinstance(stack, Stack) else keys | _window_keys(stack)


def write_qwen3(network: Network) -> dict[str, Any] | None:
    keys, stack = llama_keys(network, "Qwen3"), network.decoder
    if keys is None or not isinstance(stack, Stack):
        return None
    return keys | _window_keys(stack) | {"attention_bias": stack.heads.bias}


QWEN2 = Family("qwen2", read_qwen2, write_qwen2, llama_table, "model.")
QWEN3 = Family("qwen3", read_qwen3, write_qwen3, llama_table, "model.")

"""What a network refuses, and what its config refuses: one line that names the value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from yuyan.config import build
from yuyan.errors import ConfigError, InputError
from yuyan.models.cost import flops_per_pair, flops_per_token, parameter_count
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.cache import Cache

FFN = {"kind": "mlp", "intermediate_size": 16}
STACK: dict[str, Any] = {"kind": "stack", "num_layers": 1, "heads": {"count": 2}, "ffn": FFN}
READER = STACK | {"mask": {"kind": "full"}}
LEARNED = STACK | {"position": {"kind": "learned", "max_position_embeddings": 6}}
SIZES: dict[str, Any] = {"vocab_size": 11, "hidden_size": 8}


def network(**parts: Any) -> NetworkModule:
    return build(Network, SIZES | parts).build().eval()


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "an encoder, a decoder or both"),
        ({"decoder": READER}, "must not see what comes later"),
        ({"decoder": STACK | {"cross": True}}, "decoder.cross"),
        ({"encoder": READER, "decoder": STACK}, "decoder.cross"),
        ({"encoder": READER | {"cross": True}, "decoder": STACK | {"cross": True}}, "encoder.cross"),
        ({"decoder": STACK | {"heads": {"count": 3}}}, "cannot be divided among 3 heads"),
        ({"decoder": STACK | {"heads": {"count": 4, "key_value_heads": 3}}}, "key-value heads"),
        ({"decoder": {"kind": "recurrent", "num_layers": 1, "bidirectional": True}}, "must not see"),
        ({"encoder": {"kind": "recurrent", "num_layers": 1, "bidirectional": True}, "hidden_size": 9}, "halved"),
        ({"decoder": STACK | {"position": {"kind": "relative_bias"}}}, "bidirectional"),
        ({"decoder": STACK | {"local": {"layers": [1], "mask": {"kind": "causal"}}}}, "local.layers"),
        ({"decoder": STACK | {"position": {"kind": "rotery"}}}, "did you mean 'rotary'"),
        ({"decoder": STACK | {"ffn": FFN | {"intermediate_sise": 3}}}, "did you mean 'intermediate_size'"),
        ({"decoder": STACK | {"num_layers": 0}}, "num_layers"),
        ({"decoder": STACK | {"dropout": 1.0}}, "dropout"),
        ({"decoder": STACK | {"heads": {"count": 8}}}, "odd"),
    ],
)
def test_a_config_that_makes_no_network_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(Network, SIZES | parts)


@pytest.mark.parametrize("bad", [-1, 11, 2**40])
def test_an_id_out_of_range_is_named(bad: int) -> None:
    with pytest.raises(InputError, match=f"{bad} is not a token; the vocabulary has 11"):
        network(decoder=STACK).decode(torch.tensor([[0, bad, 3]]))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (3,), (1, 2, 3)])
def test_a_batch_of_nothing_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="input_ids"):
        network(decoder=STACK).decode(ids(*shape))


@pytest.mark.parametrize("given", [{}, {"attention_mask": torch.ones(2, 7)}, {"position_ids": torch.arange(7)[None]}])
def test_a_text_longer_than_the_positions_is_refused(given: dict[str, Tensor]) -> None:
    model = network(decoder=LEARNED)
    with pytest.raises(InputError, match="7 tokens, but the model has positions for 6"):
        model.decode(ids(2, 7), **given)
    cache = Cache()
    model.decode(ids(2, 6), cache=cache)
    with pytest.raises(InputError, match="7 tokens"):
        model.decode(ids(2, 1), cache=cache)
    padded = torch.ones(2, 9)
    padded[:, :3] = 0
    model.decode(ids(2, 9), padded)  # six tokens and padding


def test_methods_that_a_network_does_not_have() -> None:
    decoder, encoder = network(decoder=STACK), network(encoder=READER, head=None)
    with pytest.raises(InputError, match="no encoder"):
        decoder.encode(ids(1, 2))
    with pytest.raises(InputError, match="no decoder"):
        encoder.decode(ids(1, 2))
    with pytest.raises(InputError, match="no head"):
        encoder.score(encoder.encode(ids(1, 2)))
    with pytest.raises(InputError, match="no labels"):
        decoder.classify(ids(1, 2))
    with pytest.raises(InputError, match="segments"):
        encoder.encode(ids(1, 2), token_type_ids=ids(1, 2))
    with pytest.raises(InputError, match="memory"):
        decoder.decode(ids(1, 2), memory=torch.zeros(1, 2, 8))
    with pytest.raises(InputError, match="memory"):
        network(encoder=READER, decoder=STACK | {"cross": True}).decode(ids(1, 2))


@pytest.mark.parametrize(
    ("start", "sides", "said"),
    [
        (None, {"encoder": READER, "decoder": STACK | {"cross": True}}, "labels need a token"),
        (11, {"encoder": READER, "decoder": STACK | {"cross": True}}, "labels need a token"),
        (1, {"encoder": READER}, "only for a network with an encoder and a decoder"),
        (1, {"decoder": STACK}, "only for a network with an encoder and a decoder"),
    ],
)
def test_what_a_decoder_of_labels_begins_with(start: int | None, sides: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        network(**sides, head={"kind": "labels", "labels": ["a"], "start": start})


def test_with_two_sides_the_decoder_reads_the_text_moved_by_one() -> None:
    head = {"kind": "labels", "labels": ["a", "b"], "pool": "last", "start": 2}
    model = network(encoder=READER, decoder=STACK | {"cross": True}, head=head)
    text, mask = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    moved = torch.tensor([[2, 5, 6, 7], [2, 5, 6, 7]])
    hidden = model.decode(moved, memory=model.encode(text, mask), memory_mask=mask)
    expected = model.score(torch.stack((hidden[0, 3], hidden[1, 2])))
    torch.testing.assert_close(model.classify(text, mask), expected)


@pytest.mark.parametrize(
    ("segments", "said"),
    [(torch.tensor([[0, 2]]), "2 is no segment"), (torch.tensor([[-1, 0]]), "-1 is no"), (ids(1, 3), "does not fit")],
)
def test_segments_that_a_network_does_not_have(segments: Tensor, said: str) -> None:
    model = network(encoder=READER, embedding={"type_vocab_size": 2}, head=None)
    model.encode(ids(1, 2), token_type_ids=torch.tensor([[0, 1]]))
    with pytest.raises(InputError, match=said):
        model.encode(ids(1, 2), token_type_ids=segments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_ids_that_are_no_whole_numbers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        network(decoder=STACK).decode(ids(1, 2).to(dtype))


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = network(decoder=STACK)
    with pytest.raises(InputError, match="attention_mask"):
        model.decode(ids(2, 3), torch.ones(2, 4))
    with pytest.raises(InputError, match="document_ids"):
        model.decode(ids(2, 3), cache=Cache(), document_ids=ids(2, 3))
    with pytest.raises(InputError, match="document_ids"):
        network(decoder={"kind": "recurrent", "num_layers": 1}).decode(
            ids(2, 3), torch.ones(2, 3), document_ids=ids(2, 3)
        )
    cache = Cache()
    model.decode(ids(2, 3), torch.ones(2, 3), cache=cache)
    with pytest.raises(InputError, match="3 rows, but the cache was filled with 2"):
        model.decode(ids(3, 1), cache=cache)


def test_a_cache_of_another_number_of_rows_is_refused_without_padding_too() -> None:
    for side in (STACK, {"kind": "recurrent", "num_layers": 1}):
        model, cache = network(decoder=side), Cache()
        model.decode(ids(2, 3), cache=cache)
        with pytest.raises(InputError, match="rows"):
            model.decode(ids(3, 1), cache=cache)


def test_positions_that_the_caller_chooses_are_used() -> None:
    model = network(decoder=STACK)
    tokens = torch.arange(4)[None]
    given = torch.tensor([[0, 1, 5, 900]])
    far = model.decode(tokens, position_ids=given)
    torch.testing.assert_close(far[:, :2], model.decode(tokens)[:, :2])
    assert float((far - model.decode(tokens))[0, 2:].abs().max().detach()) > 0
    shifted = model.decode(tokens, position_ids=given + 3)  # rotary positions are relative
    torch.testing.assert_close(shifted, far, atol=1e-4, rtol=1e-4)


def test_the_fast_kernel_gets_no_mask_when_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.functional as F

    seen: list[tuple[bool, bool]] = []
    real = F.scaled_dot_product_attention

    def watch(*args: Any, **settings: Any) -> Tensor:
        seen.append((settings.get("attn_mask") is not None, bool(settings.get("is_causal"))))
        return real(*args, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    model = network(decoder=STACK)
    model.decode(ids(2, 5))
    cache = Cache()
    model.decode(ids(2, 5), cache=cache)
    model.decode(ids(2, 1), cache=cache)
    model.decode(ids(2, 2), cache=cache)
    network(encoder=READER).encode(ids(2, 5))
    model.decode(ids(2, 5), torch.tensor([[1] * 5, [0, 1, 1, 1, 1]]))
    plain, full, masked = (False, True), (False, False), (True, False)
    assert seen == [plain, plain, full, masked, full, masked]


def test_sizes_without_building() -> None:
    """GPT-2 small and Llama 2 7B, whose sizes are published: 124,439,808 and 6,738,415,616 parameters."""
    norm, bias = {"kind": "layer_norm"}, {"count": 12, "bias": True}
    position = {"kind": "learned", "max_position_embeddings": 1024}
    stack = {"kind": "stack", "num_layers": 12, "heads": bias, "norm": norm, "position": position}
    gpt2 = {"vocab_size": 50257, "hidden_size": 768, "decoder": stack | {"ffn": FFN | {"intermediate_size": 3072}}}
    assert parameter_count(build(Network, gpt2)) == 124_439_808
    ffn = {"kind": "gated", "intermediate_size": 11008}
    stack = {"kind": "stack", "num_layers": 32, "heads": {"count": 32}, "ffn": ffn}
    head = {"kind": "language_model", "tied": False}
    llama = build(Network, {"vocab_size": 32000, "hidden_size": 4096, "decoder": stack, "head": head})
    assert parameter_count(llama) == 6_738_415_616
    assert 0.98 < flops_per_token(llama, 1) / (2 * 6_738_415_616) < 1.0  # the embedding is looked up
    attention = flops_per_token(llama, 4096) - flops_per_token(llama, 1)
    assert attention == 4 * 32 * 4096 * (2048 - 1)


def test_operations_of_two_sides() -> None:
    """Closed formulas against the products that a pass makes; attention is counted apart, as its kernel is one operation."""
    ffn = FFN | {"intermediate_size": 128}
    parts = {"encoder": READER | {"ffn": ffn}, "decoder": STACK | {"cross": True, "ffn": ffn, "num_layers": 2}}
    model = network(**parts, hidden_size=64)
    counted = 0

    def count(layer: torch.nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, torch.nn.Linear)
        counted += 2 * out.numel() * layer.in_features

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(count)
            if name.endswith("down_proj"):  # and the one before it, which is called with its activation
                module.register_forward_hook(count)
    model.decode(ids(1, 12), memory=model.encode(ids(1, 40)))
    attention = 4 * 64 * (40 * 40 + 2 * (12 * 13 // 2 + 12 * 40))
    assert flops_per_pair(model.config, 40, 12) == pytest.approx(
        counted + attention, rel=0.02
    )  # biases are counted too
    assert flops_per_pair(model.config, 80, 12) > 1.5 * flops_per_pair(model.config, 40, 12)
